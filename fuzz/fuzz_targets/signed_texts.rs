//! Proofs, assertions and keys.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::signed::signed_texts(bytes));
