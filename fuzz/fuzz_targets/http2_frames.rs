//! Frames of HTTP/2, behind a client's preface: whatever the library makes a request of, what is let through of it has one meaning.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::web::http2_frames(bytes));
