//! What agents name to the forward proxy: a host and a port that mean one thing to everybody, or nothing.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::web::proxy_target(bytes));
