//! JSON-RPC messages of clients, and objects that are looked at without being rewritten.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::mcp::message(bytes));
