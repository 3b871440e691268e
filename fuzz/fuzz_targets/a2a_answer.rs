//! Answers and events: whatever is passed on is an object, and ids are given to nobody else.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::agents::answer(bytes));
