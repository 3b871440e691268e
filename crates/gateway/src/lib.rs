//! The enforcement points and the one pipeline that they share.
//!
//! An action takes the same path whatever its protocol: [`pipeline::Pipeline::authenticate`] makes a
//! [`pipeline::Caller`]; the enforcement point says what is attempted; [`pipeline::Pipeline::attempt`]
//! decides and records; only the [`pipeline::Permit`] that it returns lets the enforcement point
//! forward; [`pipeline::Permit::finish`] records what became of it. MCP is here; the other protocols are
//! crates of their own, each a [`front::Door`].

pub mod caller;
pub mod front;
pub mod intake;
pub mod live;
pub mod mcp;
pub mod metrics;
pub mod pipeline;
pub mod problem;
pub mod provenance;
pub mod redaction;
pub mod refusals;
pub mod resource;
pub mod serve;
pub mod slots;
pub mod upstream;

/// The body type of every answer.
pub type Body = http_body_util::combinators::BoxBody<bytes::Bytes, BodyError>;

/// An answer's body broke off: the upstream failed, or the gateway cut it.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off: {0}")]
pub struct BodyError(pub String);

/// A body that is already complete.
#[must_use]
pub fn full(bytes: impl Into<bytes::Bytes>) -> Body {
    use http_body_util::BodyExt;
    http_body_util::Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}
