//! What clients send: whatever arrives is read to its end or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::databases::frontend(bytes));
