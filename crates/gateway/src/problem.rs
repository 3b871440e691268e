//! Refusals on HTTP: problem details (RFC 9457), marked as the gateway's own (RFC 9209): what looks like
//! one and has no such mark is somebody else's.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use model::Denial;
use serde_json::{Value, json};

use crate::pace::retry_after;
use crate::pipeline::Denied;
use crate::{Body, full};

/// Says which part of the way an answer comes from (RFC 9209). Servers cannot set it on what passes.
pub static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// A refusal that no decision is behind.
#[must_use]
pub fn problem(status: StatusCode, detail: &str, remedy: &str) -> Response<Body> {
    let error = match status {
        _ if status.is_client_error() => "http_request_error",
        _ => "proxy_internal_error",
    };
    respond(status, &document(status, detail, remedy), error)
}

/// There is no answer of the server that could be passed on; `error` is the type of error of RFC 9209.
#[must_use]
pub fn unanswered(detail: &str, remedy: &str, error: &'static str) -> Response<Body> {
    let status = StatusCode::BAD_GATEWAY;
    respond(status, &document(status, detail, remedy), error)
}

/// A refusal by a rule that no decision is behind, with the members `rule` and `remedy`.
#[must_use]
pub fn refused(status: StatusCode, denial: &Denial) -> Response<Body> {
    let mut document = document(status, &denial.reason, &denial.remedy);
    document["rule"] = denial.rule.as_str().into();
    respond(status, &document, "http_request_denied")
}

/// A denied action: 403, or 503 when the log cannot be written, with the members `decision`, `rule` and
/// `remedy`, and `access_request` where a person could approve it.
#[must_use]
pub fn denied(denied: &Denied) -> Response<Body> {
    let status = match denied.denial.rule {
        model::Rule::AuditUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        model::Rule::BudgetExhausted | model::Rule::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::FORBIDDEN,
    };
    let mut document = document(status, &denied.denial.reason, &denied.denial.remedy);
    document["rule"] = denied.denial.rule.as_str().into();
    document["decision"] = json!(denied.decision);
    if let Some(requested) = &denied.requested {
        document["access_request"] = requested.to_json();
    }
    let mut response = respond(status, &document, "http_request_denied");
    if let Some(wait) = denied.retry_after {
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, retry_after(wait));
    }
    response
}

/// A request that is put off: 429 with `Retry-After`, and the members of [`refused`].
#[must_use]
pub fn put_off(denial: &Denial, wait: Duration) -> Response<Body> {
    let mut response = refused(StatusCode::TOO_MANY_REQUESTS, denial);
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, retry_after(wait));
    response
}

/// The mark of an answer that the gateway passes on from a server that refused or failed, so that it
/// cannot look like the gateway's own refusal.
#[must_use]
pub fn received(status: StatusCode) -> HeaderValue {
    let text = format!("sallyport; received-status={}", status.as_u16());
    HeaderValue::try_from(text).expect("digits and letters are a header's value")
}

fn document(status: StatusCode, detail: &str, remedy: &str) -> Value {
    json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("refused"),
        "status": status.as_u16(),
        "detail": detail,
        "remedy": remedy,
    })
}

/// A document of this type.
fn respond(status: StatusCode, document: &Value, error: &str) -> Response<Body> {
    let mut response = Response::new(full(document.to_string()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/problem+json");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    if let Ok(mark) = HeaderValue::try_from(format!("sallyport; error={error}")) {
        headers.insert(PROXY_STATUS.clone(), mark);
    }
    response
}
