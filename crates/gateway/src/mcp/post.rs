//! A POST: one message, or, in one old revision, a batch.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use model::{Operation, json};
use serde_json::{Map, Value};

use super::agreement::{self, Era, INVALID_REQUEST, PARSE_ERROR};
use super::answer;
use super::message::{self, Answer, Id, Message, Notification, Posted, Unreadable};
use super::operations::{self, Attempted};
use super::refusal::Refusal;
use super::revision::{Method, Revision, is_client_notification};
use super::sessions::{Asked, Session};
use super::visit::{self, Ready, Visit};
use super::{Refused, forward, intake};
use crate::{Body, full};

const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// The extension that has tasks since 2026-07-28 (SEP-2663).
pub(super) const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";

impl Visit {
    /// Answers a POST.
    pub(super) async fn post(&self, request: Request<Incoming>) -> Result<Response<Body>, Refused> {
        let (parts, body) = request.into_parts();
        let headers = parts.headers;
        intake::check_kinds(&headers).map_err(Refused::Protocol)?;
        let time = Duration::from_secs(self.limits.request_seconds);
        let body = intake::read(body, self.limits.request_bytes, time, &self.shared.room)
            .await
            .map_err(Refused::Protocol)?;
        let limits = json::Limits {
            bytes: self.limits.request_bytes,
            depth: self.limits.json_depth,
        };
        let posted = message::read(&body, limits).map_err(|problem| {
            let (code, id) = match &problem {
                Unreadable::Json(_) => (PARSE_ERROR, None),
                Unreadable::Shape { id, .. } => (INVALID_REQUEST, id.clone()),
            };
            let told = problem.to_string();
            Refused::Protocol(Refusal::new(
                StatusCode::BAD_REQUEST,
                id.as_ref(),
                code,
                told,
            ))
        })?;
        match posted {
            Posted::One(Message::Request(request)) => self.request(&headers, body, request).await,
            // These have rooms of their own, so that they take none up in every request.
            Posted::One(Message::Notification(notification)) => {
                Box::pin(self.notification(&headers, body, notification)).await
            }
            Posted::One(Message::Response(answer)) => {
                Box::pin(self.response(&headers, body, &answer)).await
            }
            Posted::Batch(messages) => Box::pin(self.batch(&headers, &body, messages)).await,
        }
    }

    async fn request(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        request: message::Request,
    ) -> Result<Response<Body>, Refused> {
        let message::Request {
            id,
            method: name,
            params,
        } = request;
        let era = agreement::era(headers, Some(&name), Some(&params), Some(&id))
            .map_err(Refused::Protocol)?;
        if era == Era::Modern {
            return self.modern(headers, body, id, name, params).await;
        }
        if name == "initialize" {
            return Box::pin(self.initialize(headers, body, id)).await;
        }
        let session = match self.session(headers, Some(&id)) {
            Ok(session) => session,
            Err(no_session) => {
                // Sessions end with their task. What is attempted after that is still decided, so
                // that the agent is told why, and it is on record as what it was.
                if self.task_has_ended() {
                    let ready = self.ready(Revision::V2025_11_25, id, name, params)?;
                    self.decide(ready).await?;
                }
                return Err(no_session);
            }
        };
        let revision = self.settled(&session, Some(&id))?;
        let ready = self.ready(revision, id, name, params)?;
        let slot = self.slot(Some(&ready.id))?;
        if ready.method == Method::CallTool {
            self.recheck(&ready.id, revision, Some(&session)).await?;
        }
        let call = self.decide(ready).await?;
        let principal = self.caller.principal();
        let outgoing = forward::legacy(headers, body, principal, Some(&session));
        let exchange = self.exchange(revision, Some(session), vec![call], None, Some(slot));
        // A client that goes away does not cancel (2025-11-25 `basic/transports`): the request runs
        // on by itself, and what becomes of it is recorded.
        run_on(exchange.carry_out(outgoing, Vec::new())).await
    }

    /// Revisions in which each request stands for itself.
    async fn modern(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        id: Id,
        name: String,
        params: Map<String, Value>,
    ) -> Result<Response<Body>, Refused> {
        let method =
            agreement::check_modern(headers, &id, &name, &params).map_err(Refused::Protocol)?;
        let has_tasks = has_tasks(&params);
        let begins_listing = visit::begins_listing(method, &params);
        let hears_of_tools = method == Method::Listen && hears_of_tools(&params);
        let Attempted {
            operations,
            handles,
        } = operations::attempted(method, &id, params).map_err(Refused::Protocol)?;
        self.check_handles(&id, &handles, has_tasks)?;
        if let Some(Operation::CallTool { tool, arguments }) = operations.first()
            && let Some(known) = self.shared.annotations_of(&self.route.server)
            && let Some(annotated) = known.of(tool)
        {
            agreement::check_arguments(headers, &id, &annotated, arguments)
                .map_err(Refused::Protocol)?;
        }
        let slot = match method {
            Method::Listen => Some(self.slot(Some(&id))?),
            _ => None,
        };
        if method == Method::CallTool {
            self.recheck(&id, NEWEST, None).await?;
        }
        let call = self
            .decide(Ready {
                id,
                method,
                name,
                operations,
                begins_listing,
                hears_of_tools,
            })
            .await?;
        let outgoing = forward::modern(headers, method, body, self.caller.principal());
        let exchange = self.exchange(NEWEST, None, vec![call], None, slot);
        exchange
            .carry_out(outgoing, Vec::new())
            .await
            .map_err(Refused::Known)
    }

    /// The handshake of the revisions before.
    async fn initialize(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        id: Id,
    ) -> Result<Response<Body>, Refused> {
        let principal = self.caller.principal();
        self.shared
            .sessions
            .check_room(principal, &self.limits)
            .map_err(|too_many| {
                Refused::Protocol(answer::too_many_sessions(&too_many, Some(&id)))
            })?;
        let slot = self.slot(Some(&id))?;
        let ready = Ready {
            id,
            method: Method::Initialize,
            name: "initialize".to_owned(),
            operations: vec![Operation::Converse],
            begins_listing: false,
            hears_of_tools: false,
        };
        let call = self.decide(ready).await?;
        let outgoing = forward::legacy(headers, body, principal, None);
        // What the server says before the handshake is settled is read by the newest revision that
        // has a handshake.
        let exchange = self.exchange(Revision::V2025_11_25, None, vec![call], None, Some(slot));
        run_on(exchange.carry_out(outgoing, Vec::new())).await
    }

    async fn notification(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        notification: Notification,
    ) -> Result<Response<Body>, Refused> {
        let Notification { method, params } = notification;
        let era = agreement::era(headers, Some(&method), Some(&params), None)
            .map_err(Refused::Protocol)?;
        if era == Era::Modern {
            // The newest revision has no notifications over HTTP: closing the stream cancels. What
            // a client says here names a request by an id that is unique to that client alone, so
            // it must not reach an upstream that many agents share.
            return if is_client_notification(NEWEST, &method) {
                Ok(accepted())
            } else {
                Err(unknown_notification(NEWEST))
            };
        }
        let session = self.session(headers, None)?;
        let revision = self.settled(&session, None)?;
        if !is_client_notification(revision, &method) {
            return Err(unknown_notification(revision));
        }
        let slot = self.slot(None)?;
        let permit = self.attempt(method, Operation::Converse, None).await?;
        let outgoing = forward::legacy(headers, body, self.caller.principal(), Some(&session));
        let exchange = self.exchange(
            revision,
            Some(session),
            Vec::new(),
            Some(permit),
            Some(slot),
        );
        run_on(exchange.carry_out(outgoing, Vec::new())).await
    }

    /// An answer of the agent: only to what the server really asked in this session.
    async fn response(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        answer: &Answer,
    ) -> Result<Response<Body>, Refused> {
        let session = self.session(headers, None)?;
        let revision = self.settled(&session, None)?;
        let operation = answered(&session, answer)?;
        let slot = self.slot(None)?;
        let permit = self.attempt("response".to_owned(), operation, None).await?;
        session.answered(&answer.id);
        let outgoing = forward::legacy(headers, body, self.caller.principal(), Some(&session));
        let exchange = self.exchange(
            revision,
            Some(session),
            Vec::new(),
            Some(permit),
            Some(slot),
        );
        run_on(exchange.carry_out(outgoing, Vec::new())).await
    }
}

const NEWEST: Revision = Revision::V2026_07_28;

/// What an answer of the agent does, if the server asked for it.
pub(super) fn answered(session: &Session, answer: &Answer) -> Result<Operation, Refused> {
    match session.asked(&answer.id) {
        Some(Asked::Ping) => Ok(Operation::Converse),
        Some(Asked::Request(request)) => Ok(Operation::Answer { request }),
        None => Err(Refused::Protocol(Refusal::new(
            StatusCode::BAD_REQUEST,
            None,
            INVALID_REQUEST,
            "an answer to what the server did not ask, or was answered before",
        ))),
    }
}

/// Lets an exchange run on by itself when the client goes away.
pub(super) async fn run_on(
    exchange: impl Future<Output = Result<Response<Body>, Refusal>> + Send + 'static,
) -> Result<Response<Body>, Refused> {
    match tokio::spawn(exchange).await {
        Ok(answered) => answered.map_err(Refused::Known),
        Err(error) => {
            tracing::error!(%error, "an exchange did not end");
            Err(Refused::Known(Refusal::upstream(
                None,
                "the request could not be carried out",
            )))
        }
    }
}

/// Whether a request declares the tasks extension (2026-07-28; SEP-2663).
fn has_tasks(params: &Map<String, Value>) -> bool {
    params
        .get("_meta")
        .and_then(|meta| {
            meta.get(META_CAPABILITIES)?
                .get("extensions")?
                .get(TASKS_EXTENSION)
        })
        .is_some_and(Value::is_object)
}

/// Whether a subscription asks to be told when the tools change (2026-07-28 `basic/patterns/subscriptions`).
fn hears_of_tools(params: &Map<String, Value>) -> bool {
    let filter = params.get("notifications");
    filter.and_then(|filter| filter.get("toolsListChanged")) == Some(&Value::Bool(true))
}

pub(super) fn unknown_notification(revision: Revision) -> Refused {
    Refused::Protocol(Refusal::new(
        StatusCode::BAD_REQUEST,
        None,
        INVALID_REQUEST,
        format!("clients send no such notification in revision {revision}"),
    ))
}

fn accepted() -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}
