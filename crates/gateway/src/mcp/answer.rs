//! From the permit to the answer: the request leaves, and the head of what comes back says how it
//! is passed on.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use model::record::Ended;

use super::agreement::SESSION;
use super::exchange::{Call, Exchange};
use super::forward::{self, Lost};
use super::inspect::Seen;
use super::intake;
use super::raw::Members;
use super::refusal::{Refusal, UPSTREAM_FAILED, UPSTREAM_TIMEOUT, json_response};
use super::relay::Head;
use super::revision::Method;
use crate::pipeline::Denied;
use crate::upstream::{Outgoing, UpstreamError};
use crate::{Body, full};

/// Longest body of an HTTP error that is looked at, in bytes.
const ERROR_BYTES: usize = 1 << 20;

impl Exchange {
    /// Sends the request and passes on the answer. `first` are events that come before those of
    /// the upstream, if it answers with a stream.
    ///
    /// # Errors
    /// A [`Refusal`] to answer with; what became of the calls is recorded.
    pub(super) async fn carry_out(
        mut self: Box<Self>,
        outgoing: Outgoing,
        first: Vec<Bytes>,
    ) -> Result<Response<Body>, Refusal> {
        let mut leave = Vec::with_capacity(1);
        let permits = self.calls.iter_mut().flat_map(|call| &mut call.permits);
        for permit in permits.chain(&mut self.others) {
            match permit.dispatch() {
                Ok(dispatch) => leave.push(dispatch),
                Err(denied) => {
                    drop(leave);
                    return Err(self.not_forwarded(&denied));
                }
            }
        }
        let Some(upstream) = self.shared.upstreams.get(&self.server) else {
            return Err(self.fail("the server is not connected"));
        };
        if let Some(session) = &self.session {
            for call in &self.calls {
                session.sent(call.id.clone(), call.method);
            }
        }
        let signal = self.caller.signal();
        match forward::send(&upstream, outgoing, leave, &signal).await {
            Ok(response) => self.answer(response, first).await,
            Err(Lost::Cut) => Err(self.cut()),
            Err(Lost::Upstream(error)) => Err(self.lost(&error)),
        }
    }

    fn not_forwarded(&mut self, denied: &Denied) -> Refusal {
        let id = self.calls.first().map(|call| call.id.clone());
        self.abandon(Ended::NotForwarded, Call::cut_off);
        Refusal::denied(denied, id.as_ref())
    }

    /// The texts of these errors are fit for agents: they say nothing of where the server is.
    fn lost(&mut self, error: &UpstreamError) -> Refusal {
        let (status, code) = match error {
            UpstreamError::Timeout => (StatusCode::GATEWAY_TIMEOUT, UPSTREAM_TIMEOUT),
            UpstreamError::TooMany(_) | UpstreamError::Disabled => {
                (StatusCode::SERVICE_UNAVAILABLE, UPSTREAM_FAILED)
            }
            UpstreamError::Unreachable(_) | UpstreamError::Stale | UpstreamError::Protocol(_) => {
                (StatusCode::BAD_GATEWAY, UPSTREAM_FAILED)
            }
        };
        tracing::warn!(server = %self.server, %error, "an MCP server did not answer");
        let id = self.calls.first().map(|call| call.id.clone());
        let refusal = Refusal::new(status, id.as_ref(), code, error.to_string());
        self.abandon(Ended::UpstreamFailed, |call| Refusal {
            id: Some(call.id.clone()),
            ..refusal.clone()
        });
        refusal
    }

    async fn answer(
        mut self: Box<Self>,
        response: Response<Body>,
        first: Vec<Bytes>,
    ) -> Result<Response<Body>, Refusal> {
        let (parts, body) = response.into_parts();
        let kind = parts
            .headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default();
        if !parts.status.is_success() {
            // Rare, and it would make room for itself in every other answer.
            return Box::pin(self.http_error(parts.status, body)).await;
        }
        let mut head = Head::default();
        if self
            .calls
            .iter()
            .any(|call| call.method == Method::Initialize)
        {
            head.session = Some(self.begin_session(parts.headers.get(SESSION))?);
        }
        if intake::is(kind, "text/event-stream") {
            let limit = self.limits.streams_per_task;
            if self.slot.is_none() {
                let task = self.caller.task.task().id;
                self.slot = self.shared.slots.take(task, limit);
            }
            if self.slot.is_none() {
                let id = self.calls.first().map(|call| call.id.clone());
                self.fail("the task has as many streams open as it may");
                return Err(too_many_streams(limit, id.as_ref()));
            }
            return Ok(self.stream(head, first, body));
        }
        if self.calls.is_empty() {
            return self.accepted(body);
        }
        if intake::is(kind, "application/json") {
            return self.json(head, body).await;
        }
        Err(self.fail("the server's answer is neither JSON nor a stream of events"))
    }

    /// A notification or an answer of the agent has arrived; or a stream was asked for, and this is
    /// none.
    fn accepted(mut self: Box<Self>, body: Body) -> Result<Response<Body>, Refusal> {
        drop(body);
        if self.opens_stream {
            return Err(self.fail("the server's answer is no stream of events"));
        }
        self.finish_others(Ended::Answered);
        let mut response = Response::new(full(Bytes::new()));
        *response.status_mut() = StatusCode::ACCEPTED;
        Ok(response)
    }

    /// Begins the gateway's session for one that the upstream began.
    fn begin_session(&mut self, upstream: Option<&HeaderValue>) -> Result<HeaderValue, Refusal> {
        let principal = self.caller.principal();
        let sessions = &self.shared.sessions;
        match sessions.begin(principal, &self.server, upstream.cloned(), &self.limits) {
            Ok(session) => {
                for call in &self.calls {
                    session.sent(call.id.clone(), call.method);
                }
                let id = session.id.clone();
                self.session = Some(session);
                Ok(id)
            }
            Err(too_many) => {
                self.fail(&too_many.to_string());
                Err(too_many_sessions(&too_many, None))
            }
        }
    }

    /// An HTTP error of the upstream. One that is an answer of the protocol passes with its status:
    /// clients tell the revisions of servers by it (`basic/versioning`).
    async fn http_error(
        mut self: Box<Self>,
        status: StatusCode,
        body: Body,
    ) -> Result<Response<Body>, Refusal> {
        let signal = self.caller.signal();
        let text = tokio::select! {
            biased;
            () = signal.cut() => return Err(self.cut()),
            text = crate::intake::collect(body, ERROR_BYTES, &self.shared.room) => text.unwrap_or_default(),
        };
        if self.is_lost_session(status, &text) {
            return Err(self.session_lost());
        }
        let ours = matches!(status.as_u16(), 401 | 403 | 407);
        let is_error = Members::read(&text).is_ok_and(|message| message.get("error").is_some());
        if !ours
            && is_error
            && (status.is_client_error() || status.is_server_error())
            && !self.calls.is_empty()
            && let Ok(seen) = self.inspect(&text).await
            && seen != Seen::Withheld
        {
            let text = match seen {
                Seen::Changed(new) => Bytes::from(new),
                Seen::Pass | Seen::Withheld => text,
            };
            self.deliver(&text);
            return Ok(json_response(status, text));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED && self.calls.is_empty() {
            self.finish_others(Ended::UpstreamError);
            let mut response = Response::new(full(Bytes::new()));
            *response.status_mut() = status;
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("POST"));
            return Ok(response);
        }
        let mut refusal = self.fail(&format!(
            "the server answered with HTTP {}",
            status.as_u16()
        ));
        if status.is_client_error() && !ours {
            refusal.status = status;
        }
        Err(refusal)
    }

    /// 404 is the protocol's way to say that a session is over; some servers say 400 instead.
    fn is_lost_session(&self, status: StatusCode, text: &[u8]) -> bool {
        if self
            .session
            .as_ref()
            .is_none_or(|session| session.upstream_id.is_none())
        {
            return false;
        }
        match status {
            StatusCode::NOT_FOUND => true,
            StatusCode::BAD_REQUEST => {
                let message = Members::read(text).ok().and_then(|message| {
                    let error = message.get("error").and_then(Members::of)?;
                    error.text("message").map(|text| text.to_ascii_lowercase())
                });
                message.is_some_and(|message| message.contains("session"))
            }
            _ => false,
        }
    }

    fn session_lost(&mut self) -> Refusal {
        if let Some(session) = &self.session {
            self.shared.sessions.end(session);
        }
        let id = self.calls.first().map(|call| call.id.clone());
        self.abandon(Ended::UpstreamError, |call| {
            session_not_found(Some(&call.id))
        });
        session_not_found(id.as_ref())
    }
}

/// 404: the client begins a new session (2025-11-25 `basic/transports`, Session Management).
pub(super) fn session_not_found(id: Option<&super::message::Id>) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        id,
        404,
        "the session is over or unknown: initialize again",
    )
}

/// 429: one session more than there may be.
pub(super) fn too_many_sessions(
    too_many: &super::sessions::TooMany,
    id: Option<&super::message::Id>,
) -> Refusal {
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, id, 429, too_many.to_string())
}

/// 429: one stream more than there may be.
pub(super) fn too_many_streams(limit: usize, id: Option<&super::message::Id>) -> Refusal {
    Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        id,
        429,
        format!("the task has {limit} streams open, which is as many as it may"),
    )
}
