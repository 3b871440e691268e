//! The trust bundle: what verifies the SVIDs of a trust domain ([SPIFFE Trust Domain and Bundle] §4).
//!
//! [SPIFFE Trust Domain and Bundle]: https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Trust_Domain_and_Bundle.md

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

/// How often others should look for a newer bundle, in seconds.
const REFRESH: u64 = 900;
/// Most certificates that [`sequence`] can tell apart.
const COUNTED: i64 = 15;

/// The certificates of the authorities that a trust domain has now.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    certificates: Vec<Vec<u8>>,
    pem: String,
    document: Value,
}

/// One authority's part of a bundle.
pub(super) struct Root<'a> {
    pub(super) certificate: &'a [u8],
    pub(super) pem: &'a str,
    pub(super) jwk: &'a Value,
}

impl Bundle {
    /// Of these authorities, the newest of which was made at some moment.
    pub(super) fn of<'a>(newest: Timestamp, roots: impl Iterator<Item = Root<'a>>) -> Self {
        let mut bundle = Self {
            certificates: Vec::new(),
            pem: String::new(),
            document: Value::Null,
        };
        let mut keys = Vec::new();
        for root in roots {
            let mut key = root.jwk.clone();
            key["use"] = json!("x509-svid");
            key["x5c"] = json!([STANDARD.encode(root.certificate)]);
            keys.push(key);
            bundle.certificates.push(root.certificate.to_vec());
            bundle.pem.push_str(root.pem);
        }
        bundle.document = json!({
            "keys": keys,
            "spiffe_sequence": sequence(newest, bundle.certificates.len()),
            "spiffe_refresh_hint": REFRESH,
        });
        bundle
    }

    /// The certificates, in DER.
    #[must_use]
    pub fn certificates(&self) -> &[Vec<u8>] {
        &self.certificates
    }

    /// The certificates, in PEM, one after the other.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The document that others fetch: a JWK set (§4.2).
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }
}

/// A number that grows with each change: authorities come one after the other, and between two of them only
/// go.
fn sequence(newest: Timestamp, count: usize) -> i64 {
    let fewer = COUNTED - i64::try_from(count).unwrap_or(COUNTED).min(COUNTED);
    (newest.as_second() << 4) | fewer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_grows_when_authorities_come_and_when_they_go() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let all = [
            sequence(at(100), 1),
            sequence(at(200), 2),
            sequence(at(300), 3),
            sequence(at(300), 2),
            sequence(at(300), 1),
            sequence(at(301), 2),
        ];
        assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
    }
}
