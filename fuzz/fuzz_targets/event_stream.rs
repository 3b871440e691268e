//! Server-sent events: bytes pass untouched, however they are cut, but for byte order marks.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::mcp::event_stream(bytes));
