//! Messages in both dialects, over both bindings: what was read is read alike a second time, and what a path means is written as that path.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::agents::message(bytes));
