//! Batches, which only revision 2025-03-26 has. Each message is decided on its own; what is refused
//! is answered by the gateway, and the rest goes on.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use model::Operation;
use serde_json::value::RawValue;

use super::agreement::INVALID_REQUEST;
use super::exchange::Call;
use super::message::{Message, Notification};
use super::post::{self, run_on};
use super::raw;
use super::refusal::{Refusal, json_response};
use super::revision::{Method, Revision, is_client_notification};
use super::visit::Visit;
use super::{Refused, forward, intake, sse};
use crate::pipeline::Permit;
use crate::{Body, full};

/// What goes on of a batch, and what the gateway answers itself.
#[derive(Default)]
struct Sorted<'a> {
    forwarded: Vec<&'a [u8]>,
    calls: Vec<Call>,
    others: Vec<Permit>,
    refused: Vec<Bytes>,
}

impl Visit {
    /// Answers a batch.
    pub(super) async fn batch(
        &self,
        headers: &HeaderMap,
        body: &Bytes,
        messages: Vec<Message>,
    ) -> Result<Response<Body>, Refused> {
        let refuse = |because: &str| {
            Refused::Protocol(Refusal::new(
                StatusCode::BAD_REQUEST,
                None,
                INVALID_REQUEST,
                because,
            ))
        };
        if !headers.contains_key(super::agreement::SESSION) {
            return Err(refuse(
                "batches are part of revision 2025-03-26 only, in its sessions",
            ));
        }
        let session = self.session(headers, None)?;
        let revision = self.settled(&session, None)?;
        if revision != Revision::V2025_03_26 {
            return Err(refuse(
                "this revision has no batches: send each message by itself",
            ));
        }
        let raw: &RawValue =
            serde_json::from_slice(body).map_err(|_| refuse("the batch cannot be read"))?;
        let raw = raw::items(raw).ok_or_else(|| refuse("the batch cannot be read"))?;
        let slot = self.slot(None)?;
        let mut sorted = Sorted::default();
        for (message, raw) in messages.into_iter().zip(&raw) {
            let raw = raw.get().as_bytes();
            match self
                .one_of_batch(&session, revision, message, &mut sorted)
                .await
            {
                Ok(()) => sorted.forwarded.push(raw),
                Err(refused) => {
                    let (Refused::Protocol(refusal) | Refused::Known(refusal)) = &refused;
                    if refusal.id.is_some() {
                        sorted.refused.push(refusal.to_bytes().into());
                    }
                    // Recorded where it is not yet; the answer is part of the batch's.
                    drop(self.refuse(&refused));
                }
            }
        }
        let Sorted {
            forwarded,
            calls,
            others,
            refused,
        } = sorted;
        if forwarded.is_empty() {
            return Ok(only_refused(&refused));
        }
        let wants_answer = !calls.is_empty();
        let batch = Bytes::from(raw::array(forwarded.into_iter()));
        let principal = self.caller.principal();
        let outgoing = forward::legacy(headers, batch, principal, Some(&session));
        let mut exchange = self.exchange(revision, Some(session), calls, None, Some(slot));
        exchange.others = others;
        let events = refused
            .iter()
            .map(|refusal| sse::event(None, refusal))
            .collect();
        let response = run_on(exchange.carry_out(outgoing, events)).await?;
        if refused.is_empty() {
            Ok(response)
        } else if wants_answer {
            self.joined(response, &refused).await
        } else {
            Ok(only_refused(&refused))
        }
    }

    async fn one_of_batch(
        &self,
        session: &std::sync::Arc<super::sessions::Session>,
        revision: Revision,
        message: Message,
        sorted: &mut Sorted<'_>,
    ) -> Result<(), Refused> {
        match message {
            Message::Request(request) => {
                if sorted.calls.iter().any(|call| call.id == request.id) {
                    return Err(Refused::Protocol(Refusal::new(
                        StatusCode::BAD_REQUEST,
                        Some(&request.id),
                        INVALID_REQUEST,
                        "two requests with one id",
                    )));
                }
                let ready = self.ready(revision, request.id, request.method, request.params)?;
                if ready.method == Method::Initialize {
                    return Err(Refused::Protocol(Refusal::new(
                        StatusCode::BAD_REQUEST,
                        Some(&ready.id),
                        INVALID_REQUEST,
                        "`initialize` is never part of a batch",
                    )));
                }
                if ready.method == Method::CallTool {
                    self.recheck(&ready.id, revision, Some(session)).await?;
                }
                sorted.calls.push(self.decide(ready).await?);
            }
            Message::Notification(Notification { method, .. }) => {
                if !is_client_notification(revision, &method) {
                    return Err(post::unknown_notification(revision));
                }
                sorted
                    .others
                    .push(self.attempt(method, Operation::Converse, None).await?);
            }
            Message::Response(answer) => {
                let operation = post::answered(session, &answer)?;
                let permit = self.attempt("response".to_owned(), operation, None).await?;
                session.answered(&answer.id);
                sorted.others.push(permit);
            }
        }
        Ok(())
    }

    /// A JSON answer together with the gateway's own; a stream begins with them already.
    async fn joined(
        &self,
        response: Response<Body>,
        refused: &[Bytes],
    ) -> Result<Response<Body>, Refused> {
        let (parts, body) = response.into_parts();
        let kind = parts.headers.get(http::header::CONTENT_TYPE);
        let is_json = kind
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| intake::is(kind, "application/json"));
        if !is_json {
            return Ok(Response::from_parts(parts, body));
        }
        let lost = || Refused::Known(Refusal::upstream(None, "the server's answer broke off"));
        let text = body.collect().await.map_err(|_| lost())?.to_bytes();
        let answers: &RawValue = serde_json::from_slice(&text).map_err(|_| lost())?;
        let answers = raw::items(answers).unwrap_or_else(|| vec![answers]);
        let all = answers
            .iter()
            .map(|answer| answer.get().as_bytes())
            .chain(refused.iter().map(|refusal| &refusal[..]));
        Ok(json_response(parts.status, raw::array(all)))
    }
}

fn only_refused(refused: &[Bytes]) -> Response<Body> {
    if refused.is_empty() {
        let mut response = Response::new(full(Bytes::new()));
        *response.status_mut() = StatusCode::ACCEPTED;
        return response;
    }
    json_response(
        StatusCode::OK,
        raw::array(refused.iter().map(|refusal| &refusal[..])),
    )
}
