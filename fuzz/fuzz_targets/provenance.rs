//! Annotations are read without a panic, and no value that only untrusted content holds is accepted.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::provenance::provenance(bytes));
