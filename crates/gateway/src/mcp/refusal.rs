//! Answers of the gateway itself, as JSON-RPC errors.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use model::{Denial, Rule};
use serde_json::{Value, json};

use super::message::Id;
use crate::pipeline::Denied;
use crate::{Body, full};

/// The upstream did not answer, or not in a way that can be passed on.
pub(crate) const UPSTREAM_FAILED: i64 = 502;
/// The upstream took too long.
pub(crate) const UPSTREAM_TIMEOUT: i64 = 504;

/// A refusal in the protocol's form. Codes of the gateway's own lie outside of the range that
/// JSON-RPC reserves, and are those of HTTP: 403 denied, 429 out of budget, 503 no audit log.
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
            Rule::BudgetExhausted => 429,
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
        let status = if id.is_some() {
            StatusCode::OK
        } else {
            StatusCode::FORBIDDEN
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
        json_response(self.status, self.to_bytes())
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
