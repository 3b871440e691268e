//! Requests over HTTP/2: what is let through has one host, the one that it named, and means the same when it is sent on over HTTP/1.1.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::web::http2_request(bytes));
