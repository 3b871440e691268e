//! Playbooks: whatever is read is sound enough to be run dry to an end, and to be read aloud.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::written::playbook(bytes));
