//! What agents ask of HTTP APIs: a path has one spelling, and what is read of a query is all of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::web::request(bytes));
