//! What databases send: messages, errors and values of every type.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::databases::backend(bytes));
