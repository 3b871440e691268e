//! Tokens of other security systems: their keys, what is signed, and what it claims.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::signed::signal(bytes));
