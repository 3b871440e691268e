//! Rules of detectors: whatever an operator's file holds, it is refused with a reason or it works.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::written::detector_rules(bytes));
