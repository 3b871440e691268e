use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::InstanceKey;
use crate::base64url;
use crate::signing::{SigningKey, header};

const ISSUER: &str = "http://127.0.0.1:8600";
const ENDPOINT: &str = "http://127.0.0.1:8600/oauth/token";
const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).unwrap()
}

fn client() -> InstanceId {
    InstanceId::new(at(0), [1; 10])
}

fn claims() -> Value {
    let id = client().to_string();
    json!({ "iss": id, "sub": id, "aud": ISSUER, "iat": NOW, "exp": NOW + 60, "jti": "a" })
}

fn sign(key: &SigningKey, head: &Value, claims: &Value) -> String {
    key.sign(&header(head), claims.to_string().as_bytes())
        .unwrap()
}

fn es256() -> Value {
    json!({ "alg": "ES256" })
}

fn check(assertion: &str, key: &PublicKey, second: i64) -> Result<(), AssertionError> {
    let all = Assertions::new(0);
    all.verify(assertion, &client(), key, &[ISSUER, ENDPOINT], at(second))
}

/// Checks claims that differ in one member.
fn with(name: &str, value: Value) -> Result<(), AssertionError> {
    let key = SigningKey::generate().unwrap();
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    check(&sign(&key, &es256(), &claims), key.public(), 0)
}

#[test]
fn what_an_instance_signs_is_accepted_once() {
    let key = InstanceKey::generate().unwrap();
    let public = PublicKey::parse_jwk(&key.public_jwk().to_string()).unwrap();
    let all = Assertions::new(0);
    let id = client().to_string();
    let assertion = key.sign_assertion(&id, ISSUER, at(0), "one").unwrap();
    assert_eq!(unverified_subject(&assertion), Some(id.clone()));
    let verify = |assertion: &str, second| {
        all.verify(
            assertion,
            &client(),
            &public,
            &[ISSUER, ENDPOINT],
            at(second),
        )
    };
    assert_eq!(verify(&assertion, 0), Ok(()));
    assert_eq!(verify(&assertion, 0), Err(AssertionError::Replayed));
    assert_eq!(verify(&assertion, 59), Err(AssertionError::Replayed));
    assert_eq!(verify(&assertion, 60), Err(AssertionError::Expired));
    let other = key.sign_assertion(&id, ENDPOINT, at(0), "two").unwrap();
    assert_eq!(verify(&other, 0), Ok(()));
}

#[test]
fn an_assertion_of_an_independent_library_is_accepted() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("key.pem");
    let key = InstanceKey::generate().unwrap();
    key.save_pem(&path).unwrap();
    let pem = std::fs::read(&path).unwrap();
    let head = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    let encoding = jsonwebtoken::EncodingKey::from_ec_pem(&pem).unwrap();
    let assertion = jsonwebtoken::encode(&head, &claims(), &encoding).unwrap();
    let public = PublicKey::parse_jwk(&key.public_jwk().to_string()).unwrap();
    assert_eq!(check(&assertion, &public, 0), Ok(()));
}

#[test]
fn an_ed25519_key_signs_with_eddsa_only() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let x = base64url(pair.public_key().as_ref());
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x }).to_string();
    let public = PublicKey::parse_jwk(&jwk).unwrap();
    let sign = |alg: &str| {
        let head = header(&json!({ "alg": alg }));
        let signed = format!("{head}.{}", base64url(claims().to_string().as_bytes()));
        let signature = pair.sign(signed.as_bytes());
        format!("{signed}.{}", base64url(signature.as_ref()))
    };
    assert_eq!(check(&sign("EdDSA"), &public, 0), Ok(()));
    assert_eq!(
        check(&sign("ES256"), &public, 0),
        Err(AssertionError::WrongAlgorithm("EdDSA"))
    );
}

#[test]
fn another_key_is_refused() {
    let (key, other) = (
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap(),
    );
    let assertion = sign(&other, &es256(), &claims());
    assert_eq!(
        check(&assertion, key.public(), 0),
        Err(AssertionError::BadSignature)
    );
}

#[test]
fn alg_none_and_hs256_are_refused() {
    let key = SigningKey::generate().unwrap();
    for alg in ["none", "HS256", "ES384", "RS256", "es256"] {
        let assertion = sign(&key, &json!({ "alg": alg }), &claims());
        assert_eq!(
            check(&assertion, key.public(), 0),
            Err(AssertionError::WrongAlgorithm("ES256"))
        );
    }
}

#[test]
fn tokens_of_other_kinds_are_refused() {
    let key = SigningKey::generate().unwrap();
    for (typ, good) in [
        ("JWT", true),
        ("jwt", true),
        ("client-authentication+jwt", true),
        ("at+jwt", false),
        ("dpop+jwt", false),
        ("logout+jwt", false),
    ] {
        let assertion = sign(&key, &json!({ "alg": "ES256", "typ": typ }), &claims());
        let wanted = if good {
            Ok(())
        } else {
            Err(AssertionError::WrongType)
        };
        assert_eq!(check(&assertion, key.public(), 0), wanted, "{typ}");
    }
}

#[test]
fn headers_that_point_elsewhere_are_refused() {
    let key = SigningKey::generate().unwrap();
    for name in ["jwk", "jku", "x5u", "x5c", "crit", "b64"] {
        let mut head = es256();
        head[name] = json!("x");
        let assertion = sign(&key, &head, &claims());
        assert!(matches!(
            check(&assertion, key.public(), 0),
            Err(AssertionError::Malformed(_))
        ));
    }
}

#[test]
fn issuer_and_subject_are_the_client() {
    for name in ["iss", "sub"] {
        let other = InstanceId::new(at(0), [9; 10]).to_string();
        assert_eq!(with(name, json!(other)), Err(AssertionError::OtherClient));
        assert!(matches!(
            with(name, Value::Null),
            Err(AssertionError::Malformed(_))
        ));
    }
}

#[test]
fn the_audience_is_this_server_and_nobody_else() {
    for good in [
        json!(ISSUER),
        json!(ENDPOINT),
        json!([ENDPOINT]),
        json!([ISSUER, ENDPOINT]),
    ] {
        assert_eq!(with("aud", good), Ok(()));
    }
    for bad in [
        json!("https://evil.example"),
        json!("http://127.0.0.1:8600/"),
        json!([]),
        json!([ISSUER, "https://evil.example"]),
        json!([[ISSUER]]),
        json!(7),
        Value::Null,
    ] {
        assert_eq!(
            with("aud", bad.clone()),
            Err(AssertionError::WrongAudience),
            "{bad}"
        );
    }
}

#[test]
fn times_are_sane() {
    assert_eq!(with("exp", json!(NOW + 305)), Ok(()));
    assert_eq!(
        with("exp", json!(NOW + 306)),
        Err(AssertionError::TooLongLived)
    );
    assert_eq!(with("exp", json!(NOW)), Err(AssertionError::Expired));
    assert!(matches!(
        with("exp", Value::Null),
        Err(AssertionError::Malformed(_))
    ));
    assert!(matches!(
        with("exp", json!("soon")),
        Err(AssertionError::Malformed(_))
    ));
    for name in ["iat", "nbf"] {
        assert_eq!(with(name, json!(NOW + 5)), Ok(()));
        assert_eq!(with(name, json!(NOW + 6)), Err(AssertionError::NotYetValid));
        assert_eq!(with(name, Value::Null), Ok(()));
    }
}

#[test]
fn ids_are_there_and_short() {
    assert!(matches!(
        with("jti", Value::Null),
        Err(AssertionError::Malformed(_))
    ));
    assert!(matches!(
        with("jti", json!("")),
        Err(AssertionError::Malformed(_))
    ));
    assert!(matches!(
        with("jti", json!("x".repeat(257))),
        Err(AssertionError::Malformed(_))
    ));
    assert_eq!(with("jti", json!("x".repeat(256))), Ok(()));
}

#[test]
fn an_oversized_assertion_is_refused() {
    let refused = with("more", json!("x".repeat(LIMIT)));
    assert_eq!(
        refused,
        Err(AssertionError::Malformed(Malformed::TooLong(LIMIT)))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn mutated_assertions_are_refused(at_byte in 0usize..600, to in 33u8..127) {
        let key = SigningKey::generate().unwrap();
        let mut bytes = sign(&key, &es256(), &claims()).into_bytes();
        let position = at_byte % bytes.len();
        prop_assume!(bytes[position] != to);
        bytes[position] = to;
        let mutated = String::from_utf8(bytes).unwrap();
        prop_assert!(check(&mutated, key.public(), 0).is_err());
    }

    #[test]
    fn subjects_of_anything_never_panic(text in ".{0,200}") {
        let _ = unverified_subject(&text);
    }
}

#[test]
fn a_restart_makes_no_assertion_good_again() {
    let key = SigningKey::generate().unwrap();
    let check = |claims: &Value, start| {
        Assertions::new(0).since(at(start)).verify(
            &sign(&key, &es256(), claims),
            &client(),
            key.public(),
            &[ISSUER],
            at(20),
        )
    };
    assert_eq!(check(&claims(), 0), Ok(()));
    assert_eq!(check(&claims(), 1), Err(AssertionError::BeforeStart));
    // Without `iat`, what counts is since when it could have been accepted.
    let mut silent = claims();
    silent.as_object_mut().unwrap().remove("iat");
    assert_eq!(check(&silent, 10), Err(AssertionError::BeforeStart));
    silent["exp"] = json!(NOW + 10 + LIFETIME_SECONDS);
    assert_eq!(check(&silent, 10), Ok(()));
}
