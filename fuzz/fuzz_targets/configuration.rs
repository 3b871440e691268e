//! The configuration and templates.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::written::configuration(bytes));
