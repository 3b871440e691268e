//! Refusals in the form of the surface, so that the providers' SDKs raise what their users expect.

use std::time::Duration;

use bytes::Bytes;
use gateway::pace::retry_after;
use gateway::pipeline::Denied;
use gateway::{Body, full};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use model::config::Surface;
use model::{DecisionId, Denial, Rule};
use serde_json::{Map, Value, json};

use crate::surface::Api;

/// Tells the SDKs of both surfaces whether to try again by themselves.
static SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Why an agent gets no answer of a provider, or no more of it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", denial.reason)]
pub struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) denial: Denial,
    /// The decision, when one was made.
    pub(crate) decision: Option<DecisionId>,
    /// The parameter of the request that is the reason, if one is.
    pub(crate) parameter: Option<String>,
    /// Whether trying again without a change may help.
    pub(crate) retry: bool,
    /// When, if that is known.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    fn new(status: StatusCode, rule: Rule, reason: impl Into<String>, remedy: &str) -> Self {
        Self {
            status,
            denial: Denial {
                rule,
                reason: reason.into(),
                remedy: remedy.to_owned(),
            },
            decision: None,
            parameter: None,
            retry: false,
            retry_after: None,
        }
    }

    /// The request is not one of this API, or is over a limit.
    pub(crate) fn protocol(status: StatusCode, reason: impl Into<String>, remedy: &str) -> Self {
        Self::new(status, Rule::ProtocolViolation, reason, remedy)
    }

    /// The request is malformed at a parameter.
    pub(crate) fn malformed(parameter: &str, reason: impl Into<String>) -> Self {
        let mut refusal = Self::protocol(StatusCode::BAD_REQUEST, reason, "correct the request");
        refusal.parameter = Some(parameter.to_owned());
        refusal
    }

    /// The grant does not allow a parameter of the request.
    pub(crate) fn not_granted(parameter: &str, reason: impl Into<String>, remedy: &str) -> Self {
        let mut refusal = Self::new(StatusCode::FORBIDDEN, Rule::NotGranted, reason, remedy);
        refusal.parameter = Some(parameter.to_owned());
        refusal
    }

    /// Too much at once; it may be tried again.
    pub(crate) fn busy(status: StatusCode, reason: impl Into<String>, remedy: &str) -> Self {
        let mut refusal = Self::protocol(status, reason, remedy);
        refusal.retry = true;
        refusal
    }

    /// There is no caller.
    pub(crate) fn unauthenticated(status: StatusCode, denial: Denial) -> Self {
        Self {
            status,
            denial,
            decision: None,
            parameter: None,
            retry: false,
            retry_after: None,
        }
    }

    /// A decision to deny, or an action that was cut off.
    pub(crate) fn denied(denied: &Denied) -> Self {
        let status = match denied.denial.rule {
            Rule::AuditUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Rule::BudgetExhausted | Rule::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::FORBIDDEN,
        };
        Self {
            status,
            denial: denied.denial.clone(),
            decision: Some(denied.decision),
            parameter: None,
            retry: denied.denial.rule == Rule::AuditUnavailable || denied.retry_after.is_some(),
            retry_after: denied.retry_after,
        }
    }

    /// What is sent or answered does not pass because of what is in it.
    pub(crate) fn blocked(decision: Option<DecisionId>, denial: Denial) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            denial,
            decision,
            parameter: None,
            retry: false,
            retry_after: None,
        }
    }

    /// The provider gave no answer that can be passed on; it may be tried again, as SDKs do with one that
    /// they cannot reach themselves. Never 401 or 403: those are the gateway's.
    pub(crate) fn upstream(decision: DecisionId, reason: impl Into<String>) -> Self {
        let mut refusal = Self::new(
            StatusCode::BAD_GATEWAY,
            Rule::ProtocolViolation,
            reason,
            "try again later; an operator finds the details in the log",
        );
        refusal.decision = Some(decision);
        refusal.retry = true;
        refusal
    }

    /// Trying again would be in vain.
    pub(crate) fn for_good(mut self) -> Self {
        self.retry = false;
        self
    }

    /// The text for people.
    fn message(&self) -> String {
        let Denial { reason, remedy, .. } = &self.denial;
        match self.decision {
            Some(decision) => format!("{reason}; {remedy} (decision {decision})"),
            None => format!("{reason}; {remedy}"),
        }
    }

    /// The members that both surfaces share, beyond their own.
    fn facts(&self, mut error: Map<String, Value>) -> Map<String, Value> {
        error.insert("rule".to_owned(), self.rule().into());
        error.insert("remedy".to_owned(), self.denial.remedy.clone().into());
        if let Some(decision) = self.decision {
            error.insert("decision".to_owned(), decision.to_string().into());
        }
        error
    }

    fn rule(&self) -> &'static str {
        match self.status {
            StatusCode::BAD_GATEWAY => "upstream_failed",
            _ => self.denial.rule.as_str(),
        }
    }

    /// The error as the surface has it.
    pub(crate) fn document(&self, surface: Surface) -> Value {
        let kind = match (self.denial.rule, surface) {
            // Not a quota that is used up: it passes by itself.
            (Rule::RateLimited, Surface::OpenAi) => "requests",
            _ => kind(surface, self.status),
        };
        match surface {
            Surface::OpenAi => {
                let error = Map::from_iter([
                    ("message".to_owned(), self.message().into()),
                    ("type".to_owned(), kind.into()),
                    ("param".to_owned(), json!(self.parameter)),
                    ("code".to_owned(), self.rule().into()),
                ]);
                json!({ "error": self.facts(error) })
            }
            Surface::Anthropic => {
                let error = Map::from_iter([
                    ("type".to_owned(), kind.into()),
                    ("message".to_owned(), self.message().into()),
                ]);
                json!({ "type": "error", "error": self.facts(error) })
            }
        }
    }

    /// The answer to a request.
    pub(crate) fn response(&self, surface: Surface) -> Response<Body> {
        let mut response = Response::new(full(self.document(surface).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(CONTENT_TYPE, json);
        if !self.retry {
            headers.insert(SHOULD_RETRY.clone(), HeaderValue::from_static("false"));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, retry_after(wait));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
        }
        response
    }

    /// The last event of a stream that is cut.
    pub(crate) fn event(&self, surface: Surface, api: Api) -> Bytes {
        let mut document = self.document(surface);
        if api == Api::Responses {
            let members = [
                ("type", json!("error")),
                ("code", json!(self.rule())),
                ("message", json!(self.message())),
                ("param", Value::Null),
            ];
            for (name, value) in members {
                document[name] = value;
            }
        }
        let named = surface == Surface::Anthropic || api == Api::Responses;
        let name = if named { "event: error\n" } else { "" };
        format!("{name}data: {document}\n\n").into()
    }
}

/// The `type` of an error with this status.
pub(crate) fn kind(surface: Surface, status: StatusCode) -> &'static str {
    match (status.as_u16(), surface) {
        (401, _) => "authentication_error",
        (403, _) => "permission_error",
        (404, _) => "not_found_error",
        (413, Surface::Anthropic) => "request_too_large",
        (429, Surface::OpenAi) => "insufficient_quota",
        (429, Surface::Anthropic) => "rate_limit_error",
        (400..=499, _) => "invalid_request_error",
        (503 | 529, Surface::Anthropic) => "overloaded_error",
        (_, Surface::Anthropic) => "api_error",
        (_, Surface::OpenAi) => "server_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> Refusal {
        Refusal::denied(&Denied {
            decision: DecisionId::new(jiff::Timestamp::UNIX_EPOCH, [0; 10]),
            denial: Denial {
                rule: Rule::NotGranted,
                reason: "no".to_owned(),
                remedy: "ask".to_owned(),
            },
            requested: None,
            retry_after: None,
        })
    }

    #[test]
    fn each_surface_has_its_own_form() {
        let openai = denied().document(Surface::OpenAi);
        assert_eq!(openai["error"]["type"], "permission_error");
        assert_eq!(openai["error"]["code"], "not_granted");
        assert!(openai["error"]["param"].is_null());
        let anthropic = denied().document(Surface::Anthropic);
        assert_eq!(anthropic["type"], "error");
        for error in [&openai["error"], &anthropic["error"]] {
            assert_eq!(error["rule"], "not_granted");
            assert_eq!(error["remedy"], "ask");
            let decision = error["decision"].as_str().unwrap();
            assert!(error["message"].as_str().unwrap().contains(decision));
        }
    }

    #[test]
    fn what_comes_too_soon_may_come_again_and_is_told_when() {
        let refusal = Refusal::denied(&Denied {
            decision: DecisionId::new(jiff::Timestamp::UNIX_EPOCH, [0; 10]),
            denial: Denial {
                rule: Rule::RateLimited,
                reason: "too fast".to_owned(),
                remedy: "wait".to_owned(),
            },
            requested: None,
            retry_after: Some(Duration::from_millis(2_100)),
        });
        for (surface, kind) in [
            (Surface::OpenAi, "requests"),
            (Surface::Anthropic, "rate_limit_error"),
        ] {
            let response = refusal.response(surface);
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(response.headers()[RETRY_AFTER], "3");
            assert!(!response.headers().contains_key(&SHOULD_RETRY));
            let error = &refusal.document(surface)["error"];
            assert_eq!(
                (&error["type"], &error["rule"]),
                (&json!(kind), &json!("rate_limited"))
            );
        }
    }

    #[test]
    fn a_cut_stream_ends_with_an_event_of_its_api() {
        let text = |surface, api| String::from_utf8(denied().event(surface, api).to_vec()).unwrap();
        assert!(text(Surface::OpenAi, Api::Chat).starts_with("data: {\"error\""));
        assert!(text(Surface::OpenAi, Api::Responses).starts_with("event: error\ndata: {"));
        let anthropic = text(Surface::Anthropic, Api::Messages);
        assert!(anthropic.starts_with("event: error\ndata: {\"type\":\"error\""));
        assert!(anthropic.ends_with("}\n\n"));
    }
}
