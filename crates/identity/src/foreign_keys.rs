//! Keys of other issuers, and texts that they signed: for events that other systems send. Their algorithms are
//! ES256, ES384, RS256 and PS256 (RFC 7518 §3.3 to §3.5) and EdDSA with Ed25519 (RFC 8037 §3.1, which RFC 9864
//! calls `Ed25519`); never a secret that both sides share, and never none. Which of them a text may use is for
//! the key to say, not for the text (RFC 8725 §3.1).

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::members::Members;
use crate::public_key::{KeyKind, PublicKey};

/// Longest set of keys, in bytes.
const SET_BYTES: usize = 256 << 10;
/// Most keys in a set.
const KEYS: usize = 64;
/// Longest signed text, in bytes.
const TEXT_BYTES: usize = 64 << 10;
/// Longest key identifier, in bytes.
const KID_BYTES: usize = 256;
/// The length of a coordinate of P-384, in bytes.
const P384_BYTES: usize = 48;

/// The keys of an issuer (JWKS, RFC 7517 §5).
pub struct ForeignKeys(Vec<(Option<String>, ForeignKey)>);

enum ForeignKey {
    /// P-256 or Ed25519.
    Usual(PublicKey),
    /// P-384.
    Es384(ParsedPublicKey),
    /// For one of its two algorithms, if it says which.
    Rsa(PublicKeyComponents<Vec<u8>>, Option<Rsa>),
}

/// The algorithms of RSA keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rsa {
    Rs256,
    Ps256,
}

impl Rsa {
    fn of(alg: &str) -> Option<Self> {
        match alg {
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            _ => None,
        }
    }
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
            let Some(alg) = alg.as_deref().filter(|alg| fits && key.may_use(alg)) else {
                continue;
            };
            known = true;
            if key.verifies(alg, signed.as_bytes(), &signature) {
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
    /// Whether a text that names an algorithm may be verified with this key.
    fn may_use(&self, alg: &str) -> bool {
        match self {
            Self::Usual(key) if key.kind() == KeyKind::Ed25519 => {
                matches!(alg, "EdDSA" | "Ed25519")
            }
            Self::Usual(key) => alg == key.kind().algorithm(),
            Self::Es384(_) => alg == "ES384",
            Self::Rsa(_, only) => {
                Rsa::of(alg).is_some_and(|rsa| only.is_none_or(|only| only == rsa))
            }
        }
    }

    /// Whether this key made a signature with an algorithm that it may use.
    fn verifies(&self, alg: &str, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Usual(key) => signature
                .try_into()
                .is_ok_and(|signature: &[u8; 64]| key.verifies(signed, signature)),
            Self::Es384(key) => key.verify_sig(signed, signature).is_ok(),
            // Keys of fewer than 2048 bits are refused here.
            Self::Rsa(key, _) => match Rsa::of(alg) {
                Some(Rsa::Rs256) => key
                    .verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
                    .is_ok(),
                Some(Rsa::Ps256) => key
                    .verify(&RSA_PSS_2048_8192_SHA256, signed, signature)
                    .is_ok(),
                None => false,
            },
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
    let operations = members.typed::<Vec<String>>("key_ops").ok()?;
    let for_signatures = member("use").is_none_or(|used| used == "sig")
        && operations.is_none_or(|all| all.iter().any(|one| one == "verify"));
    if !for_signatures {
        return None;
    }
    let alg = member("alg");
    let bytes = |name| URL_SAFE_NO_PAD.decode(member(name)?.as_bytes()).ok();
    let key = match (member("kty")?.as_ref(), member("crv").as_deref()) {
        ("EC", Some("P-384")) if alg.as_deref().is_none_or(|alg| alg == "ES384") => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            let is_whole = x.len() == P384_BYTES && y.len() == P384_BYTES;
            // An uncompressed point (SEC 1 §2.3.3).
            let point = is_whole.then(|| [&[4][..], &x, &y].concat())?;
            ForeignKey::Es384(ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).ok()?)
        }
        // The newer name says the same (RFC 9864 §2.2), and is not known to the reader of keys.
        ("OKP", Some("Ed25519")) if alg.as_deref() == Some("Ed25519") => {
            let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": member("x")? });
            ForeignKey::Usual(PublicKey::parse_jwk(&jwk.to_string()).ok()?)
        }
        ("EC" | "OKP", _) => ForeignKey::Usual(PublicKey::parse_jwk(text).ok()?),
        ("RSA", _) => {
            let only = match alg {
                None => None,
                Some(alg) => Some(Rsa::of(&alg)?),
            };
            let (n, e) = (bytes("n")?, bytes("e")?);
            ForeignKey::Rsa(PublicKeyComponents { n, e }, only)
        }
        _ => return None,
    };
    Some((kid, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::{SigningKey, header};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::{
        ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    };

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
        assert!(key.verifies("RS256", signed.as_bytes(), &signature));
        assert!(!key.verifies("PS256", signed.as_bytes(), &signature));
        assert!(!key.verifies("RS256", b"another text", &signature));
        assert_eq!(
            set.claims(
                &format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)),
                TYPE
            ),
            Err(NotSigned::Malformed),
            "it has no type"
        );
    }

    fn set(jwk: Value) -> ForeignKeys {
        ForeignKeys::read(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap()
    }

    /// A text that somebody signs under an algorithm.
    fn text(alg: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let head = json!({ "alg": alg, "typ": TYPE }).to_string();
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(head),
            URL_SAFE_NO_PAD.encode(r#"{"iss":"a"}"#)
        );
        let signature = sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    const ALGORITHMS: [&str; 10] = [
        "ES256", "ES384", "RS256", "PS256", "EdDSA", "Ed25519", "HS256", "none", "RS512", "ES512",
    ];

    /// The algorithms under which a key believes what it signed itself, whatever else is claimed.
    fn believed(jwk: &Value, sign: impl Fn(&str, &[u8]) -> Vec<u8>) -> Vec<&'static str> {
        let set = set(jwk.clone());
        let believes = |alg: &&str| {
            let claims = set.claims(&text(alg, |signed| sign(alg, signed)), TYPE);
            let other = text(alg, |signed| sign(alg, &[signed, b"x"].concat()));
            assert!(set.claims(&other, TYPE).is_err(), "{alg}");
            claims.is_ok()
        };
        ALGORITHMS.into_iter().filter(believes).collect()
    }

    #[test]
    fn a_key_is_good_for_its_own_algorithms_only() {
        let random = SystemRandom::new();
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        // RSAPublicKey of 2048 bits in DER (RFC 8017 §A.1.1): both numbers stand at fixed places.
        let der = rsa.public_key().as_ref();
        let jwk = json!({ "kty": "RSA", "n": number(&der[9..265]), "e": number(&der[267..]) });
        let sign = |alg: &str, signed: &[u8]| {
            let padding: &dyn aws_lc_rs::signature::RsaEncoding = match alg {
                "PS256" => &RSA_PSS_SHA256,
                _ => &RSA_PKCS1_SHA256,
            };
            let mut signature = vec![0; rsa.public_modulus_len()];
            rsa.sign(padding, &random, signed, &mut signature).unwrap();
            signature
        };
        assert_eq!(believed(&jwk, sign), ["RS256", "PS256"]);
        for (alg, good) in [
            ("RS256", vec!["RS256"]),
            ("PS256", vec!["PS256"]),
            ("RS512", vec![]),
            ("HS256", vec![]),
        ] {
            let mut jwk = jwk.clone();
            jwk["alg"] = json!(alg);
            assert_eq!(believed(&jwk, sign), good, "{alg}");
        }

        let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let point = p384.public_key().as_ref();
        let jwk = json!({ "kty": "EC", "crv": "P-384", "x": number(&point[1..49]),
                          "y": number(&point[49..]) });
        let sign = |_: &str, signed: &[u8]| p384.sign(&random, signed).unwrap().as_ref().to_vec();
        assert_eq!(believed(&jwk, sign), ["ES384"]);
        let mut short = jwk.clone();
        short["x"] = json!(number(&point[1..48]));
        assert!(set(short).is_empty());
        let mut off = jwk;
        off["y"] = off["x"].clone();
        assert!(set(off).is_empty(), "no point of the curve");

        let ed25519 = Ed25519KeyPair::generate().unwrap();
        let mut jwk = json!({ "kty": "OKP", "crv": "Ed25519",
                              "x": number(ed25519.public_key().as_ref()) });
        let sign = |_: &str, signed: &[u8]| ed25519.sign(signed).as_ref().to_vec();
        assert_eq!(believed(&jwk, sign), ["EdDSA", "Ed25519"]);
        jwk["alg"] = json!("Ed25519");
        assert_eq!(believed(&jwk, sign), ["EdDSA", "Ed25519"]);
        jwk["alg"] = json!("Ed448");
        assert!(set(jwk.clone()).is_empty());
        jwk["alg"] = json!("EdDSA");
        jwk["use"] = json!("enc");
        assert!(set(jwk).is_empty());
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
