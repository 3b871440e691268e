//! Keys of other issuers, and texts that they signed: for events that other systems send. Besides ES256
//! they may use RS256 (RFC 7518 §3.3), which the interoperability profile of such events asks for.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::members::Members;
use crate::public_key::PublicKey;

/// Longest set of keys, in bytes.
const SET_BYTES: usize = 256 << 10;
/// Most keys in a set.
const KEYS: usize = 64;
/// Longest signed text, in bytes.
const TEXT_BYTES: usize = 64 << 10;
/// Longest key identifier, in bytes.
const KID_BYTES: usize = 256;

/// The keys of an issuer (JWKS, RFC 7517 §5).
pub struct ForeignKeys(Vec<(Option<String>, ForeignKey)>);

enum ForeignKey {
    Es256(PublicKey),
    Rs256(PublicKeyComponents<Vec<u8>>),
}

/// The text is no set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no set of keys (RFC 7517 §5) of at most {SET_BYTES} bytes and {KEYS} keys")]
pub struct NotKeys;

/// Why a signed text is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// It is no signed text of the type that was expected.
    #[error("it is no signed text of this type in the compact form (RFC 7515 §7.1)")]
    Malformed,
    /// No key of the issuer has its identifier and algorithm.
    #[error("no key of the issuer has its `kid` and `alg`")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("its signature does not verify")]
    Signature,
}

impl ForeignKeys {
    /// Reads a set of keys. Those of other kinds are left out.
    ///
    /// # Errors
    /// [`NotKeys`]
    pub fn read(text: &[u8]) -> Result<Self, NotKeys> {
        #[derive(Deserialize)]
        struct Set<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        if text.len() > SET_BYTES {
            return Err(NotKeys);
        }
        let set: Set<'_> = serde_json::from_slice(text).map_err(|_| NotKeys)?;
        if set.keys.len() > KEYS {
            return Err(NotKeys);
        }
        Ok(Self(
            set.keys
                .iter()
                .filter_map(|key| key_of(key.get()))
                .collect(),
        ))
    }

    /// Whether there is a key that a text could be signed with.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The claims of a signed text of a type (`typ`, RFC 8417 §2.3), when a key of the set signed it.
    ///
    /// # Errors
    /// [`NotSigned`]; after [`NotSigned::UnknownKey`] the set may be out of date.
    pub fn claims(&self, text: &str, typ: &str) -> Result<Value, NotSigned> {
        if text.len() > TEXT_BYTES {
            return Err(NotSigned::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(NotSigned::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(NotSigned::Malformed)?;
        let bytes = |text: &str| {
            URL_SAFE_NO_PAD
                .decode(text)
                .map_err(|_| NotSigned::Malformed)
        };
        let (header, payload, signature) = (bytes(header)?, bytes(payload)?, bytes(signature)?);
        let header = Members::read(&header).map_err(|_| NotSigned::Malformed)?;
        let member = |name| header.text(name).map_err(|_| NotSigned::Malformed);
        let names_type = member("typ")?.is_some_and(|given| {
            let given = given.strip_prefix("application/").unwrap_or(&given);
            given.eq_ignore_ascii_case(typ)
        });
        if !names_type || header.has("crit") || header.has("b64") {
            return Err(NotSigned::Malformed);
        }
        let (alg, kid) = (member("alg")?, member("kid")?);
        let mut known = false;
        for (id, key) in &self.0 {
            let fits = kid.is_none() || id.is_none() || id.as_deref() == kid.as_deref();
            if !fits || alg.as_deref() != Some(key.algorithm()) {
                continue;
            }
            known = true;
            if key.verifies(signed.as_bytes(), &signature) {
                // Read strictly once: no member of the claims may stand twice.
                Members::read(&payload).map_err(|_| NotSigned::Malformed)?;
                return serde_json::from_slice(&payload).map_err(|_| NotSigned::Malformed);
            }
        }
        Err(match known {
            true => NotSigned::Signature,
            false => NotSigned::UnknownKey,
        })
    }
}

impl ForeignKey {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::Rs256(_) => "RS256",
        }
    }

    fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Es256(key) => signature
                .try_into()
                .is_ok_and(|signature: &[u8; 64]| key.verifies(signed, signature)),
            // Keys of fewer than 2048 bits are refused here.
            Self::Rs256(key) => key
                .verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
                .is_ok(),
        }
    }
}

fn key_of(text: &str) -> Option<(Option<String>, ForeignKey)> {
    let members = Members::read(text.as_bytes()).ok()?;
    let member = |name| members.text(name).ok().flatten();
    let kid = member("kid").map(|kid| kid.into_owned());
    if kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES) {
        return None;
    }
    let for_signatures = member("use").is_none_or(|used| used == "sig");
    let key = match member("kty")?.as_ref() {
        "EC" => {
            let key = PublicKey::parse_jwk(text).ok()?;
            (key.kind() == crate::KeyKind::P256).then_some(ForeignKey::Es256(key))?
        }
        "RSA" if member("alg").is_none_or(|alg| alg == "RS256") => {
            let number = |name| URL_SAFE_NO_PAD.decode(member(name)?.as_bytes()).ok();
            ForeignKey::Rs256(PublicKeyComponents {
                n: number("n")?,
                e: number("e")?,
            })
        }
        _ => return None,
    };
    for_signatures.then_some((kid, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::{SigningKey, header};
    use serde_json::json;

    const TYPE: &str = "secevent+jwt";

    fn signed(key: &SigningKey, head: Value, claims: &str) -> String {
        key.sign(&header(&head), claims.as_bytes()).unwrap()
    }

    fn keys(key: &SigningKey, kid: &str) -> ForeignKeys {
        let mut jwk = key.public().to_jwk();
        jwk["kid"] = json!(kid);
        ForeignKeys::read(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn only_what_a_key_of_the_set_signed_is_believed() {
        let key = SigningKey::generate().unwrap();
        let set = keys(&key, "k1");
        let head = |kid: &str| json!({ "alg": "ES256", "typ": TYPE, "kid": kid });
        let text = signed(&key, head("k1"), r#"{"iss":"a"}"#);
        assert_eq!(set.claims(&text, TYPE).unwrap(), json!({ "iss": "a" }));
        let other = SigningKey::generate().unwrap();
        let forged = signed(&other, head("k1"), r#"{"iss":"a"}"#);
        assert_eq!(set.claims(&forged, TYPE), Err(NotSigned::Signature));
        let unknown = signed(&key, head("k2"), r#"{"iss":"a"}"#);
        assert_eq!(set.claims(&unknown, TYPE), Err(NotSigned::UnknownKey));
        for head in [
            json!({ "alg": "none", "typ": TYPE, "kid": "k1" }),
            json!({ "alg": "HS256", "typ": TYPE, "kid": "k1" }),
            json!({ "alg": "RS256", "typ": TYPE, "kid": "k1" }),
        ] {
            let confused = signed(&key, head, r#"{"iss":"a"}"#);
            assert_eq!(set.claims(&confused, TYPE), Err(NotSigned::UnknownKey));
        }
        for head in [
            json!({ "alg": "ES256", "typ": "at+jwt", "kid": "k1" }),
            json!({ "alg": "ES256", "kid": "k1" }),
            json!({ "alg": "ES256", "typ": TYPE, "kid": "k1", "crit": ["x"] }),
        ] {
            let other = signed(&key, head, r#"{"iss":"a"}"#);
            assert_eq!(set.claims(&other, TYPE), Err(NotSigned::Malformed));
        }
        let twice = signed(&key, head("k1"), r#"{"iss":"a","iss":"b"}"#);
        assert_eq!(set.claims(&twice, TYPE), Err(NotSigned::Malformed));
        assert_eq!(set.claims("a.b", TYPE), Err(NotSigned::Malformed));
    }

    /// RFC 7515, Appendix A.2: a text signed with RS256, and the key. Its header has no type.
    #[test]
    fn rsa_signatures_verify() {
        let set = ForeignKeys::read(
            json!({ "keys": [{ "kty": "RSA", "e": "AQAB", "n":
                "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ" }] })
            .to_string()
            .as_bytes(),
        )
        .unwrap();
        let signed = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = URL_SAFE_NO_PAD.decode("cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw").unwrap();
        let (_, key) = &set.0[0];
        assert!(key.verifies(signed.as_bytes(), &signature));
        assert!(!key.verifies(b"another text", &signature));
        assert_eq!(
            set.claims(
                &format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)),
                TYPE
            ),
            Err(NotSigned::Malformed),
            "it has no type"
        );
    }

    #[test]
    fn sets_are_bounded_and_other_keys_left_out() {
        assert!(ForeignKeys::read(b"{}").is_err());
        assert!(ForeignKeys::read(&vec![b' '; SET_BYTES + 1]).is_err());
        let others =
            json!({ "keys": [{ "kty": "oct", "k": "AA" }, { "kty": "EC", "crv": "P-384" }] });
        assert!(
            ForeignKeys::read(others.to_string().as_bytes())
                .unwrap()
                .is_empty()
        );
    }
}
