//! What is signed, or claims to be: nothing that was not signed is accepted.

use std::sync::LazyLock;

use audit::{Checkpoint, InclusionProof, VerifierKey};
use identity::dpop::{Proofs, Request};
use identity::svid::Svid;
use identity::{ForeignKeys, PublicKey};
use jiff::Timestamp;
use response::signals::Received;
use serde_json::Value;

use crate::{parts, text};

/// The example of C2SP signed-note.
const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

/// Proofs, assertions and keys.
pub fn signed_texts(bytes: &[u8]) {
    static PROOFS: LazyLock<Proofs> = LazyLock::new(|| Proofs::new(10_000));
    let Some(text) = text(bytes) else { return };
    let now = Timestamp::from_second(1_800_000_000).expect("in range");
    let request = Request {
        method: "POST",
        url: "http://127.0.0.1:8601/mcp/a",
        access_token: Some("t"),
    };
    let _ = PROOFS.verify(text, &request, now);
    let _ = identity::assertion::unverified_subject(text);
    if let Ok(key) = PublicKey::parse_jwk(text) {
        let _ = key.thumbprint();
    }
}

/// What somebody hands to a verifier: verifier keys, checkpoints and proofs.
pub fn log_texts(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let key: VerifierKey = KEY.parse().expect("a key");
    assert_eq!(key.to_string(), KEY);
    let _ = Checkpoint::verify(text, &key);
    if let Ok(read) = text.parse::<VerifierKey>() {
        assert_eq!(read.to_string(), text.trim());
    }
    if let Ok(proof) = text.parse::<InclusionProof>() {
        let again: InclusionProof = proof.to_string().parse().expect("what was written is read");
        assert_eq!(again.to_string(), proof.to_string());
    }
}

/// Tokens of other security systems: their keys, what is signed, and what it claims. What is understood of it is
/// written as it is read.
pub fn signal(bytes: &[u8]) {
    let [set, token, claims] = parts(bytes);
    if let (Ok(keys), Some(token)) = (ForeignKeys::read(set), text(token)) {
        // Nobody has the keys of these sets.
        assert!(keys.claims(token, "secevent+jwt").is_err());
    }
    let Ok(claims) = serde_json::from_slice::<Value>(claims) else {
        return;
    };
    let (issuer, audience) = ("https://idp.example", "https://sallyport.example");
    let now = Timestamp::from_second(1_800_000_000).expect("in range");
    let Ok(received) = Received::read(&claims, issuer, audience, now) else {
        return;
    };
    assert!(
        !received.jti.is_empty() && received.issued_at <= now + jiff::SignedDuration::from_secs(60)
    );
    for event in &received.events {
        let subject = event.subject.to_json();
        let again = response::signals::Subject::read(&subject);
        assert_eq!(again.as_ref(), Ok(&event.subject));
    }
}

/// Certificates of agents: whatever arrives is refused or read, and what is read names one agent in one spelling.
pub fn certificates(bytes: &[u8]) {
    if let Ok(svid) = Svid::read(bytes) {
        let id = svid.trust_domain.agent(&svid.agent);
        assert_eq!(svid.trust_domain.agent_of(id.as_str()), Some(svid.agent));
    }
}
