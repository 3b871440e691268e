//! Segments: whatever stands in a file, what can be read of it is read without a panic, and no payload is longer than the file that it is in.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::records::vault_segment(bytes));
