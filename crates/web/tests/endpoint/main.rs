//! The enforcement point for HTTP APIs, in one process with an API that does what it should not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod answers;
mod sockets;
mod stale;
mod streams;
mod support;
