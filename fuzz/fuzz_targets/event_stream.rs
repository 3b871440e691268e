//! Server-sent events: bytes pass untouched, however they are cut, but for byte order marks.
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
    assert_eq!(without_marks(&out), without_marks(bytes));
});

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
