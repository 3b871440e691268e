use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::InstanceKey;
use crate::signing::{SigningKey, header};

const URL: &str = "http://127.0.0.1:8601/mcp/files";
const TOKEN: &str = "a.b.c";
const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).unwrap()
}

fn request() -> Request<'static> {
    Request {
        method: "POST",
        url: URL,
        access_token: Some(TOKEN),
    }
}

fn head(key: &SigningKey) -> Value {
    json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": key.public().to_jwk() })
}

fn claims() -> Value {
    let ath = base64url(&sha256(TOKEN.as_bytes()));
    json!({ "jti": "a", "htm": "POST", "htu": URL, "iat": NOW, "ath": ath })
}

fn sign(key: &SigningKey, head: &Value, claims: &Value) -> String {
    key.sign(&header(head), claims.to_string().as_bytes())
        .unwrap()
}

fn check(proof: &str) -> Result<Thumbprint, ProofError> {
    Proofs::new(0).verify(proof, &request(), at(0))
}

/// Checks a proof whose header or claims differ in one member; null takes it out.
fn with(part: &str, name: &str, value: Value) -> Result<Thumbprint, ProofError> {
    let key = SigningKey::generate().unwrap();
    let (mut head, mut claims) = (head(&key), claims());
    let changed = if part == "header" {
        &mut head
    } else {
        &mut claims
    };
    match value {
        Value::Null => drop(changed.as_object_mut().unwrap().remove(name)),
        value => changed[name] = value,
    }
    check(&sign(&key, &head, &claims))
}

fn malformed<T: std::fmt::Debug>(result: Result<T, ProofError>) -> bool {
    matches!(result, Err(ProofError::Malformed(_)))
}

#[test]
fn the_proof_in_the_standard_verifies() {
    // RFC 9449 §4.2, Figure 2.
    const PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
    let request = Request {
        method: "POST",
        url: "https://server.example.com/token",
        access_token: None,
    };
    let made = Timestamp::from_second(1_562_262_616).unwrap();
    let thumbprint = Proofs::new(0).verify(PROOF, &request, made).unwrap();
    assert_eq!(
        thumbprint.as_str(),
        "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
    );
}

#[test]
fn what_an_instance_signs_is_accepted_once() {
    let key = InstanceKey::generate().unwrap();
    let proofs = Proofs::new(0);
    let sign = |jti: &str| {
        let url = "HTTP://127.0.0.1:8601/mcp/files?x=1";
        key.sign_dpop("POST", url, Some(TOKEN), Some("n"), at(0), jti)
            .unwrap()
    };
    let first = sign("1");
    let thumbprint = proofs.verify(&first, &request(), at(0)).unwrap();
    assert_eq!(thumbprint.as_str(), key.thumbprint());
    assert_eq!(
        proofs.verify(&first, &request(), at(0)),
        Err(ProofError::Replayed)
    );
    assert_eq!(
        proofs.verify(&first, &request(), at(60)),
        Err(ProofError::Replayed)
    );
    assert_eq!(
        proofs.verify(&first, &request(), at(61)),
        Err(ProofError::TooOld)
    );
    // The header is known now; everything else is checked all the same.
    assert!(proofs.verify(&sign("2"), &request(), at(1)).is_ok());
    let (signed, _) = first.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", sign("3").rsplit_once('.').unwrap().1);
    assert_eq!(
        proofs.verify(&forged, &request(), at(0)),
        Err(ProofError::BadSignature)
    );
}

#[test]
fn an_ed25519_proof_is_accepted() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let x = base64url(pair.public_key().as_ref());
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
    let sign = |alg: &str| {
        let head = header(&json!({ "typ": "dpop+jwt", "alg": alg, "jwk": jwk }));
        let signed = format!("{head}.{}", base64url(claims().to_string().as_bytes()));
        format!(
            "{signed}.{}",
            base64url(pair.sign(signed.as_bytes()).as_ref())
        )
    };
    let key = PublicKey::parse_jwk(&jwk.to_string()).unwrap();
    assert_eq!(check(&sign("EdDSA")).unwrap().as_str(), key.thumbprint());
    assert_eq!(check(&sign("ES256")), Err(ProofError::WrongAlgorithm));
}

#[test]
fn a_stolen_token_with_another_key_is_refused() {
    let (owner, thief) = (
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap(),
    );
    let proof = sign(&thief, &head(&thief), &claims());
    // The caller sees the thief's key, or has it compared here.
    let proofs = Proofs::new(0);
    let made_by = proofs.verify(&proof, &request(), at(0)).unwrap();
    assert_ne!(made_by.as_str(), owner.public().thumbprint());
    let owner_thumbprint = owner.public().thumbprint();
    let refused = proofs.verify_by(&proof, &request(), &owner_thumbprint, at(0));
    assert_eq!(refused, Err(ProofError::OtherKey));
    // Naming the owner's key without having it does not help.
    let proof = sign(&thief, &head(&owner), &claims());
    let refused = proofs.verify_by(&proof, &request(), &owner_thumbprint, at(0));
    assert_eq!(refused, Err(ProofError::BadSignature));
    let proof = sign(&owner, &head(&owner), &claims());
    assert!(
        proofs
            .verify_by(&proof, &request(), &owner_thumbprint, at(0))
            .is_ok()
    );
}

#[test]
fn a_refused_proof_uses_nothing_up() {
    let (owner, thief) = (
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap(),
    );
    let proofs = Proofs::new(0);
    assert!(
        proofs
            .verify(&sign(&thief, &head(&owner), &claims()), &request(), at(0))
            .is_err()
    );
    assert!(
        proofs
            .verify(&sign(&owner, &head(&owner), &claims()), &request(), at(0))
            .is_ok()
    );
}

#[test]
fn the_same_id_with_another_key_or_another_time() {
    let (one, other) = (
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap(),
    );
    let proofs = Proofs::new(0);
    let mut later = claims();
    later["iat"] = json!(NOW + 30);
    for (key, claims, wanted) in [
        (&one, claims(), true),
        (&other, claims(), true),
        (&one, later, false),
    ] {
        let got = proofs.verify(&sign(key, &head(key), &claims), &request(), at(30));
        assert_eq!(got.is_ok(), wanted, "{got:?}");
    }
}

#[test]
fn a_proof_for_another_method_is_refused() {
    for method in ["GET", "post", "POST ", ""] {
        assert_eq!(
            with("claims", "htm", json!(method)),
            Err(ProofError::WrongMethod)
        );
    }
    assert!(malformed(with("claims", "htm", Value::Null)));
}

#[test]
fn a_proof_for_another_url_is_refused() {
    for url in [
        "http://127.0.0.1:8601/mcp/other",
        "http://127.0.0.1:8601/mcp/files/",
        "https://127.0.0.1:8601/mcp/files",
        "http://127.0.0.1:8602/mcp/files",
        "http://evil.example/mcp/files",
        "/mcp/files",
        "",
    ] {
        assert_eq!(
            with("claims", "htu", json!(url)),
            Err(ProofError::WrongUrl),
            "{url}"
        );
    }
    assert!(
        with(
            "claims",
            "htu",
            json!("HTTP://127.0.0.1:8601/mcp/files?q#f")
        )
        .is_ok()
    );
    assert!(malformed(with("claims", "htu", Value::Null)));
}

#[test]
fn a_proof_for_another_token_is_refused() {
    let other = base64url(&sha256(b"another token"));
    assert_eq!(
        with("claims", "ath", json!(other)),
        Err(ProofError::WrongToken)
    );
    let padded = format!("{}=", base64url(&sha256(TOKEN.as_bytes())));
    assert_eq!(
        with("claims", "ath", json!(padded)),
        Err(ProofError::WrongToken)
    );
    assert!(malformed(with("claims", "ath", Value::Null)));
}

#[test]
fn a_proof_is_good_for_a_minute() {
    for (iat, wanted) in [
        (NOW - 60, Ok(())),
        (NOW - 61, Err(ProofError::TooOld)),
        (NOW + 5, Ok(())),
        (NOW + 6, Err(ProofError::FromTheFuture)),
    ] {
        assert_eq!(with("claims", "iat", json!(iat)).map(drop), wanted, "{iat}");
    }
    for bad in [Value::Null, json!("now"), json!(-1), json!(1e300)] {
        assert!(malformed(with("claims", "iat", bad)));
    }
    assert_eq!(with("claims", "exp", json!(NOW)), Err(ProofError::TooOld));
    assert_eq!(
        with("claims", "nbf", json!(NOW + 6)),
        Err(ProofError::FromTheFuture)
    );
}

#[test]
fn alg_none_hs256_and_others_are_refused() {
    for alg in [
        "none", "HS256", "RS256", "ES384", "ES256K", "es256", "EdDSA", "",
    ] {
        assert_eq!(
            with("header", "alg", json!(alg)),
            Err(ProofError::WrongAlgorithm),
            "{alg}"
        );
    }
    assert!(malformed(with("header", "alg", Value::Null)));
    let key = SigningKey::generate().unwrap();
    let proof = sign(&key, &head(&key), &claims());
    let (signed, _) = proof.rsplit_once('.').unwrap();
    assert!(malformed(check(&format!("{signed}."))));
}

#[test]
fn a_symmetric_key_in_the_header_is_refused() {
    let jwk = json!({ "kty": "oct", "k": "c2VjcmV0" });
    assert!(matches!(
        with("header", "jwk", jwk),
        Err(ProofError::Key(InvalidKey::Private("k")))
    ));
}

#[test]
fn a_private_key_in_the_header_is_refused() {
    let key = SigningKey::generate().unwrap();
    let mut head = head(&key);
    head["jwk"]["d"] = json!("AAAA");
    let refused = check(&sign(&key, &head, &claims()));
    assert_eq!(refused, Err(ProofError::Key(InvalidKey::Private("d"))));
}

#[test]
fn a_wrong_type_is_refused() {
    for typ in ["JWT", "at+jwt", "DPOP+JWT", "application/dpop+jwt"] {
        assert_eq!(
            with("header", "typ", json!(typ)),
            Err(ProofError::WrongType),
            "{typ}"
        );
    }
    assert_eq!(
        with("header", "typ", Value::Null),
        Err(ProofError::WrongType)
    );
}

#[test]
fn extensions_and_pointers_are_refused() {
    for name in ["crit", "b64", "jku", "x5u", "x5c"] {
        let refused = with("header", name, json!(["b64"]));
        assert_eq!(
            refused,
            Err(ProofError::Malformed(Malformed::RefusedParameter(name)))
        );
    }
}

#[test]
fn members_that_stand_twice_are_refused() {
    let key = SigningKey::generate().unwrap();
    let twice = |json: &Value, more: &str| json.to_string().replacen('{', more, 1);
    for more in [
        "{\"alg\":\"none\",",
        "{\"x\":1,\"x\":1,",
        "{\"\\u0061lg\":\"none\",",
    ] {
        let head = base64url(twice(&head(&key), more).as_bytes());
        assert!(malformed(check(
            &key.sign(&head, claims().to_string().as_bytes()).unwrap()
        )));
    }
    let payload = twice(&claims(), "{\"htu\":\"http://evil\",");
    assert!(malformed(check(
        &key.sign(&header(&head(&key)), payload.as_bytes()).unwrap()
    )));
    let jwk = twice(&key.public().to_jwk(), "{\"kty\":\"RSA\",");
    let head = format!("{{\"typ\":\"dpop+jwt\",\"alg\":\"ES256\",\"jwk\":{jwk}}}");
    let proof = key
        .sign(&base64url(head.as_bytes()), claims().to_string().as_bytes())
        .unwrap();
    assert!(matches!(
        check(&proof),
        Err(ProofError::Key(InvalidKey::Malformed(_)))
    ));
}

#[test]
fn ids_are_there_and_short() {
    assert!(malformed(with("claims", "jti", Value::Null)));
    assert!(malformed(with("claims", "jti", json!(""))));
    assert!(malformed(with("claims", "jti", json!(7))));
    assert!(malformed(with("claims", "jti", json!("x".repeat(257)))));
    assert!(with("claims", "jti", json!("x".repeat(256))).is_ok());
}

#[test]
fn an_oversized_proof_is_refused() {
    let refused = with("claims", "more", json!("x".repeat(LIMIT)));
    assert_eq!(
        refused,
        Err(ProofError::Malformed(Malformed::TooLong(LIMIT)))
    );
}

#[test]
fn a_second_encoding_is_refused() {
    let key = SigningKey::generate().unwrap();
    let proof = sign(&key, &head(&key), &claims());
    for other in [
        format!("{proof}="),
        format!("{proof} "),
        proof.replacen('.', "=.", 1),
    ] {
        assert!(malformed(check(&other)));
    }
    // The last character of 64 bytes carries four bits that must be zero.
    let last = proof.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet
        .chars()
        .nth(alphabet.find(last).unwrap() + 1)
        .unwrap();
    assert!(malformed(check(&format!(
        "{}{next}",
        &proof[..proof.len() - 1]
    ))));
}

#[test]
fn truncated_proofs_are_refused() {
    let key = SigningKey::generate().unwrap();
    let proof = sign(&key, &head(&key), &claims());
    for length in 0..proof.len() {
        assert!(check(&proof[..length]).is_err());
    }
}

#[test]
fn one_key_cannot_block_another() {
    let (greedy, modest) = (
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap(),
    );
    let proofs = Proofs::new(0);
    let prove = |key: &SigningKey, number: usize| {
        let mut claims = claims();
        claims["jti"] = json!(number.to_string());
        proofs.verify(&sign(key, &head(key), &claims), &request(), at(0))
    };
    let accepted = (0..3000)
        .filter(|number| prove(&greedy, *number).is_ok())
        .count();
    assert!(accepted < 3000, "the memory is bounded");
    assert_eq!(
        prove(&greedy, 0),
        Err(ProofError::Replayed),
        "nothing is forgotten to make room"
    );
    for number in 0..100 {
        assert!(prove(&modest, number).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn mutated_proofs_are_refused(at_byte in 0usize..800, to in 33u8..127) {
        let key = SigningKey::generate().unwrap();
        let mut bytes = sign(&key, &head(&key), &claims()).into_bytes();
        let position = at_byte % bytes.len();
        prop_assume!(bytes[position] != to);
        bytes[position] = to;
        let mutated = String::from_utf8(bytes).unwrap();
        // Even when the key itself changed into another one, nothing was signed with that.
        prop_assert!(check(&mutated).is_err());
    }

    #[test]
    fn never_panics(text in "[A-Za-z0-9_.-]{0,400}") {
        prop_assert!(check(&text).is_err());
    }
}

#[test]
fn a_restart_makes_no_proof_good_again() {
    let key = InstanceKey::generate().unwrap();
    let made = |second: i64| {
        key.sign_dpop("POST", URL, Some(TOKEN), None, at(second), "1")
            .unwrap()
    };
    let (used, new) = (made(0), made(2));
    assert!(Proofs::new(0).verify(&used, &request(), at(0)).is_ok());
    let restarted = Proofs::new(0).since(at(1));
    assert_eq!(
        restarted.verify(&used, &request(), at(2)),
        Err(ProofError::BeforeStart)
    );
    assert!(restarted.verify(&new, &request(), at(2)).is_ok());
}

#[test]
fn where_nonces_are_demanded_a_proof_carries_a_good_one() {
    use crate::nonce::{Demand, Nonces};
    let demand = Demand::default();
    let nonces = |secret: u8| Nonces::new(&[secret; 32], demand.clone());
    let (proofs, key) = (
        Proofs::new(0).with_nonces(nonces(1)),
        InstanceKey::generate().unwrap(),
    );
    let mut number = 0;
    let mut make = |nonce: Option<&str>, second: i64| {
        number += 1;
        let jti = number.to_string();
        key.sign_dpop("POST", URL, Some(TOKEN), nonce, at(second), &jti)
            .unwrap()
    };
    let proof = make(None, 0);
    assert!(!proofs.lacks_nonce(&proof, at(0)));
    assert!(
        proofs.verify(&proof, &request(), at(0)).is_ok(),
        "none is demanded"
    );
    demand.set(true);
    let present = proofs.nonce(at(0)).unwrap();
    let elsewhere = nonces(2).present(at(0)).unwrap();
    let later = nonces(1).present(at(60)).unwrap();
    for wrong in [None, Some(""), Some("x"), Some(&*elsewhere), Some(&*later)] {
        let proof = make(wrong, 0);
        assert!(proofs.lacks_nonce(&proof, at(0)));
        let refused = proofs.verify(&proof, &request(), at(0));
        assert_eq!(refused, Err(ProofError::NonceNeeded), "{wrong:?}");
    }
    let good = make(Some(&present), 0);
    assert!(proofs.verify(&good, &request(), at(0)).is_ok());
    assert_eq!(
        proofs.verify(&good, &request(), at(0)),
        Err(ProofError::Replayed)
    );
    assert!(
        proofs
            .verify(&make(Some(&present), 60), &request(), at(60))
            .is_ok(),
        "a nonce is no ticket for one proof"
    );
    // A proof that was made in advance, for a time that has come: its nonce has gone.
    assert_eq!(
        proofs.verify(&make(Some(&present), 120), &request(), at(120)),
        Err(ProofError::NonceNeeded)
    );
    // What is wrong besides is told first, and a stranger is not asked for a nonce.
    let other = request_of("GET");
    assert_eq!(
        proofs.verify(&make(None, 0), &other, at(0)),
        Err(ProofError::WrongMethod)
    );
    let mut forged = make(None, 0);
    let end = forged.pop();
    forged.push(if end == Some('A') { 'Q' } else { 'A' });
    assert!(matches!(
        proofs.verify(&forged, &request(), at(0)),
        Err(ProofError::BadSignature | ProofError::Malformed(_))
    ));
}

fn request_of(method: &'static str) -> Request<'static> {
    Request {
        method,
        ..request()
    }
}
