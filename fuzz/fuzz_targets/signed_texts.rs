//! Proofs, assertions and tokens: nothing that was not signed is accepted.
#![no_main]
use identity::PublicKey;
use identity::dpop::{Proofs, Request};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

fuzz_target!(|text: &str| {
    static PROOFS: OnceLock<Proofs> = OnceLock::new();
    let proofs = PROOFS.get_or_init(|| Proofs::new(10_000));
    let now = Timestamp::from_second(1_800_000_000).expect("in range");
    let request = Request {
        method: "POST",
        url: "http://127.0.0.1:8601/mcp/a",
        access_token: Some("t"),
    };
    let _ = proofs.verify(text, &request, now);
    let _ = identity::assertion::unverified_subject(text);
    if let Ok(key) = PublicKey::parse_jwk(text) {
        let _ = key.thumbprint();
    }
});
