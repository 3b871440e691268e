//! Statements: whatever is said is understood or refused, and its shape means itself.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::databases::statement(bytes));
