//! Paths: what is accepted below a folder is below it for every reader.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::web::path_constraint(bytes));
