//! What can go wrong between the client and its server, in words for the client and for whoever
//! reads standard error.

use bytes::Bytes;
use serde_json::{Value, json};

use super::message;
use crate::failure::Failure;

/// Why a message could not be carried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// Nobody answered.
    #[error("{what} at {url} cannot be reached: {why}")]
    Unreachable {
        /// Who should have answered, such as `the gateway`.
        what: &'static str,
        /// Where.
        url: String,
        /// The innermost reason.
        why: String,
    },
    /// The answer was a refusal.
    #[error("{what} refused {request} (HTTP {status}): {reason}")]
    Refused {
        /// Who refused.
        what: &'static str,
        /// What was asked for, such as `an access token`.
        request: &'static str,
        /// The HTTP status.
        status: u16,
        /// The reason that it gave.
        reason: String,
        /// What would lift it, if it said so.
        remedy: Option<String>,
    },
    /// The answer was none that this program understands.
    #[error("{what} answered with something unexpected: {why}")]
    Unexpected {
        /// Who answered.
        what: &'static str,
        /// What was wrong with it.
        why: String,
    },
    /// The task has ended, and with it what this connection may do.
    #[error("the task {0} has ended")]
    TaskEnded(model::TaskId),
    /// The server forgot the session, and a new one could not be begun.
    #[error("the server ended the session, and a new one could not be begun: {0}")]
    SessionLost(String),
    /// The answer broke off before it was complete.
    #[error("the answer broke off before it was complete: {0}")]
    BrokenOff(String),
    /// The client has too many requests under way.
    #[error("more than {0} requests at once; wait for answers")]
    TooMany(usize),
}

impl Trouble {
    /// The JSON-RPC error code: outside of the range that JSON-RPC reserves, and that of HTTP, like
    /// the gateway's own.
    fn code(&self) -> i64 {
        match self {
            Self::Unreachable { .. } => 503,
            Self::Refused { .. } | Self::TaskEnded(_) => 403,
            Self::Unexpected { .. } | Self::BrokenOff(_) => 502,
            Self::SessionLost(_) => 404,
            Self::TooMany(_) => 429,
        }
    }

    /// What to do about it.
    pub(super) fn remedy(&self) -> Option<&str> {
        match self {
            Self::Unreachable { .. } => Some(
                "start Sallyport with `sallyport serve`, or correct the instance's URLs; then retry",
            ),
            Self::Refused { remedy, .. } => remedy.as_deref(),
            Self::TaskEnded(_) => Some("restart the connector: it opens a new task"),
            Self::SessionLost(_) => {
                Some("reconnect: a client that initializes again gets a new session")
            }
            Self::Unexpected { .. } | Self::BrokenOff(_) | Self::TooMany(_) => None,
        }
    }

    /// The answer to a request that met it.
    pub(super) fn answer(&self, id: &Value) -> Bytes {
        let mut error = json!({ "code": self.code(), "message": self.to_string() });
        if let Some(remedy) = self.remedy() {
            error["data"] = json!({ "reason": self.to_string(), "remedy": remedy });
        }
        message::error(id, &error)
    }
}

/// At the start there is no client yet that could be answered.
impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        let failure = Self::new(trouble.to_string());
        match trouble.remedy() {
            Some(remedy) => failure.hint(remedy),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_to_do() {
        let trouble = Trouble::Unreachable {
            what: "the gateway",
            url: "http://127.0.0.1:8601/mcp/files".to_owned(),
            why: "connection refused".to_owned(),
        };
        let answer: Value = serde_json::from_slice(&trouble.answer(&json!("a"))).unwrap();
        assert_eq!(answer["id"], "a");
        assert_eq!(answer["error"]["code"], 503);
        assert!(
            answer["error"]["data"]["remedy"]
                .as_str()
                .unwrap()
                .contains("sallyport serve")
        );
        let answer: Value =
            serde_json::from_slice(&Trouble::TooMany(64).answer(&json!(1))).unwrap();
        assert_eq!(answer["error"]["code"], 429);
        assert_eq!(answer["error"].get("data"), None);
    }
}
