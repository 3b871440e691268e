//! GET and DELETE: streams and ends of sessions (revisions before 2026-07-28).

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderMap, HeaderValue, Method as HttpMethod, Response, StatusCode};
use model::Operation;

use super::agreement::{self, INVALID_REQUEST};
use super::post::run_on;
use super::refusal::Refusal;
use super::revision::Revision;
use super::visit::Visit;
use super::{Refused, forward, intake};
use crate::{Body, full};

impl Visit {
    /// GET: the agent listens to the server, or resumes a stream with `Last-Event-ID`.
    pub(super) async fn listen(&self, headers: &HeaderMap) -> Result<Response<Body>, Refused> {
        if is_modern(headers) {
            return Ok(no_sessions());
        }
        if !intake::accepts(headers, "text/event-stream") {
            return Err(Refused::Protocol(Refusal::new(
                StatusCode::NOT_ACCEPTABLE,
                None,
                INVALID_REQUEST,
                "send the header `Accept: text/event-stream`",
            )));
        }
        let session = self.session(headers, None)?;
        let revision = self.settled(&session, None)?;
        let slot = self.slot(None)?;
        let permit = self
            .attempt("GET".to_owned(), Operation::Converse, None)
            .await?;
        let principal = self.caller.principal();
        let outgoing = forward::bodiless(HttpMethod::GET, headers, principal, &session);
        let mut exchange = self.exchange(
            revision,
            Some(session),
            Vec::new(),
            Some(permit),
            Some(slot),
        );
        exchange.opens_stream = true;
        exchange
            .carry_out(outgoing, Vec::new())
            .await
            .map_err(Refused::Known)
    }

    /// DELETE: the agent ends its session.
    pub(super) async fn end_session(&self, headers: &HeaderMap) -> Result<Response<Body>, Refused> {
        if is_modern(headers) {
            return Ok(no_sessions());
        }
        let session = self.session(headers, None)?;
        if session.upstream_id.is_none() {
            // The upstream keeps no sessions, so there is nothing to end but the gateway's own.
            self.shared.sessions.end(&session);
            return Ok(ended());
        }
        let revision = session.revision().unwrap_or(Revision::V2025_11_25);
        let slot = self.slot(None)?;
        let permit = self
            .attempt("DELETE".to_owned(), Operation::Converse, None)
            .await?;
        let principal = self.caller.principal();
        let outgoing = forward::bodiless(HttpMethod::DELETE, headers, principal, &session);
        let ending = std::sync::Arc::clone(&session);
        let exchange = self.exchange(
            revision,
            Some(session),
            Vec::new(),
            Some(permit),
            Some(slot),
        );
        let answered = run_on(exchange.carry_out(outgoing, Vec::new())).await;
        match answered {
            // The upstream lets its clients not end sessions: then it goes on here too.
            Ok(response) if response.status() == StatusCode::METHOD_NOT_ALLOWED => Ok(response),
            Ok(_) => {
                self.shared.sessions.end(&ending);
                Ok(ended())
            }
            Err(refused) => {
                self.shared.sessions.end(&ending);
                Err(refused)
            }
        }
    }
}

fn is_modern(headers: &HeaderMap) -> bool {
    agreement::single(headers, &agreement::VERSION)
        .ok()
        .flatten()
        .and_then(Revision::parse)
        .is_some_and(Revision::is_modern)
}

/// 2026-07-28 `basic/transports/streamable-http`, Earlier Streamable HTTP Revisions.
fn no_sessions() -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

fn ended() -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
