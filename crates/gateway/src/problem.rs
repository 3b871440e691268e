//! Refusals on HTTP: problem details (RFC 9457).

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::pipeline::Denied;
use crate::{Body, full};

/// A refusal that no decision is behind.
#[must_use]
pub fn problem(status: StatusCode, detail: &str, remedy: &str) -> Response<Body> {
    respond(status, &document(status, detail, remedy))
}

/// A denied action: 403, or 503 when the log cannot be written, with the members `decision`, `rule` and
/// `remedy`.
#[must_use]
pub fn denied(denied: &Denied) -> Response<Body> {
    let status = match denied.denial.rule {
        model::Rule::AuditUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        model::Rule::BudgetExhausted => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::FORBIDDEN,
    };
    let mut document = document(status, &denied.denial.reason, &denied.denial.remedy);
    document["rule"] = denied.denial.rule.as_str().into();
    document["decision"] = json!(denied.decision);
    respond(status, &document)
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
fn respond(status: StatusCode, document: &Value) -> Response<Body> {
    let mut response = Response::new(full(document.to_string()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
