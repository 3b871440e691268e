//! The one reader of signed texts: the compact form of RFC 7515 §3.1, and only the one spelling of
//! it that a careful signer writes.

use crate::decode_base64url;
use crate::members::{BadMembers, Members};
use crate::public_key::PublicKey;

/// Header parameters that name keys or change how the text is read. Whoever sends them hopes that
/// somebody follows them (RFC 7515 §4.1.2, §4.1.3, §4.1.5, §4.1.6, §4.1.11, RFC 7797 §3).
const REFUSED: [&str; 5] = ["crit", "b64", "jku", "x5u", "x5c"];

/// Why a text is no acceptable signed text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than allowed.
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    /// Not three parts of canonical base64url, or the signature does not have 64 bytes.
    #[error("it is not three parts in base64url, the last one of 64 bytes")]
    NotCompact,
    /// The header or the claims are no acceptable JSON.
    #[error("{part}: {why}")]
    NotJson {
        /// `the header` or `the claims`.
        part: &'static str,
        /// What is wrong with them.
        why: String,
    },
    /// The header has a parameter that is never followed.
    #[error("the header parameter `{0}` is not accepted")]
    RefusedParameter(&'static str),
}

impl Malformed {
    pub(crate) fn header(why: impl std::fmt::Display) -> Self {
        Self::NotJson {
            part: "the header",
            why: why.to_string(),
        }
    }

    pub(crate) fn claims(why: impl std::fmt::Display) -> Self {
        Self::NotJson {
            part: "the claims",
            why: why.to_string(),
        }
    }
}

/// The three parts of a text of at most `N` bytes, decoded but not believed yet.
pub(crate) struct Compact<'a, const N: usize> {
    /// The header as it was written.
    pub(crate) header_text: &'a str,
    signed: &'a str,
    claims: [u8; N],
    claims_length: usize,
    signature: [u8; 64],
}

impl<'a, const N: usize> Compact<'a, N> {
    /// Takes a text apart.
    ///
    /// # Errors
    /// [`Malformed`]
    pub(crate) fn read(text: &'a str) -> Result<Self, Malformed> {
        if text.len() > N {
            return Err(Malformed::TooLong(N));
        }
        let (signed, signature_text) = text.rsplit_once('.').ok_or(Malformed::NotCompact)?;
        let (header_text, claims_text) = signed.split_once('.').ok_or(Malformed::NotCompact)?;
        let mut signature = [0; 64];
        if decode_base64url(signature_text, &mut signature) != Some(64) {
            return Err(Malformed::NotCompact);
        }
        let mut claims = [0; N];
        let claims_length =
            decode_base64url(claims_text, &mut claims).ok_or(Malformed::NotCompact)?;
        Ok(Self {
            header_text,
            signed,
            claims,
            claims_length,
            signature,
        })
    }

    /// The claims.
    ///
    /// # Errors
    /// [`Malformed::NotJson`]
    pub(crate) fn claims(&self) -> Result<Members<'_>, Malformed> {
        Members::read(self.claims_bytes()).map_err(Malformed::claims)
    }

    /// The claims as they were written.
    pub(crate) fn claims_bytes(&self) -> &[u8] {
        &self.claims[..self.claims_length]
    }

    /// The signature.
    pub(crate) fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// Whether the key made the signature.
    pub(crate) fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.verifies(self.signed.as_bytes(), &self.signature)
    }
}

/// A header, decoded.
pub(crate) struct Header<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Header<N> {
    /// Decodes a header.
    ///
    /// # Errors
    /// [`Malformed`]
    pub(crate) fn decode(text: &str) -> Result<Self, Malformed> {
        let mut bytes = [0; N];
        let length = decode_base64url(text, &mut bytes).ok_or(Malformed::NotCompact)?;
        Ok(Self { bytes, length })
    }

    /// Its parameters; none of them is one that must not be followed.
    ///
    /// # Errors
    /// [`Malformed`]
    pub(crate) fn parameters(&self) -> Result<Members<'_>, Malformed> {
        let members = Members::read(&self.bytes[..self.length]).map_err(Malformed::header)?;
        match REFUSED.into_iter().find(|name| members.has(name)) {
            Some(name) => Err(Malformed::RefusedParameter(name)),
            None => Ok(members),
        }
    }
}

/// A required claim that is a short text and not empty.
pub(crate) fn bounded<'a>(
    claims: &Members<'a>,
    name: &'static str,
    limit: usize,
) -> Result<std::borrow::Cow<'a, str>, Malformed> {
    let text = claims.required(name).map_err(Malformed::claims)?;
    if text.is_empty() || text.len() > limit {
        return Err(Malformed::claims(format_args!(
            "`{name}` must have 1 to {limit} bytes"
        )));
    }
    Ok(text)
}

impl From<BadMembers> for Malformed {
    fn from(bad: BadMembers) -> Self {
        Self::claims(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn signature() -> String {
        crate::base64url(&[1; 64])
    }

    #[test]
    fn only_the_compact_form_is_read() {
        let good = format!("e30.e30.{}", signature());
        assert!(Compact::<512>::read(&good).is_ok());
        for bad in [
            String::new(),
            "e30.e30".to_owned(),
            "e30.e30.".to_owned(),
            format!("e30.{}", signature()),
            format!("e30.e30.e30.{}", signature()),
            format!("e30.e30.{}=", signature()),
            format!("e30.e30=.{}", signature()),
            format!("e30.e31.{}", signature()),
            format!("e30.e3 0.{}", signature()),
            format!("e30.e30.{}AA", signature()),
            format!("e30.e30.{}", crate::base64url(&[1; 63])),
            format!("{{\"payload\":\"e30\",\"signature\":\"{}\"}}", signature()),
        ] {
            assert!(
                matches!(Compact::<512>::read(&bad), Err(Malformed::NotCompact)),
                "{bad}"
            );
        }
        let long = format!("e30.{}.{}", "A".repeat(512), signature());
        assert!(matches!(
            Compact::<512>::read(&long),
            Err(Malformed::TooLong(512))
        ));
    }

    #[test]
    fn headers_that_point_elsewhere_are_refused() {
        for name in REFUSED {
            let text = crate::base64url(format!("{{\"alg\":\"ES256\",\"{name}\":[]}}").as_bytes());
            let header = Header::<256>::decode(&text).unwrap();
            assert_eq!(
                header.parameters().err(),
                Some(Malformed::RefusedParameter(name))
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[A-Za-z0-9_.=-]{0,300}") {
            if let Ok(compact) = Compact::<256>::read(&text) {
                let _ = compact.claims();
                let _ = Header::<256>::decode(compact.header_text).map(|h| h.parameters().is_ok());
            }
        }
    }
}
