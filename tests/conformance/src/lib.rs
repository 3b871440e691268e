//! What the MCP conformance suite needs to judge the gateway: a server whose answers it knows. The
//! programs beside this library serve it, and put proofs of possession on the suite's requests,
//! which carry none by themselves.

pub mod server;
