//! What is kept of a ledger, as it was written and with whatever else a disk may hold in its place: a ledger that is made of it knows no more than the one that it was kept of.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::provenance::ledger(bytes));
