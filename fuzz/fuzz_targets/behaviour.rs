//! Records in any order and with any content: nothing panics, and what is known can be kept and read back.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::records::behaviour(bytes));
