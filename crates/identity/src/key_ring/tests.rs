use std::os::unix::fs::PermissionsExt;

use aws_lc_rs::hmac;
use model::{AgentName, InstanceId, TaskId};
use proptest::prelude::*;

use super::*;
use crate::signing::tests::other_signature;
use crate::{Cnf, base64url};

const ISSUER: &str = "http://127.0.0.1:8600";
const START: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

fn ring() -> (tempfile::TempDir, KeyRing) {
    let home = tempfile::tempdir().unwrap();
    let ring = KeyRing::open(&home.path().join("keys"), at(0)).unwrap();
    (home, ring)
}

fn claims(now: i64) -> AccessClaims {
    AccessClaims {
        iss: ISSUER.to_owned(),
        sub: "spiffe://example.org/agent/triage".to_owned(),
        aud: "http://127.0.0.1:8601/mcp/files".to_owned(),
        exp: START + now + 300,
        iat: START + now,
        jti: "t1".to_owned(),
        client_id: InstanceId::new(at(0), [1; 10]),
        agent: AgentName::parse("triage").unwrap(),
        task: Some(TaskId::new(at(0), [2; 10])),
        scope: "mcp".to_owned(),
        cnf: Some(Cnf::Key {
            jkt: "x".repeat(43),
        }),
        authorization_details: Some(json!([{ "type": "sallyport_task" }])),
    }
}

/// Signs whatever header and claims with the ring's own key.
fn forge(ring: &KeyRing, head: &Value, claims: &Value) -> String {
    let keys = ring.keys.load();
    keys[0]
        .signing
        .sign(&header(head), claims.to_string().as_bytes())
        .unwrap()
}

fn kid(ring: &KeyRing) -> String {
    ring.keys()[0].kid.clone()
}

#[test]
fn a_token_verifies_and_says_what_was_signed() {
    let (_home, ring) = ring();
    let token = ring.issue(&claims(0)).unwrap();
    let read = ring.verify(&token, ISSUER, at(0)).unwrap();
    assert_eq!(read, claims(0));
    assert!(read.is_for("http://127.0.0.1:8601/mcp/files"));
    assert!(!read.is_for("http://127.0.0.1:8601/mcp/files/"));
}

#[test]
fn an_independent_library_verifies_the_token_with_the_published_keys() {
    let (_home, ring) = ring();
    let token = ring.issue(&claims(0)).unwrap();
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(ring.jwks()).unwrap();
    let head = jsonwebtoken::decode_header(&token).unwrap();
    let jwk = set.find(head.kid.as_deref().unwrap()).unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    rules.validate_exp = false;
    rules.set_audience(&[&claims(0).aud]);
    let key = jsonwebtoken::DecodingKey::from_jwk(jwk).unwrap();
    let read = jsonwebtoken::decode::<AccessClaims>(&token, &key, &rules).unwrap();
    assert_eq!(read.claims, claims(0));
    let thumbprint = jwk
        .thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256)
        .unwrap();
    assert_eq!(Some(thumbprint), head.kid);
    assert!(!ring.jwks().to_string().contains("\"d\""));
}

#[test]
fn an_expired_token_is_refused_from_the_second_it_names() {
    let (_home, ring) = ring();
    let token = ring.issue(&claims(0)).unwrap();
    assert!(ring.verify(&token, ISSUER, at(299)).is_ok());
    assert_eq!(
        ring.verify(&token, ISSUER, at(300)),
        Err(TokenError::Expired)
    );
}

#[test]
fn a_token_from_the_future_is_refused() {
    let (_home, ring) = ring();
    let token = ring.issue(&claims(6)).unwrap();
    assert_eq!(
        ring.verify(&token, ISSUER, at(0)),
        Err(TokenError::NotYetValid)
    );
    assert!(ring.verify(&token, ISSUER, at(1)).is_ok());
    let mut later = serde_json::to_value(claims(0)).unwrap();
    later["nbf"] = json!(START + 60);
    let head = json!({ "typ": "at+jwt", "alg": "ES256", "kid": kid(&ring) });
    let token = forge(&ring, &head, &later);
    assert_eq!(
        ring.verify(&token, ISSUER, at(0)),
        Err(TokenError::NotYetValid)
    );
    assert!(ring.verify(&token, ISSUER, at(60)).is_ok());
}

#[test]
fn a_foreign_issuer_is_refused() {
    let (_home, ring) = ring();
    let token = ring.issue(&claims(0)).unwrap();
    for other in ["http://127.0.0.1:8600/", "https://evil.example", ""] {
        assert_eq!(
            ring.verify(&token, other, at(0)),
            Err(TokenError::ForeignIssuer)
        );
    }
}

#[test]
fn another_rings_token_is_refused() {
    let (_home, ring) = ring();
    let (_other_home, other) = self::ring();
    let token = other.issue(&claims(0)).unwrap();
    assert_eq!(
        ring.verify(&token, ISSUER, at(0)),
        Err(TokenError::UnknownKey)
    );
    // Naming our key does not help.
    let head = json!({ "typ": "at+jwt", "alg": "ES256", "kid": kid(&ring) });
    let token = forge(&other, &head, &serde_json::to_value(claims(0)).unwrap());
    assert_eq!(
        ring.verify(&token, ISSUER, at(0)),
        Err(TokenError::BadSignature)
    );
}

#[test]
fn alg_none_is_refused() {
    let (_home, ring) = ring();
    let token = ring.issue(&claims(0)).unwrap();
    let parts: Vec<_> = token.split('.').collect();
    for alg in ["none", "None", "NONE", ""] {
        let head = header(&json!({ "typ": "at+jwt", "alg": alg, "kid": kid(&ring) }));
        let unsigned = format!("{head}.{}.", parts[1]);
        assert!(ring.verify(&unsigned, ISSUER, at(0)).is_err());
        let signed = format!("{head}.{}.{}", parts[1], parts[2]);
        assert_eq!(
            ring.verify(&signed, ISSUER, at(0)),
            Err(TokenError::WrongAlgorithm)
        );
    }
}

#[test]
fn hs256_with_the_public_key_as_secret_is_refused() {
    let (_home, ring) = ring();
    let public = ring.jwks()["keys"][0].to_string();
    let head = header(&json!({ "typ": "at+jwt", "alg": "HS256", "kid": kid(&ring) }));
    let payload = base64url(&serde_json::to_vec(&claims(0)).unwrap());
    let signed = format!("{head}.{payload}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, public.as_bytes());
    let tag = hmac::sign(&key, signed.as_bytes());
    let short = format!("{signed}.{}", base64url(tag.as_ref()));
    assert!(ring.verify(&short, ISSUER, at(0)).is_err());
    let padded = format!(
        "{signed}.{}",
        base64url(&[tag.as_ref(), tag.as_ref()].concat())
    );
    assert_eq!(
        ring.verify(&padded, ISSUER, at(0)),
        Err(TokenError::WrongAlgorithm)
    );
}

#[test]
fn a_wrong_type_is_refused() {
    let (_home, ring) = ring();
    for typ in [
        json!("JWT"),
        json!("dpop+jwt"),
        json!("AT+JWT"),
        json!(null),
        json!(["at+jwt"]),
    ] {
        let head = json!({ "typ": typ, "alg": "ES256", "kid": kid(&ring) });
        let token = forge(&ring, &head, &serde_json::to_value(claims(0)).unwrap());
        assert!(ring.verify(&token, ISSUER, at(0)).is_err(), "{typ}");
    }
    let head = json!({ "alg": "ES256", "kid": kid(&ring) });
    let token = forge(&ring, &head, &serde_json::to_value(claims(0)).unwrap());
    assert_eq!(
        ring.verify(&token, ISSUER, at(0)),
        Err(TokenError::WrongType)
    );
}

#[test]
fn keys_that_a_token_brings_along_are_never_followed() {
    let (_home, ring) = ring();
    for name in ["jku", "x5u", "x5c", "jwk", "crit", "b64"] {
        let mut head = json!({ "typ": "at+jwt", "alg": "ES256", "kid": kid(&ring) });
        head[name] = json!("https://evil.example/keys");
        let token = forge(&ring, &head, &serde_json::to_value(claims(0)).unwrap());
        let refused = ring.verify(&token, ISSUER, at(0));
        assert!(matches!(refused, Err(TokenError::Malformed(_))), "{name}");
    }
}

#[test]
fn a_claim_that_stands_twice_is_refused() {
    let (_home, ring) = ring();
    let text = serde_json::to_string(&claims(0)).unwrap();
    let text = text.replacen('{', "{\"aud\":\"http://evil\",", 1);
    let keys = ring.keys.load();
    let token = keys[0]
        .signing
        .sign(&keys[0].header, text.as_bytes())
        .unwrap();
    assert!(matches!(
        ring.verify(&token, ISSUER, at(0)),
        Err(TokenError::Malformed(_))
    ));
}

#[test]
fn the_second_signature_of_the_same_claims_is_refused() {
    // Otherwise a token that was revoked by its hash would live on under another hash.
    let (_home, ring) = ring();
    let token = ring.issue(&claims(0)).unwrap();
    let other = other_signature(&token);
    assert_ne!(crate::token_id(&token), crate::token_id(&other));
    assert_eq!(
        ring.verify(&other, ISSUER, at(0)),
        Err(TokenError::BadSignature)
    );
}

#[test]
fn truncated_and_padded_tokens_are_refused() {
    let (_home, ring) = ring();
    let token = ring.issue(&claims(0)).unwrap();
    for length in 0..token.len() {
        assert!(ring.verify(&token[..length], ISSUER, at(0)).is_err());
    }
    for more in ["=", ".", "A", " ", "\n"] {
        assert!(
            ring.verify(&format!("{token}{more}"), ISSUER, at(0))
                .is_err()
        );
        assert!(
            ring.verify(&format!("{more}{token}"), ISSUER, at(0))
                .is_err()
        );
    }
}

#[test]
fn tokens_that_outlive_their_key_are_not_issued() {
    let (_home, ring) = ring();
    let mut long = claims(0);
    long.exp += 1;
    assert_eq!(ring.issue(&long), Err(IssueError::Lifetime));
    long.exp = long.iat;
    assert_eq!(ring.issue(&long), Err(IssueError::Lifetime));
    let mut large = claims(0);
    large.scope = "x".repeat(access::LIMIT);
    assert_eq!(ring.issue(&large), Err(IssueError::TooLong));
}

#[test]
fn a_rotation_lets_old_tokens_live_and_then_forgets_their_key() {
    let (home, ring) = ring();
    let old_kid = kid(&ring);
    let old = ring.issue(&claims(0)).unwrap();
    let new_kid = ring.rotate(at(10)).unwrap();
    assert_ne!(old_kid, new_kid);
    let new = ring.issue(&claims(10)).unwrap();
    assert_eq!(
        jsonwebtoken::decode_header(&new).unwrap().kid,
        Some(new_kid.clone())
    );
    assert!(ring.verify(&old, ISSUER, at(10)).is_ok());
    assert!(ring.verify(&new, ISSUER, at(10)).is_ok());
    assert_eq!(ring.jwks()["keys"].as_array().unwrap().len(), 2);
    assert_eq!(ring.keys()[1].verifies_until, Some(at(10 + 605)));
    // Another process that opens the folder knows both.
    let again = KeyRing::open(&home.path().join("keys"), at(20)).unwrap();
    assert_eq!(again.keys(), ring.keys());
    assert!(again.verify(&old, ISSUER, at(20)).is_ok());
    // The key verifies nothing after its time, removed or not.
    assert_eq!(
        ring.verify(&old, ISSUER, at(615)),
        Err(TokenError::UnknownKey)
    );
    assert_eq!(ring.rotate_if_due(at(614)).unwrap(), None);
    assert_eq!(ring.keys().len(), 2);
    assert_eq!(ring.rotate_if_due(at(615)).unwrap(), None);
    assert_eq!(ring.keys().len(), 1);
    let files = std::fs::read_dir(home.path().join("keys")).unwrap().count();
    assert_eq!(files, 1);
}

#[test]
fn keys_are_rotated_when_they_are_due() {
    let (_home, ring) = ring();
    let month = ROTATE_AFTER.as_secs();
    assert_eq!(ring.rotate_if_due(at(month - 1)).unwrap(), None);
    let fresh = ring.rotate_if_due(at(month)).unwrap().unwrap();
    assert_eq!(kid(&ring), fresh);
    assert_eq!(ring.rotate_if_due(at(month)).unwrap(), None);
}

#[test]
fn rotating_with_a_clock_that_stands_still_keeps_the_order() {
    let (home, ring) = ring();
    let last = (0..3).map(|_| ring.rotate(at(0)).unwrap()).last().unwrap();
    let again = KeyRing::open(&home.path().join("keys"), at(0)).unwrap();
    assert_eq!(kid(&again), last);
    assert_eq!(again.keys().len(), 4);
}

#[test]
fn a_folder_that_was_tampered_with_is_refused() {
    let (home, ring) = ring();
    let dir = home.path().join("keys");
    let path = ring.keys.load()[0].path.clone();
    let open = || KeyRing::open(&dir, at(0)).map(|_| ());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(open(), Err(KeyError::Exposed { .. })));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(open(), Err(KeyError::Exposed { .. })));
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    // A later date would make it the one that signs.
    let later = dir.join(
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .replacen("0018", "0028", 1),
    );
    std::fs::copy(&path, &later).unwrap();
    assert!(
        open().is_ok(),
        "the same key under another date is the same key"
    );
    std::fs::rename(&later, dir.join("readme.txt")).unwrap();
    assert!(matches!(open(), Err(KeyError::Misnamed { .. })));
    std::fs::rename(dir.join("readme.txt"), dir.join("half.unfinished")).unwrap();
    assert!(open().is_ok());
    assert!(!dir.join("half.unfinished").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn mutated_tokens_are_refused(at_byte in 0usize..600, to in 33u8..127) {
        let (_home, ring) = ring();
        let token = ring.issue(&claims(0)).unwrap();
        let mut bytes = token.clone().into_bytes();
        let position = at_byte % bytes.len();
        prop_assume!(bytes[position] != to);
        bytes[position] = to;
        let mutated = String::from_utf8(bytes).unwrap();
        prop_assert!(ring.verify(&mutated, ISSUER, at(0)).is_err());
    }
}

#[test]
fn secrets_are_for_one_purpose_and_hold_over_a_restart() {
    let (home, ring) = ring();
    let (_other_home, other) = self::ring();
    let one = ring.secret("one").unwrap();
    assert_ne!(one, ring.secret("two").unwrap());
    assert_ne!(one, other.secret("one").unwrap());
    let again = KeyRing::open(&home.path().join("keys"), at(1)).unwrap();
    assert_eq!(one, again.secret("one").unwrap());
}
