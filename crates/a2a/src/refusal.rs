//! Answers of the gateway itself: JSON-RPC errors, or the errors of the HTTP+JSON binding.

use std::time::Duration;

use bytes::Bytes;
use gateway::mcp::message::Id;
use gateway::pipeline::Denied;
use gateway::{Body, full};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use model::{Denial, Rule};
use serde_json::{Value, json};

use crate::method::Dialect;

/// The member of a denial's data that says so; text, as all of the metadata of an `ErrorInfo` is.
const RETRY_AFTER_SECONDS: &str = "retry_after";

/// What is wrong (1.0, §5.4; JSON-RPC 2.0, §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The body is not JSON.
    Parse,
    /// It is no request.
    InvalidRequest,
    /// There is no such method.
    MethodNotFound,
    /// Its parameters are not acceptable.
    InvalidParams,
    /// There is no such task for this caller.
    TaskNotFound,
    /// Push notifications are not offered.
    PushNotSupported,
    /// The operation is not offered.
    Unsupported,
    /// The upstream's answer is none.
    InvalidAnswer,
    /// The version is not spoken.
    Version,
    /// A limit is reached for now.
    TooMany,
    /// The action was denied.
    Denied(Rule),
}

impl Fault {
    /// The JSON-RPC code, the HTTP status, the gRPC status and the reason.
    fn forms(self) -> (i64, StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::Parse => (-32700, S::BAD_REQUEST, "INVALID_ARGUMENT", "PARSE_ERROR"),
            Self::InvalidRequest => (
                -32600,
                S::BAD_REQUEST,
                "INVALID_ARGUMENT",
                "INVALID_REQUEST",
            ),
            Self::MethodNotFound => (-32601, S::NOT_FOUND, "NOT_FOUND", "METHOD_NOT_FOUND"),
            Self::InvalidParams => (-32602, S::BAD_REQUEST, "INVALID_ARGUMENT", "INVALID_PARAMS"),
            Self::TaskNotFound => (-32001, S::NOT_FOUND, "NOT_FOUND", "TASK_NOT_FOUND"),
            Self::PushNotSupported => (
                -32003,
                S::BAD_REQUEST,
                "FAILED_PRECONDITION",
                "PUSH_NOTIFICATION_NOT_SUPPORTED",
            ),
            Self::Unsupported => (
                -32004,
                S::BAD_REQUEST,
                "FAILED_PRECONDITION",
                "UNSUPPORTED_OPERATION",
            ),
            Self::InvalidAnswer => (-32006, S::BAD_GATEWAY, "INTERNAL", "INVALID_AGENT_RESPONSE"),
            Self::Version => (
                -32009,
                S::BAD_REQUEST,
                "FAILED_PRECONDITION",
                "VERSION_NOT_SUPPORTED",
            ),
            Self::TooMany => (
                429,
                S::TOO_MANY_REQUESTS,
                "RESOURCE_EXHAUSTED",
                "TOO_MANY_REQUESTS",
            ),
            Self::Denied(Rule::BudgetExhausted) => (
                429,
                S::TOO_MANY_REQUESTS,
                "RESOURCE_EXHAUSTED",
                "BUDGET_EXHAUSTED",
            ),
            Self::Denied(Rule::RateLimited) => (
                429,
                S::TOO_MANY_REQUESTS,
                "RESOURCE_EXHAUSTED",
                "RATE_LIMITED",
            ),
            Self::Denied(Rule::AuditUnavailable) => (
                503,
                S::SERVICE_UNAVAILABLE,
                "UNAVAILABLE",
                "AUDIT_UNAVAILABLE",
            ),
            Self::Denied(_) => (403, S::FORBIDDEN, "PERMISSION_DENIED", "DENIED"),
        }
    }
}

/// A refusal, before it has the form of a binding.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What is wrong.
    pub fault: Fault,
    /// In words.
    pub message: String,
    /// More, for programs: of a denial the decision, the rule and the remedy.
    pub data: Option<Box<Value>>,
    /// Whether the log has it already.
    pub recorded: bool,
}

impl Refusal {
    /// A refusal without data, which is not recorded yet.
    #[must_use]
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self {
            fault,
            message: message.into(),
            data: None,
            recorded: false,
        }
    }

    /// The refusal of a denied action.
    #[must_use]
    pub fn denied(denied: &Denied) -> Self {
        let mut data = json!({
            "decision": denied.decision.to_string(),
            "rule": denied.denial.rule.as_str(),
            "remedy": denied.denial.remedy,
        });
        if let Some(wait) = denied.retry_after {
            data[RETRY_AFTER_SECONDS] = wait.as_secs_f64().to_string().into();
        }
        Self {
            fault: Fault::Denied(denied.denial.rule),
            message: denied.denial.reason.clone(),
            data: Some(Box::new(data)),
            recorded: true,
        }
    }

    /// How long until the same may pass, where waiting is all that it takes.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.data.as_ref()?.get(RETRY_AFTER_SECONDS)?.as_str()?;
        Duration::try_from_secs_f64(seconds.parse().ok()?).ok()
    }

    /// A denial that no decision is behind.
    #[must_use]
    pub fn by_rule(denial: &Denial) -> Self {
        Self {
            fault: Fault::Denied(denial.rule),
            message: denial.reason.clone(),
            data: Some(Box::new(json!({
                "rule": denial.rule.as_str(),
                "remedy": denial.remedy,
            }))),
            recorded: false,
        }
    }

    /// A refusal of something that a permit was there for: its record says how it ended.
    #[must_use]
    pub fn of_permitted(fault: Fault, message: impl Into<String>) -> Self {
        Self {
            recorded: true,
            ..Self::new(fault, message)
        }
    }

    /// The same, with data.
    #[must_use]
    pub fn with(mut self, data: Value) -> Self {
        self.data = Some(Box::new(data));
        self
    }

    /// What is recorded of a request that did not become an action.
    #[must_use]
    pub fn as_denial(&self) -> Denial {
        let rule = match self.fault {
            Fault::Denied(rule) => rule,
            _ => Rule::ProtocolViolation,
        };
        Denial {
            rule,
            reason: self.message.clone(),
            remedy: "send what the protocol allows, within the gateway's limits".to_owned(),
        }
    }

    /// The details in the form of a dialect: an object, or a list of typed details (1.0, §5.4).
    fn details(&self, dialect: Dialect) -> Option<Value> {
        let (.., reason) = self.fault.forms();
        match dialect {
            Dialect::V03 => self.data.as_deref().cloned(),
            Dialect::V1 => {
                // Errors of the protocol keep its domain; what only this gateway says has its own.
                let domain = match self.fault {
                    Fault::Denied(_) | Fault::TooMany => "sallyport",
                    _ => "a2a-protocol.org",
                };
                let metadata = self.data.as_deref().cloned().unwrap_or_else(|| json!({}));
                Some(json!([{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": reason,
                    "domain": domain,
                    "metadata": metadata,
                }]))
            }
        }
    }

    /// The JSON-RPC error.
    #[must_use]
    pub fn json_rpc(&self, id: Option<&Id>, dialect: Dialect) -> Value {
        let (code, ..) = self.fault.forms();
        let mut error = json!({ "code": code, "message": self.message });
        if let Some(details) = self.details(dialect) {
            error["data"] = details;
        }
        json!({ "jsonrpc": "2.0", "id": id, "error": error })
    }

    /// The error of the HTTP+JSON binding (1.0, §11.6).
    #[must_use]
    pub fn rest(&self) -> Value {
        let (_, status, grpc, _) = self.fault.forms();
        json!({ "error": {
            "code": status.as_u16(),
            "status": grpc,
            "message": self.message,
            "details": self.details(Dialect::V1),
        } })
    }

    /// The status of the HTTP+JSON binding.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.fault.forms().1
    }
}

/// An HTTP answer with a JSON body.
#[must_use]
pub fn json_response(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
