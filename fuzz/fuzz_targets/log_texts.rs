//! What somebody hands to a verifier: verifier keys, checkpoints and proofs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::signed::log_texts(bytes));
