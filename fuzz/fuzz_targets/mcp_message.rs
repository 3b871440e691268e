//! JSON-RPC messages of clients, and objects that are looked at without being rewritten.
#![no_main]
use gateway::mcp::{message, raw::Members};
use libfuzzer_sys::fuzz_target;
use model::json::Limits;

fuzz_target!(|body: &[u8]| {
    let _ = message::read(body, Limits { bytes: 1 << 16, depth: 32 });
    if let Ok(members) = Members::read(body) {
        let again = members.with(&[]);
        let (read, written): (serde_json::Value, serde_json::Value) = (
            serde_json::from_slice(body).expect("it was read"),
            serde_json::from_slice(&again).expect("it was written"),
        );
        assert_eq!(read, written);
    }
});
