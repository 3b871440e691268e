//! Refusals of the proxy. Most clients show nothing of the answer to a CONNECT but its status line, so the
//! reason stands there too.

use gateway::Body;
use gateway::problem::{PROXY_STATUS, refused};
use http::header::CONNECTION;
use http::{HeaderValue, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use model::{Denial, Rule};

use super::target::Target;

/// Longest reason in a status line, in characters.
const PHRASE: usize = 200;

/// Why a request goes no further.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    pub(super) denial: Denial,
    /// The type of the error (RFC 9209 §2.3).
    error: &'static str,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        rule: Rule,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            status,
            denial: Denial {
                rule,
                reason: reason.into(),
                remedy: remedy.into(),
            },
            error: "http_request_denied",
        }
    }

    /// It is not a request that a proxy gets.
    pub(super) fn malformed(reason: impl Into<String>, remedy: &str) -> Self {
        Self {
            error: "http_request_error",
            ..Self::new(
                StatusCode::BAD_REQUEST,
                Rule::ProtocolViolation,
                reason,
                remedy,
            )
        }
    }

    /// There is no server there, or none that the task grants.
    pub(super) fn nothing_at(target: &Target) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            Rule::ServerNotGranted,
            format!("the task grants no server at `{target}`"),
            "open a task from a template that grants the API there; an operator adds it as a server of \
             the kind http with exactly this host and port",
        )
    }

    /// The task has as many tunnels as it may.
    pub(super) fn too_many(most: usize) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            Rule::ProtocolViolation,
            format!("the task has {most} tunnels open, as many as it may"),
            "close some, or use one for several requests",
        )
    }

    /// There are as many tunnels as there may be.
    pub(super) fn no_room() -> Self {
        Self {
            error: "connection_limit_reached",
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Rule::ProtocolViolation,
                "the proxy has as many tunnels open as it may",
                "try again later",
            )
        }
    }

    /// The server cannot be reached.
    pub(super) fn unreachable(reason: &str) -> Self {
        Self {
            error: "destination_unavailable",
            ..Self::new(
                StatusCode::BAD_GATEWAY,
                Rule::ProtocolViolation,
                reason,
                "try again later, or tell the operator; the audit log names the request",
            )
        }
    }

    /// The answer.
    pub(super) fn response(&self) -> Response<Body> {
        told(
            refused(self.status, &self.denial),
            &self.denial.reason,
            self.error,
        )
    }
}

/// Says a denied action's reason in the status line too.
pub(super) fn denied(denied: &gateway::pipeline::Denied) -> Response<Body> {
    told(
        gateway::problem::denied(denied),
        &denied.denial.reason,
        "http_request_denied",
    )
}

fn told(mut response: Response<Body>, reason: &str, error: &str) -> Response<Body> {
    let plain = |c: char| if c.is_ascii_graphic() { c } else { ' ' };
    let phrase: String = reason.chars().take(PHRASE).map(plain).collect();
    let details = phrase.replace(['"', '\\'], "'");
    let status = format!("sallyport; error={error}; details=\"{details}\"");
    if let Ok(value) = HeaderValue::try_from(status) {
        response.headers_mut().insert(PROXY_STATUS.clone(), value);
    }
    if let Ok(phrase) = ReasonPhrase::try_from(phrase) {
        response.extensions_mut().insert(phrase);
    }
    response
}

/// An answer to a CONNECT, after which nothing comes on the connection unless it is a tunnel now.
pub(super) fn ended(mut answer: Response<Body>) -> Response<Body> {
    if !answer.status().is_success() {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
    }
    answer
}
