//! Headers that must agree with the body: whatever passes says the same as the body.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::mcp::header_agreement(bytes));
