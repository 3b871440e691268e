//! Cedar: compiled or refused with places that lie within it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::written::policies(bytes));
