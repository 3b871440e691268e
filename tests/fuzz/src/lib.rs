//! What the fuzz targets check: whatever bytes arrive, nothing panics, and what is said here holds. Each check takes
//! bytes; a target in `fuzz/` gives it any, and a test here those of its corpus.

pub mod agents;
pub mod contents;
pub mod databases;
pub mod mcp;
pub mod models;
pub mod provenance;
pub mod records;
pub mod signed;
pub mod web;
pub mod written;

use model::json::Limits;

/// A check.
pub type Check = fn(&[u8]);

/// All checks, by the names of their targets and of their corpora.
pub const ALL: &[(&str, Check)] = &[
    ("a2a_answer", agents::answer),
    ("a2a_card", agents::card),
    ("a2a_message", agents::message),
    ("a2a_push", agents::push),
    ("behaviour", records::behaviour),
    ("certificates", signed::certificates),
    ("configuration", written::configuration),
    ("content", contents::content),
    ("detector_rules", written::detector_rules),
    ("event_stream", mcp::event_stream),
    ("header_agreement", mcp::header_agreement),
    ("http2_frames", web::http2_frames),
    ("http2_request", web::http2_request),
    ("json", mcp::json),
    ("ledger", provenance::ledger),
    ("llm_answer", models::answer),
    ("llm_request", models::request),
    ("log_texts", signed::log_texts),
    ("mcp_message", mcp::message),
    ("openapi", written::openapi),
    ("path_constraint", web::path_constraint),
    ("playbook", written::playbook),
    ("policies", written::policies),
    ("postgres_backend", databases::backend),
    ("postgres_frontend", databases::frontend),
    ("postgres_statement", databases::statement),
    ("provenance", provenance::provenance),
    ("proxy_target", web::proxy_target),
    ("signal", signed::signal),
    ("signed_texts", signed::signed_texts),
    ("unwrap", contents::unwrap),
    ("vault_segment", records::vault_segment),
    ("web_request", web::request),
];

/// How much JSON is read: enough for everything that a fuzzer makes.
const LIMITS: Limits = Limits {
    bytes: 1 << 16,
    depth: 32,
};

/// The parts of an input that has several, which a line with nothing but `---` divides; what is missing is empty.
fn parts<const COUNT: usize>(bytes: &[u8]) -> [&[u8]; COUNT] {
    const DIVIDER: &[u8] = b"\n---\n";
    let mut parts = [&bytes[..0]; COUNT];
    let mut rest = bytes;
    for (at, part) in parts.iter_mut().enumerate() {
        let end = rest
            .windows(DIVIDER.len())
            .position(|window| window == DIVIDER)
            .filter(|_| at + 1 < COUNT);
        *part = &rest[..end.unwrap_or(rest.len())];
        rest = end.map_or(&rest[rest.len()..], |end| &rest[end + DIVIDER.len()..]);
    }
    parts
}

/// The text that bytes are.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
