//! Answers of the gateway itself, as JSON-RPC errors.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use model::{Denial, Rule};
use serde_json::{Value, json};

use super::message::Id;
use crate::pace::retry_after;
use crate::pipeline::Denied;
use crate::{Body, full};

/// The upstream did not answer, or not in a way that can be passed on.
pub(crate) const UPSTREAM_FAILED: i64 = 502;
/// The upstream took too long.
pub(crate) const UPSTREAM_TIMEOUT: i64 = 504;

/// A refusal in the protocol's form. Codes of the gateway's own lie outside of the range that
/// JSON-RPC reserves, and are those of HTTP: 403 denied, 429 out of budget or too fast, 503 no audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// The request that it answers, if that could be read.
    pub(crate) id: Option<Id>,
    /// The JSON-RPC error code.
    pub(crate) code: i64,
    /// What is wrong, in words.
    pub(crate) message: String,
    /// More, for programs.
    pub(crate) data: Option<Box<Value>>,
}

impl Refusal {
    /// A refusal without data.
    #[must_use]
    pub(crate) fn new(
        status: StatusCode,
        id: Option<&Id>,
        code: i64,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            id: id.cloned(),
            code,
            message: message.into(),
            data: None,
        }
    }

    /// The refusal of a denied action: HTTP 200, since clients take other statuses for trouble
    /// with the connection; 403 where nothing waits for a JSON-RPC answer.
    #[must_use]
    pub(crate) fn denied(denied: &Denied, id: Option<&Id>) -> Self {
        let code = match denied.denial.rule {
            Rule::BudgetExhausted | Rule::RateLimited => 429,
            Rule::AuditUnavailable => 503,
            _ => 403,
        };
        let mut data = json!({
            "decision": denied.decision.to_string(),
            "rule": denied.denial.rule.as_str(),
            "reason": denied.denial.reason,
            "remedy": denied.denial.remedy,
        });
        if let Some(requested) = &denied.requested {
            data["access_request"] = requested.to_json();
        }
        if let Some(wait) = denied.retry_after {
            data["retry_after"] = wait.as_secs_f64().into();
        }
        let status = match (id, denied.retry_after) {
            (Some(_), _) => StatusCode::OK,
            (None, Some(_)) => StatusCode::TOO_MANY_REQUESTS,
            (None, None) => StatusCode::FORBIDDEN,
        };
        Self {
            status,
            id: id.cloned(),
            code,
            message: denied.denial.reason.clone(),
            data: Some(Box::new(data)),
        }
    }

    /// The upstream failed.
    #[must_use]
    pub(crate) fn upstream(id: Option<&Id>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, id, UPSTREAM_FAILED, message)
    }

    /// The JSON-RPC error.
    #[must_use]
    pub(crate) fn to_json(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(data) = &self.data {
            error["data"] = Value::clone(data);
        }
        json!({ "jsonrpc": "2.0", "id": self.id, "error": error })
    }

    /// The JSON-RPC error as text.
    #[must_use]
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.to_json().to_string().into_bytes()
    }

    /// The HTTP answer.
    #[must_use]
    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = json_response(self.status, self.to_bytes());
        let wait = self
            .data
            .as_ref()
            .and_then(|data| data["retry_after"].as_f64());
        if let Some(wait) = wait.and_then(|wait| Duration::try_from_secs_f64(wait).ok()) {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, retry_after(wait));
        }
        response
    }

    /// What is recorded of a message that did not become an action.
    #[must_use]
    pub(crate) fn as_denial(&self) -> Denial {
        Denial {
            rule: Rule::ProtocolViolation,
            reason: self.message.clone(),
            remedy: "send what the protocol's revision allows, within the gateway's limits"
                .to_owned(),
        }
    }
}

/// An HTTP answer with a JSON body.
pub(crate) fn json_response(status: StatusCode, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
