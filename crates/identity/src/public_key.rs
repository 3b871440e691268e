//! Public keys as JWKs (RFC 7517): P-256 (RFC 7518 §6.2) and Ed25519 (RFC 8037 §2).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use serde_json::{Value, json};

use crate::members::{BadMembers, Members};
use crate::{base64url, decode_base64url, sha256};

/// Longest JWK, in bytes.
const LIMIT: usize = 4096;
/// Members that only private or secret keys have (RFC 7518 §6.2.2, §6.3.2, §6.4.1).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Why a JWK was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// The JWK holds a private or secret key.
    #[error("the key has the private member `{0}`: send the public key only, and replace this key")]
    Private(&'static str),
    /// Another type of key, or another curve.
    #[error("only P-256 (kty EC) and Ed25519 (kty OKP) keys are accepted")]
    Unsupported,
    /// The JWK says that the key is for something else than verifying signatures with it.
    #[error("the key's `{0}` says that it is not for signatures of its kind")]
    WrongUse(&'static str),
    /// The text is no JWK, or the numbers in it are no public key.
    #[error("not a public key: {0}")]
    Malformed(String),
}

impl From<BadMembers> for InvalidKey {
    fn from(bad: BadMembers) -> Self {
        Self::Malformed(bad.to_string())
    }
}

/// The kinds of keys, each with its one algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA with P-256 and SHA-256: `ES256` (RFC 7518 §3.4).
    P256,
    /// Ed25519: `EdDSA` (RFC 8037 §3.1).
    Ed25519,
}

impl KeyKind {
    /// The `alg` of signatures with such keys.
    #[must_use]
    pub fn algorithm(self) -> &'static str {
        match self {
            Self::P256 => "ES256",
            Self::Ed25519 => "EdDSA",
        }
    }
}

/// A public key that was checked to be one.
#[derive(Clone)]
pub struct PublicKey {
    kind: KeyKind,
    key: ParsedPublicKey,
    thumbprint: [u8; 32],
}

impl PublicKey {
    /// Reads a JWK.
    ///
    /// # Errors
    /// [`InvalidKey`]; a JWK with a private member is refused even if the rest is fine.
    pub fn parse_jwk(jwk: &str) -> Result<Self, InvalidKey> {
        if jwk.len() > LIMIT {
            return Err(InvalidKey::Malformed(format!(
                "it is longer than {LIMIT} bytes"
            )));
        }
        let members = Members::read(jwk.as_bytes())?;
        if let Some(name) = PRIVATE.into_iter().find(|name| members.has(name)) {
            return Err(InvalidKey::Private(name));
        }
        let kind = match (&*members.required("kty")?, members.text("crv")?.as_deref()) {
            ("EC", Some("P-256")) => KeyKind::P256,
            ("OKP", Some("Ed25519")) => KeyKind::Ed25519,
            _ => return Err(InvalidKey::Unsupported),
        };
        if members
            .text("alg")?
            .is_some_and(|alg| alg != kind.algorithm())
        {
            return Err(InvalidKey::WrongUse("alg"));
        }
        if members.text("use")?.is_some_and(|used| used != "sig") {
            return Err(InvalidKey::WrongUse("use"));
        }
        let operations = members.typed::<Vec<String>>("key_ops")?;
        if operations.is_some_and(|all| !all.iter().any(|one| one == "verify")) {
            return Err(InvalidKey::WrongUse("key_ops"));
        }
        let x = coordinate(&members, "x")?;
        match kind {
            KeyKind::P256 => Self::p256(&point(x, coordinate(&members, "y")?)),
            KeyKind::Ed25519 => Self::ed25519(&x),
        }
    }

    /// A P-256 key from its uncompressed point (SEC 1 §2.3.3).
    pub(crate) fn p256(point: &[u8]) -> Result<Self, InvalidKey> {
        let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else {
            return Err(InvalidKey::Malformed(
                "not an uncompressed point".to_owned(),
            ));
        };
        // The members in lexicographic order and nothing else (RFC 7638 §3).
        let canonical = format!(
            r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#,
            base64url(x),
            base64url(y)
        );
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .map_err(|_| InvalidKey::Malformed("no point of the curve P-256".to_owned()))?;
        Ok(Self {
            kind: KeyKind::P256,
            key,
            thumbprint: sha256(canonical.as_bytes()),
        })
    }

    fn ed25519(x: &[u8; 32]) -> Result<Self, InvalidKey> {
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, base64url(x));
        let key = ParsedPublicKey::new(&ED25519, x)
            .map_err(|_| InvalidKey::Malformed("no Ed25519 key".to_owned()))?;
        Ok(Self {
            kind: KeyKind::Ed25519,
            key,
            thumbprint: sha256(canonical.as_bytes()),
        })
    }

    /// What kind of key it is.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The JWK thumbprint (RFC 7638 with SHA-256), base64url.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        base64url(&self.thumbprint)
    }

    pub(crate) fn thumbprint_bytes(&self) -> &[u8; 32] {
        &self.thumbprint
    }

    /// The key as a JWK with the required members only.
    #[must_use]
    pub fn to_jwk(&self) -> Value {
        let bytes: &[u8] = self.key.as_ref();
        match self.kind {
            KeyKind::P256 => json!({
                "kty": "EC", "crv": "P-256",
                "x": base64url(&bytes[1..33]), "y": base64url(&bytes[33..65]),
            }),
            KeyKind::Ed25519 => json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(bytes) }),
        }
    }

    /// Whether a detached signature (RFC 7515, Appendix F) is this key's over the payload: the
    /// header is one that the key's algorithm allows, and asks for nothing that is not understood.
    #[must_use]
    pub fn verifies_detached(&self, protected: &str, payload: &[u8], signature: &str) -> bool {
        let mut bytes = [0; 64];
        if decode_base64url(signature, &mut bytes) != Some(64) {
            return false;
        }
        let mut header = [0; 1024];
        let Some(length) = decode_base64url(protected, &mut header) else {
            return false;
        };
        // A `jku` or `x5u` may stand there: nobody follows it, the key is known already.
        let algorithm = Members::read(&header[..length]).is_ok_and(|members| {
            let named = members.text("alg");
            named.is_ok_and(|alg| alg.as_deref() == Some(self.kind.algorithm()))
                && !members.has("crit")
                && !members.has("b64")
        });
        let signed = format!("{protected}.{}", base64url(payload));
        algorithm && self.verifies(signed.as_bytes(), &bytes)
    }

    /// Whether the signature is this key's over the message.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.thumbprint == other.thumbprint
    }
}

impl Eq for PublicKey {}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "PublicKey({} {})",
            self.kind.algorithm(),
            self.thumbprint()
        )
    }
}

/// A coordinate has exactly 32 bytes for both curves (RFC 7518 §6.2.1.2, RFC 8037 §2).
fn coordinate(members: &Members<'_>, name: &'static str) -> Result<[u8; 32], InvalidKey> {
    let text = members.required(name)?;
    let mut bytes = [0; 32];
    match decode_base64url(&text, &mut bytes) {
        Some(32) => Ok(bytes),
        _ => Err(InvalidKey::Malformed(format!(
            "`{name}` is not 32 bytes in base64url"
        ))),
    }
}

fn point(x: [u8; 32], y: [u8; 32]) -> [u8; 65] {
    let mut point = [4; 65];
    point[1..33].copy_from_slice(&x);
    point[33..].copy_from_slice(&y);
    point
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 9449 §6.1 and Figure 2.
    const RFC9449: &str = r#"{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}"#;
    /// RFC 8037 appendix A.2.
    const RFC8037: &str =
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    /// RFC 7517 appendix A.1, without `use`.
    const RFC7517: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}"#;

    #[test]
    fn thumbprints_are_those_of_the_standards() {
        let of = |jwk| PublicKey::parse_jwk(jwk).unwrap().thumbprint();
        assert_eq!(of(RFC9449), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
        assert_eq!(of(RFC8037), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn thumbprints_ignore_order_and_optional_members() {
        let plain = PublicKey::parse_jwk(RFC7517).unwrap();
        let again = PublicKey::parse_jwk(&plain.to_jwk().to_string()).unwrap();
        assert_eq!(plain, again);
        assert_eq!(again.to_jwk().get("kid"), None);
    }

    #[test]
    fn a_key_for_encryption_is_refused() {
        // RFC 7517 appendix A.1 as it stands there.
        let jwk = RFC7517.replace("\"kid\"", "\"use\":\"enc\",\"kid\"");
        assert_eq!(PublicKey::parse_jwk(&jwk), Err(InvalidKey::WrongUse("use")));
        let jwk = RFC7517.replace("\"kid\"", "\"alg\":\"ES384\",\"kid\"");
        assert_eq!(PublicKey::parse_jwk(&jwk), Err(InvalidKey::WrongUse("alg")));
        let jwk = RFC7517.replace("\"kid\"", "\"key_ops\":[\"sign\"],\"kid\"");
        assert_eq!(
            PublicKey::parse_jwk(&jwk),
            Err(InvalidKey::WrongUse("key_ops"))
        );
    }

    #[test]
    fn a_private_key_is_refused() {
        let jwk = RFC8037.replace(
            "\"x\"",
            "\"d\":\"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A\",\"x\"",
        );
        assert_eq!(PublicKey::parse_jwk(&jwk), Err(InvalidKey::Private("d")));
    }

    #[test]
    fn other_kinds_of_keys_are_refused() {
        for other in [
            // RFC 7638 §3.1 (RSA), shortened; RFC 8037 appendix A.6 (X25519).
            r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx","e":"AQAB"}"#,
            r#"{"kty":"OKP","crv":"X25519","x":"3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"}"#,
            r#"{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}"#,
            r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#,
        ] {
            assert_eq!(
                PublicKey::parse_jwk(other),
                Err(InvalidKey::Unsupported),
                "{other}"
            );
        }
        let secret = r#"{"kty":"oct","k":"AAAA"}"#;
        assert_eq!(PublicKey::parse_jwk(secret), Err(InvalidKey::Private("k")));
    }

    #[test]
    fn a_point_off_the_curve_is_refused() {
        let off = RFC9449.replace("9VE4", "9VE5");
        assert!(matches!(
            PublicKey::parse_jwk(&off),
            Err(InvalidKey::Malformed(_))
        ));
    }

    #[test]
    fn a_second_spelling_of_a_key_is_refused() {
        for second in [
            RFC8037.replace("HURo\"", "HURp\""),
            RFC8037.replace("HURo\"", "HURo=\""),
            RFC8037.replace("{\"kty\"", "{\"kty\":\"OKP\",\"kty\""),
            RFC8037.replace("11qY", "AA11qY"),
            RFC8037.replace("VS_7", "VS/7"),
            format!("{RFC8037}{}", " ".repeat(LIMIT)),
        ] {
            assert!(PublicKey::parse_jwk(&second).is_err(), "{second}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,200}") {
            let _ = PublicKey::parse_jwk(&text);
        }

        #[test]
        fn mutated_keys_are_other_keys_or_refused(at in 0usize..RFC9449.len(), to in 32u8..127) {
            let mut text = RFC9449.as_bytes().to_vec();
            text[at] = to;
            let original = PublicKey::parse_jwk(RFC9449).unwrap();
            if let Ok(key) = PublicKey::parse_jwk(std::str::from_utf8(&text).unwrap()) {
                prop_assert!(text == RFC9449.as_bytes() || key != original);
            }
        }
    }
}
