//! What somebody hands to a verifier: verifier keys, checkpoints and proofs.
#![no_main]
use audit::{Checkpoint, InclusionProof, VerifierKey};
use libfuzzer_sys::fuzz_target;

/// The example of C2SP signed-note.
const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

fuzz_target!(|text: &str| {
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
});
