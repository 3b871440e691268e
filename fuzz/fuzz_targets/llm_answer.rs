//! Answers, whole and in events: looked at and counted without a panic, and never without bound.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::models::answer(bytes));
