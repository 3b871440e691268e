//! Certificates of agents: whatever arrives is refused or read, and what is read names one agent in one spelling.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::signed::certificates(bytes));
