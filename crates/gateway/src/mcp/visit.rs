//! One request of an authenticated caller, and what every kind of request needs.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use http::{HeaderMap, Response, StatusCode};
use model::config::Limits;
use model::{Action, Operation, ServerName};
use serde_json::{Map, Value, json};

use super::agreement::{self, INVALID_PARAMS, INVALID_REQUEST, MISSING_CAPABILITY};
use super::answer;
use super::exchange::{Call, Exchange};
use super::handles::Kind;
use super::message::Id;
use super::operations::{self, Attempted};
use super::post::TASKS_EXTENSION;
use super::refusal::Refusal;
use super::revision::{Method, Revision};
use super::sessions::Session;
use super::{Refused, Shared};
use crate::Body;
use crate::caller::Caller;
use crate::pipeline::{Digest, Permit};
use crate::resource::Route;
use crate::slots::Slot;

/// One request of an authenticated caller.
pub(super) struct Visit {
    pub(super) shared: Arc<Shared>,
    pub(super) limits: Limits,
    pub(super) caller: Arc<Caller>,
    pub(super) route: Route,
}

/// A request that may go on: what it attempts is allowed by the protocol, not yet decided.
pub(super) struct Ready {
    pub(super) id: Id,
    pub(super) method: Method,
    pub(super) name: String,
    pub(super) operations: Vec<Operation>,
    /// Whether it asks for the tools from their beginning.
    pub(super) begins_listing: bool,
    /// Whether it asks to be told when the tools change.
    pub(super) hears_of_tools: bool,
}

impl Visit {
    /// What a request of a session attempts.
    pub(super) fn ready(
        &self,
        revision: Revision,
        id: Id,
        name: String,
        params: Map<String, Value>,
    ) -> Result<Ready, Refused> {
        let method = Method::of(revision, &name)
            .ok_or_else(|| Refused::Protocol(agreement::method_not_found(revision, &id)))?;
        let begins_listing = begins_listing(method, &params);
        let Attempted {
            operations,
            handles,
        } = operations::attempted(method, &id, params).map_err(Refused::Protocol)?;
        self.check_handles(&id, &handles, true)?;
        Ok(Ready {
            id,
            method,
            name,
            operations,
            begins_listing,
            hears_of_tools: false,
        })
    }

    /// Steps 4 and 5 for each operation of a request; all of them must be permitted.
    pub(super) async fn decide(&self, ready: Ready) -> Result<Call, Refused> {
        let Ready {
            id,
            method,
            name,
            operations,
            begins_listing,
            hears_of_tools,
        } = ready;
        let listing_since = begins_listing.then(|| {
            let upstream = self.shared.upstreams.get(&self.route.server);
            upstream.map_or(0, |upstream| upstream.freshness().announced())
        });
        let target = operations.first().map(|first| first.target().into_owned());
        let mut permits = Vec::with_capacity(operations.len());
        let mut operations = operations.into_iter().peekable();
        let mut name = Some(name);
        while let Some(operation) = operations.next() {
            let name = match operations.peek() {
                Some(_) => name.clone(),
                None => name.take(),
            };
            permits.push(
                self.attempt(name.unwrap_or_default(), operation, Some(&id))
                    .await?,
            );
        }
        Ok(Call {
            id,
            method,
            target: target.unwrap_or_default(),
            permits,
            listing_since,
            hears_of_tools,
        })
    }

    /// Steps 4 and 5.
    pub(super) async fn attempt(
        &self,
        method: String,
        operation: Operation,
        id: Option<&Id>,
    ) -> Result<Permit, Refused> {
        let action = Action::new(self.route.server.clone(), method, operation);
        self.shared
            .pipeline
            .attempt(&self.caller, action)
            .await
            .map_err(|denied| Refused::Known(Refusal::denied(&denied, id)))
    }

    /// Handles must have been given to this very principal. One that was not does not exist.
    pub(super) fn check_handles(
        &self,
        id: &Id,
        handles: &[(Kind, String)],
        has_tasks: bool,
    ) -> Result<(), Refused> {
        let (principal, server): (_, &ServerName) = (self.caller.principal(), &self.route.server);
        let unknown = handles
            .iter()
            .find(|(kind, handle)| !self.shared.handles.has(principal, server, *kind, handle));
        let Some((kind, _)) = unknown else {
            return Ok(());
        };
        let refuse = |code, message| Refusal::new(StatusCode::BAD_REQUEST, Some(id), code, message);
        Err(Refused::Protocol(match kind {
            Kind::Task if !has_tasks => {
                let mut refusal = refuse(
                    MISSING_CAPABILITY,
                    "the client does not declare the tasks extension",
                );
                refusal.data = Some(Box::new(json!({
                    "requiredCapabilities": { "extensions": { TASKS_EXTENSION: {} } },
                })));
                refusal
            }
            Kind::Task => refuse(INVALID_PARAMS, "there is no such task"),
            Kind::State => refuse(
                INVALID_PARAMS,
                "`params.requestState` was not given to this task",
            ),
        }))
    }

    /// Whether the caller's task is over.
    pub(super) fn task_has_ended(&self) -> bool {
        self.caller.task.status_at(jiff::Timestamp::now()) != model::TaskStatus::Open
    }

    /// The session that a request names.
    pub(super) fn session(
        &self,
        headers: &HeaderMap,
        id: Option<&Id>,
    ) -> Result<Arc<Session>, Refused> {
        let named = agreement::single(headers, &agreement::SESSION).map_err(|problem| {
            Refused::Protocol(Refusal::new(
                StatusCode::BAD_REQUEST,
                id,
                INVALID_REQUEST,
                problem,
            ))
        })?;
        let Some(named) = named else {
            return Err(Refused::Protocol(Refusal::new(
                StatusCode::BAD_REQUEST,
                id,
                INVALID_REQUEST,
                "no session: begin with `initialize`, then send its `Mcp-Session-Id`; or send \
                 `MCP-Protocol-Version: 2026-07-28` and `params._meta`",
            )));
        };
        self.shared
            .sessions
            .find(named, self.caller.principal(), &self.route.server)
            .ok_or_else(|| Refused::Protocol(answer::session_not_found(id)))
    }

    /// The revision that the session's handshake settled.
    pub(super) fn settled(&self, session: &Session, id: Option<&Id>) -> Result<Revision, Refused> {
        session.revision().ok_or_else(|| {
            Refused::Protocol(Refusal::new(
                StatusCode::BAD_REQUEST,
                id,
                INVALID_REQUEST,
                "the session's handshake is not complete",
            ))
        })
    }

    /// A slot among the streams and unfinished requests of the task.
    pub(super) fn slot(&self, id: Option<&Id>) -> Result<Slot, Refused> {
        let limit = self.limits.streams_per_task;
        self.shared
            .slots
            .take(self.caller.task.task().id, limit)
            .ok_or_else(|| Refused::Protocol(answer::too_many_streams(limit, id)))
    }

    pub(super) fn exchange(
        &self,
        revision: Revision,
        session: Option<Arc<Session>>,
        calls: Vec<Call>,
        other: Option<Permit>,
        slot: Option<Slot>,
    ) -> Box<Exchange> {
        // They are all at the same server.
        let first = calls
            .iter()
            .flat_map(|call| &call.permits)
            .chain(&other)
            .next();
        Box::new(Exchange {
            digest: match first {
                Some(permit) => permit.digest(),
                None => Digest::new(&self.caller.task),
            },
            shared: Arc::clone(&self.shared),
            server: self.route.server.clone(),
            limits: self.limits.clone(),
            caller: Arc::clone(&self.caller),
            revision,
            session,
            calls,
            others: other.into_iter().collect(),
            slot,
            opens_stream: false,
            learns: None,
            answered: Vec::new(),
            warned: AtomicU32::new(0),
        })
    }

    /// The answer to a request that was refused; recorded, unless its decision already is.
    pub(super) fn refuse(&self, refused: &Refused) -> Response<Body> {
        match refused {
            Refused::Protocol(refusal) => {
                let endpoint = self.route.path();
                self.shared
                    .pipeline
                    .refuse(&endpoint, Some(&self.caller), refusal.as_denial());
                refusal.response()
            }
            Refused::Known(refusal) => refusal.response(),
        }
    }
}

/// Whether a request asks for the tools from their beginning.
pub(super) fn begins_listing(method: Method, params: &Map<String, Value>) -> bool {
    method == Method::ListTools && !params.contains_key("cursor")
}
