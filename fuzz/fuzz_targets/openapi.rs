//! OpenAPI documents: their operations are routes that are written as they are read.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::written::openapi(bytes));
