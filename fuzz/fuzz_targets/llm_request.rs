//! Requests: what is forwarded says what was read, but for what must change.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::models::request(bytes));
