//! Server-sent events: bytes pass untouched, however they are cut.
#![no_main]
use gateway::mcp::sse::Cutter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let mut cutter = Cutter::new(1 << 16);
    let mut out = Vec::new();
    for chunk in bytes.chunks(usize::from(size).max(1)) {
        cutter.feed(chunk);
        while let Ok(Some(piece)) = cutter.next() {
            out.extend_from_slice(&piece.bytes);
        }
    }
    if let Some(piece) = cutter.rest() {
        out.extend_from_slice(&piece.bytes);
    }
    assert_eq!(out, bytes);
});
