//! Headers that must agree with the body: whatever passes says the same as the body.
#![no_main]
use gateway::mcp::agreement;
use gateway::mcp::message::Id;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|input: (&[u8], &[u8], &str)| {
    let (method, name, tool) = input;
    let mut headers = HeaderMap::new();
    headers.insert(agreement::VERSION, HeaderValue::from_static("2026-07-28"));
    for (header, value) in [(agreement::METHOD, method), (agreement::NAME, name)] {
        let Ok(value) = HeaderValue::from_bytes(value) else {
            return;
        };
        headers.insert(header, value);
    }
    let params = json!({ "name": tool, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {} } });
    let params = params.as_object().expect("an object");
    if agreement::check_modern(&headers, &Id::Number(1), "tools/call", params).is_ok() {
        assert_eq!(method.trim_ascii(), b"tools/call");
        let plain = std::str::from_utf8(name).map(|name| name.trim_matches([' ', '\t']));
        assert!(plain == Ok(tool) || name.trim_ascii().starts_with(b"=?base64?"));
    }
});
