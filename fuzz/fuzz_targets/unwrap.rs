//! Texts inside texts: the bounds hold, and what is found lies in the text.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::contents::unwrap(bytes));
