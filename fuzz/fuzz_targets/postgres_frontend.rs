//! What clients of PostgreSQL send: whatever arrives is read to its end or refused.
#![no_main]
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use postgres::wire::frontend::Frontend;
use postgres::wire::startup::Startup;

fuzz_target!(|bytes: &[u8]| {
    let _ = Startup::read(bytes);
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(message)) = postgres::wire::next(&mut buffer, 1 << 16) {
        let _ = Frontend::read(&message);
    }
});
