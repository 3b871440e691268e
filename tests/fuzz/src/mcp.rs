//! MCP: JSON, messages, headers and streams.

use gateway::mcp::agreement;
use gateway::mcp::message::{self, Id};
use gateway::mcp::raw::Members;
use gateway::mcp::sse::Cutter;
use http::{HeaderMap, HeaderValue};
use model::json::parse;
use serde_json::{Value, json};

use crate::{LIMITS, parts, text};

/// Strict JSON: whatever is accepted means the same to `serde_json`.
pub fn json(bytes: &[u8]) {
    if let Ok(value) = parse(bytes, LIMITS) {
        let lenient: Value = serde_json::from_slice(bytes).expect("stricter, not other");
        assert_eq!(value, lenient);
    }
}

/// JSON-RPC messages of clients, and objects that are looked at without being rewritten.
pub fn message(bytes: &[u8]) {
    let _ = message::read(bytes, LIMITS);
    // What is looked at raw may hold what is no value here, such as numbers out of range.
    if let Ok(members) = Members::read(bytes)
        && let Ok(read) = serde_json::from_slice::<Value>(bytes)
    {
        let written: Value =
            serde_json::from_slice(&members.with(&[])).expect("what was written is read");
        assert_eq!(read, written);
    }
}

/// Server-sent events: bytes pass untouched, however they are cut, but for byte order marks. The first byte says how
/// they are cut.
pub fn event_stream(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else {
        return;
    };
    let mut cutter = Cutter::new(1 << 16);
    let mut out = Vec::new();
    for chunk in bytes.chunks(usize::from(*size).max(1)) {
        cutter.feed(chunk);
        while let Ok(Some(piece)) = cutter.next() {
            out.extend_from_slice(&piece.bytes);
        }
    }
    if let Some(piece) = cutter.rest() {
        out.extend_from_slice(&piece.bytes);
    }
    assert_eq!(without_marks(&out), without_marks(bytes));
}

/// The bytes without byte order marks, also without those that taking one out brings about.
fn without_marks(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    for byte in bytes {
        kept.push(*byte);
        if kept.ends_with(b"\xef\xbb\xbf") {
            kept.truncate(kept.len() - 3);
        }
    }
    kept
}

/// Headers that must agree with the body: whatever passes says the same as the body. The parts are the headers for
/// method and name, and the tool of the body.
pub fn header_agreement(bytes: &[u8]) {
    let [method, name, tool] = parts(bytes);
    let Some(tool) = text(tool) else {
        return;
    };
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
}
