//! JSON-RPC messages of clients, and objects that are looked at without being rewritten.
#![no_main]
use gateway::mcp::{message, raw::Members};
use libfuzzer_sys::fuzz_target;
use model::json::Limits;

fuzz_target!(|body: &[u8]| {
    let _ = message::read(
        body,
        Limits {
            bytes: 1 << 16,
            depth: 32,
        },
    );
    // What is looked at raw may hold what is no value here, such as numbers out of range.
    if let Ok(members) = Members::read(body)
        && let Ok(read) = serde_json::from_slice::<serde_json::Value>(body)
    {
        let written: serde_json::Value =
            serde_json::from_slice(&members.with(&[])).expect("what was written is read");
        assert_eq!(read, written);
    }
});
