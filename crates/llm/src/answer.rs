//! Step 7: the provider's answer, on its way to the agent.

use bytes::Bytes;
use gateway::intake::{Broken, collect};
use gateway::{Body, full};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use model::config::Surface;
use model::record::Ended;
use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::exchange::{Exchange, Stage};
use crate::refusal::{self, Refusal};
use crate::surface::Api;

/// Longest body of an error, in bytes.
const ERROR_BYTES: usize = 64 << 10;

impl Exchange {
    /// Passes on an answer.
    pub(crate) async fn answer(self, response: Response<Incoming>) -> Response<Body> {
        let surface = self.visit.surface();
        let (head, body) = response.into_parts();
        let kind = media_type(&head.headers);
        let passed = passed(&head.headers);
        let outcome = match kind.as_deref() {
            _ if !head.status.is_success() => self.error(head.status, body).await,
            Some("text/event-stream") if self.asked.stream => Ok(self.stream(body)),
            Some("application/json") => self.whole(body).await,
            _ => {
                let reason =
                    "the provider's answer is neither JSON nor the stream that was asked for";
                Err(self.fail(reason))
            }
        };
        let mut response = match outcome {
            Ok(response) => response,
            Err(refusal) => return refusal.response(surface),
        };
        for (name, value) in &passed {
            response.headers_mut().append(name, value.clone());
        }
        response
    }

    /// The provider failed: it is recorded as such, and the agent is told.
    pub(crate) fn fail(mut self, reason: &str) -> Refusal {
        let server = &self.visit.route.server;
        tracing::warn!(target: "upstream", %server, reason, "a provider of models failed");
        let decision = self.account.permit().decision();
        self.account.finish(Ended::UpstreamFailed);
        Refusal::upstream(decision, reason)
    }

    /// Takes in a whole body, unless something ends it before.
    async fn collected(&mut self, body: Incoming, limit: usize) -> Result<Bytes, Incomplete> {
        let signal = self.signal();
        let expiry = self.expires_in();
        tokio::select! {
            biased;
            () = signal.cut() => Err(Incomplete::Cut),
            () = tokio::time::sleep(expiry) => Err(Incomplete::Cut),
            body = collect(body, limit, &self.visit.shared.room) => body.map_err(|broken| {
                Incomplete::Broken(match broken {
                    Broken::TooLong => format!("the provider's answer is longer than {limit} bytes"),
                    Broken::Off => "the provider's answer broke off".to_owned(),
                    Broken::NoRoom => "the gateway holds as many large messages as it may".to_owned(),
                })
            }),
        }
    }

    /// Passes on a JSON body.
    async fn whole(mut self, body: Incoming) -> Result<Response<Body>, Refusal> {
        let limit = self.visit.limits.response_bytes;
        let text = match self.collected(body, limit).await {
            Ok(text) => text,
            Err(Incomplete::Broken(reason)) => return Err(self.fail(&reason)),
            Err(Incomplete::Cut) => {
                let refusal = self.account.cut_off();
                self.account.finish(Ended::Cut);
                return Err(refusal);
            }
        };
        let Some(answer) = read(self.visit.api, &text) else {
            return Err(self.fail("the provider's answer is not JSON"));
        };
        if self.signal().is_cut() {
            let refusal = self.account.cut_off();
            self.account.finish(Ended::Cut);
            return Err(refusal);
        }
        self.account.stage = Stage::Answering;
        self.account.see(&answer, true);
        self.keep(&answer);
        let text = match self.inspect_answer(&text) {
            Ok(None) => text,
            Ok(Some(other)) => other,
            Err(denial) => {
                let decision = self.account.decision();
                self.account.finish(Ended::UpstreamError);
                return Err(Refusal::blocked(decision, denial));
            }
        };
        self.account.pass(&text);
        self.account.finish(Ended::Answered);
        let mut response = Response::new(full(text));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        Ok(response)
    }

    /// Remembers an answer that the provider keeps, so that this task, and no other, may go on with it.
    pub(crate) fn keep(&self, answer: &Value) {
        if self.visit.api != Api::Responses {
            return;
        }
        let answer = answer.get("response").unwrap_or(answer);
        if let Some(id) = answer.get("id").and_then(Value::as_str) {
            let tokens = self.account.meter.reported().unwrap_or_default().total();
            let task = self.visit.caller.task.task().id;
            let server = &self.visit.route.server;
            self.visit.shared.stored.keep(task, server, id, tokens);
        }
    }

    /// Passes on an error, written anew: nothing in it that is between the provider and whoever pays.
    async fn error(
        mut self,
        status: StatusCode,
        body: Incoming,
    ) -> Result<Response<Body>, Refusal> {
        let text = match self.collected(body, ERROR_BYTES).await {
            Ok(text) => text,
            // The status says enough.
            Err(Incomplete::Broken(_)) => Bytes::new(),
            Err(Incomplete::Cut) => {
                let refusal = self.account.cut_off();
                self.account.finish_unused(Ended::Cut);
                return Err(refusal);
            }
        };
        let said: Value = serde_json::from_slice(&text).unwrap_or_default();
        let error = said.get("error").unwrap_or(&said);
        let shown = |name: &str| {
            let text = error.get(name).and_then(Value::as_str)?;
            Some(anonymous(&self.visit.shared.pipeline.shown(text)))
        };
        let surface = self.visit.surface();
        let message = shown("message").unwrap_or_else(|| format!("the provider answers {status}"));
        let kind = shown("type").unwrap_or_else(|| refusal::kind(surface, status).to_owned());
        let document = match surface {
            Surface::OpenAi => json!({ "error": {
                "message": message, "type": kind, "param": shown("param"), "code": shown("code"),
            }}),
            Surface::Anthropic => json!({
                "type": "error", "error": { "type": kind, "message": message },
            }),
        };
        let mut text = Bytes::from(document.to_string());
        match self.inspect_answer(&text) {
            Ok(other) => text = other.unwrap_or(text),
            Err(denial) => {
                let decision = self.account.decision();
                self.account.finish_unused(Ended::UpstreamError);
                return Err(Refusal::blocked(decision, denial));
            }
        }
        self.account.pass(&text);
        self.account.finish_unused(Ended::UpstreamError);
        let mut response = Response::new(full(text));
        *response.status_mut() = status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        Ok(response)
    }
}

/// Why a body is not there as a whole.
enum Incomplete {
    Cut,
    Broken(String),
}

/// Reads an answer as far as it is looked at. The numbers of embeddings are many, and say nothing.
fn read(api: Api, text: &[u8]) -> Option<Value> {
    #[derive(Deserialize)]
    struct Counted {
        #[serde(default)]
        usage: Value,
    }

    match api {
        Api::Embeddings => {
            let counted: Counted = serde_json::from_slice(text).ok()?;
            Some(json!({ "usage": counted.usage }))
        }
        _ => serde_json::from_slice(text).ok().filter(Value::is_object),
    }
}

/// A content type without its parameters, in lower case.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = kind.split(';').next().unwrap_or_default();
    Some(essence.trim().to_ascii_lowercase())
}

/// What of an answer's head the agent gets: limits, and names to ask the provider with.
fn passed(headers: &HeaderMap) -> HeaderMap {
    const NAMES: [&str; 4] = [
        "x-request-id",
        "request-id",
        "openai-processing-ms",
        "retry-after-ms",
    ];
    const BEGINNINGS: [&str; 2] = ["x-ratelimit-", "anthropic-ratelimit-"];
    let is_passed = |name: &HeaderName| {
        let text = name.as_str();
        *name == RETRY_AFTER
            || NAMES.contains(&text)
            || BEGINNINGS
                .iter()
                .any(|beginning| text.starts_with(beginning))
    };
    let passed = headers.iter().filter(|(name, _)| is_passed(name));
    passed
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Text without the names of organisations, projects and accounts.
fn anonymous(text: &str) -> String {
    use std::sync::LazyLock;
    static ACCOUNTS: LazyLock<Regex> = LazyLock::new(|| {
        let pattern =
            r"\b(?:org|proj|user|acct|wrkspc)[-_][A-Za-z0-9*_-]{4,}|\b[sr]k-[A-Za-z0-9*_-]+";
        Regex::new(pattern).expect("a constant that a test compiles")
    });
    ACCOUNTS.replace_all(text, "(withheld)").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_no_account() {
        let text = "Rate limit reached for gpt-4o in organization org-AbC123 (project proj_9xYz) \
                    with key sk-ab***xyz";
        let shown = anonymous(text);
        for secret in ["org-AbC123", "proj_9xYz", "sk-ab"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("gpt-4o"));
    }

    #[test]
    fn heads_tell_limits_and_nothing_of_the_account() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-ratelimit-remaining-tokens", "7"),
            ("anthropic-ratelimit-requests-limit", "8"),
            ("retry-after", "1"),
            ("request-id", "r"),
            ("openai-organization", "org"),
            ("anthropic-organization-id", "org"),
            ("set-cookie", "c"),
            ("www-authenticate", "Bearer"),
            ("content-length", "5"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        assert_eq!(passed(&headers).len(), 4);
    }

    #[test]
    fn embeddings_are_not_read_but_for_their_usage() {
        let text = br#"{"data":[{"embedding":[0.1,0.2]}],"usage":{"prompt_tokens":3}}"#;
        let read = read(Api::Embeddings, text).unwrap();
        assert_eq!(read, json!({"usage": {"prompt_tokens": 3}}));
    }
}
