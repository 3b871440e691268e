//! Strict JSON: whatever is accepted means the same to `serde_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::mcp::json(bytes));
