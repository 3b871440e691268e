//! Webhooks that are registered, and notifications that arrive at one.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::agents::push(bytes));
