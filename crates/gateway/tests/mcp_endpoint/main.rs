//! The MCP enforcement point, called from outside over HTTP, in front of a double of an MCP server.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test fails where something is not as it says"
)]

mod approvals;
mod attacks;
mod ending;
mod hostile;
mod legacy;
mod modern;
mod nonces;
mod provenance;
mod rates;
mod support;
