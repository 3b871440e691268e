//! The enforcement points and the one pipeline that they share.
//!
//! An action takes the same path whatever its protocol: [`pipeline::Pipeline::authenticate`] makes a
//! [`pipeline::Caller`]; the enforcement point says what is attempted; [`pipeline::Pipeline::attempt`]
//! decides and records; only the [`pipeline::Permit`] that it returns lets the enforcement point
//! forward; [`pipeline::Permit::finish`] records what became of it. MCP is here; the other protocols are
//! crates of their own, each a [`front::Door`].

pub mod approvals;
pub mod caller;
pub mod content;
pub mod front;
pub mod inspection;
pub mod intake;
pub mod live;
pub mod mcp;
pub mod metrics;
pub mod outbound;
pub mod pace;
pub mod peer;
pub mod pipeline;
pub mod problem;
pub mod provenance;
pub mod redaction;
pub mod refusals;
pub mod resource;
pub mod risk;
pub mod serve;
pub mod slots;
pub mod sources;
pub mod upstream;

/// The body type of every answer.
pub type Body = http_body_util::combinators::BoxBody<bytes::Bytes, BodyError>;

/// An answer's body broke off: the upstream failed, or the gateway cut it.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off: {0}")]
pub struct BodyError(pub String);

/// Bytes as small hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// How long it is until a moment; nothing when it has passed.
#[must_use]
pub fn wait(until: jiff::Timestamp) -> std::time::Duration {
    let left = until.duration_since(jiff::Timestamp::now());
    std::time::Duration::try_from(left).unwrap_or(std::time::Duration::ZERO)
}

/// The value of a header that stands there once, if it is text.
#[must_use]
pub fn single(headers: &http::HeaderMap, name: impl http::header::AsHeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// The headers that a `Connection` header says are between two neighbours only (RFC 9110 §7.6.1).
#[must_use]
pub fn named_by_connection(headers: &http::HeaderMap) -> Vec<http::HeaderName> {
    headers
        .get_all(http::header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect()
}

/// A body that is already complete.
#[must_use]
pub fn full(bytes: impl Into<bytes::Bytes>) -> Body {
    use http_body_util::BodyExt;
    http_body_util::Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}
