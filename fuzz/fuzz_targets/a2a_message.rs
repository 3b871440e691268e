//! What agents send to agents: requests of both bindings and dialects, and the answers to them.
#![no_main]
use a2a::method::Dialect;
use libfuzzer_sys::fuzz_target;
use model::json::Limits;

const LIMITS: Limits = Limits {
    bytes: 1 << 16,
    depth: 32,
};

fuzz_target!(|body: &[u8]| {
    let Ok(mut call) = a2a::request::json_rpc(body, LIMITS) else {
        return;
    };
    let mut other = call.params.clone();
    let first = a2a::message::read(Dialect::V1, &mut call.params);
    let _ = a2a::message::read(Dialect::V03, &mut other);
    if first.is_ok() {
        // What was read is read alike a second time: nothing is left that only the first reader saw.
        a2a::message::mark(&mut call.params, "skill", None);
        let metadata = &call.params["message"]["metadata"];
        assert_eq!(metadata[a2a::message::SKILL], "skill");
    }
});
