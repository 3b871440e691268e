//! Servers that speak over pipes: their programs are run, and stand there as if they spoke
//! streamable HTTP (2025-11-25 and 2026-07-28 `basic/transports`).
//!
//! [`home`] knows whose child is whose; [`child`] is one program that runs, with [`command`] to
//! start and end it, [`digests`] for what it must be and [`confinement`] for what it may touch, [`input`] to write to it, [`lines`] and [`complaints`] to read it; [`router`] says which message belongs
//! to which request; [`outlet`] carries it there, and [`answer`] makes HTTP of it. [`era`] finds out
//! which revisions a program speaks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use model::config::Server;
use model::name::ServerName;
use serde_json::value::RawValue;

use super::credential::Resolved;
use super::freshness::{Compared, Freshness};
use super::{MCP_PROTOCOL_VERSION, MCP_SESSION_ID, Outgoing, Shared, UpstreamError};
use crate::caller::Principal;
use crate::mcp::message::BATCH_LIMIT;
use crate::mcp::raw::Members;
use crate::mcp::revision::Revision;
use crate::{Body, full};

mod answer;
mod child;
mod command;
mod complaints;
mod confinement;
mod digests;
mod era;
mod home;
mod input;
mod lines;
mod outlet;
mod router;

use answer::{Said, Waiting};
use child::{Child, ended};
use command::{Haste, Program};
use era::{Eras, NoChild};
use home::Home;
use input::Letter;
use outlet::Parts;
use router::{Era, Part, Refused, Sink};

pub use confinement::Launcher;
pub(super) use confinement::{Confinement, hidden};
pub use digests::{Made, NotPinned, digest, made_of};

/// Error codes as other servers give them for the same; -32000 is none of the modern era's, so that
/// clients that speak both eras go on with `initialize` (2026-07-28 `basic/versioning`).
const NOT_SERVED: i64 = -32_000;
const NO_SESSION: i64 = -32_001;
const INVALID_REQUEST: i64 = -32_600;
const PARSE_ERROR: i64 = -32_700;

/// One server over pipes.
pub(super) struct Stdio {
    home: Arc<Home>,
    eras: Arc<Eras>,
}

impl Stdio {
    pub(super) fn new(
        name: &ServerName,
        server: &Server,
        resolved: &Arc<Resolved>,
        confinement: Option<&Arc<Confinement>>,
        freshness: &Arc<Freshness>,
        shared: &Shared,
    ) -> Self {
        let program = Program::new(server, resolved, confinement);
        Self {
            home: Arc::new(Home::new(name, program, freshness, shared)),
            eras: Arc::default(),
        }
    }

    pub(super) async fn send(&self, out: Outgoing) -> Result<Response<Body>, UpstreamError> {
        if self.home.is_closed() {
            return Err(UpstreamError::Disabled);
        }
        match (out.method.clone(), is_modern(&out.headers)) {
            (Method::POST, true) => self.modern(&out).await,
            (Method::POST, false) => self.legacy(&out).await,
            (Method::GET, false) if out.headers.contains_key(&MCP_SESSION_ID) => {
                Ok(self.listen(&out))
            }
            (Method::DELETE, false) if out.headers.contains_key(&MCP_SESSION_ID) => {
                Ok(self.end_session(&out))
            }
            _ => Ok(not_allowed()),
        }
    }

    /// See [`super::Upstream::compared`].
    pub(super) fn compared(&self, principal: &Principal) -> Option<Arc<Compared>> {
        let child = self.home.running(principal)?;
        Some(Arc::clone(&child.compared))
    }

    /// See [`super::Upstream::retire`].
    pub(super) fn retire(&self, gone: &dyn Fn(&Principal) -> bool) {
        self.home.retire(gone);
    }

    /// Refuses further requests and begins to end the programs.
    pub(super) fn close(&self) {
        self.home.close();
    }

    /// Waits until all programs have ended.
    pub(super) async fn ended(&self) {
        self.home.tasks().wait().await;
    }

    /// When whoever asks now has waited long enough.
    fn until(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.home.limits().upstream_seconds)
    }

    /// A message of the modern era: each stands for itself.
    async fn modern(&self, out: &Outgoing) -> Result<Response<Body>, UpstreamError> {
        let Ok(message) = Members::read(&out.body) else {
            return Ok(refuse(
                StatusCode::BAD_REQUEST,
                None,
                PARSE_ERROR,
                "not a JSON object",
            ));
        };
        let id = message.get("id");
        match (message.get("method").is_some(), id) {
            (true, Some(_)) => {}
            (true, None) => {
                let cell = self.home.cell(out.principal);
                let known = cell.get().cloned();
                self.home.give_back(&out.principal, &cell);
                if let Some(child) = known {
                    let line = child.router.lock().notification(&message);
                    tell(&child, line, self.until()).await?;
                }
                return Ok(accepted());
            }
            (false, _) => {
                let because = "clients of this revision send no responses";
                return Ok(refuse(
                    StatusCode::BAD_REQUEST,
                    id,
                    INVALID_REQUEST,
                    because,
                ));
            }
        }
        let child = match self.shared_child(out.principal).await {
            Ok(child) => child,
            Err(NoChild::Failed(error)) => return Err(error),
            Err(NoChild::LegacyOnly) => {
                let because = "this server speaks revisions before 2026-07-28 only: begin with \
                               `initialize`";
                return Ok(refuse(StatusCode::BAD_REQUEST, id, NOT_SERVED, because));
            }
        };
        self.ask(&child, &message, is_json_only(&out.headers)).await
    }

    /// The child of a principal, started if there is none (modern era).
    async fn shared_child(&self, principal: Principal) -> Result<Arc<Child>, NoChild> {
        // Twice: the child that is there may just be ending.
        for _ in 0..2 {
            let cell = self.home.cell(principal);
            let found = cell
                .get_or_try_init(|| era::start(&self.home, &self.eras, principal))
                .await
                .cloned();
            match found {
                Ok(child) if child.is_open() => return Ok(child),
                Ok(_) => self.home.replace(&principal, &cell),
                Err(error) => {
                    self.home.give_back(&principal, &cell);
                    return Err(error);
                }
            }
        }
        Err(NoChild::Failed(ended()))
    }

    /// One request and its answer.
    async fn ask(
        &self,
        child: &Arc<Child>,
        message: &Members<'_>,
        is_json_only: bool,
    ) -> Result<Response<Body>, UpstreamError> {
        let (sink, parts) = outlet::outlet();
        let asked = child.router.lock().request(message, sink, is_json_only);
        let (number, line) = match asked {
            Ok(asked) => asked,
            Err(refused) => return refused_by_router(refused, message.get("id")),
        };
        let said = self.say(child, line, number, parts).await?;
        Ok(answer::respond(said, child.era))
    }

    /// Hands a request over and waits for the first things that are said. Both at once: the child
    /// may want to be heard before it reads on.
    async fn say(
        &self,
        child: &Arc<Child>,
        line: Bytes,
        number: u64,
        parts: Parts,
    ) -> Result<Said, UpstreamError> {
        let until = self.until();
        let letter = Letter::with_request(line, child, number);
        let waiting = Waiting::new(Arc::clone(child), parts, vec![number], 0);
        let listening = answer::listen(waiting, false, until);
        let ((), said) = tokio::try_join!(child.tell(letter, until), listening)?;
        Ok(said)
    }

    /// A POST of the revisions with sessions.
    async fn legacy(&self, out: &Outgoing) -> Result<Response<Body>, UpstreamError> {
        let first = out.body.iter().find(|byte| !byte.is_ascii_whitespace());
        if first == Some(&b'[') {
            return match self.session(out) {
                Ok(child) => self.batch(&child, out).await,
                Err(refused) => Ok(*refused),
            };
        }
        let Ok(message) = Members::read(&out.body) else {
            return Ok(refuse(
                StatusCode::BAD_REQUEST,
                None,
                PARSE_ERROR,
                "not a JSON object",
            ));
        };
        let has_method = message.get("method").is_some();
        let is_request = has_method && message.get("id").is_some();
        if is_request && message.text("method").as_deref() == Some("initialize") {
            return self.initialize(out.principal, &message).await;
        }
        let child = match self.session(out) {
            Ok(child) => child,
            Err(refused) => return Ok(*refused),
        };
        if is_request {
            return self.ask(&child, &message, is_json_only(&out.headers)).await;
        }
        let line = if has_method {
            child.router.lock().notification(&message)
        } else {
            child.router.lock().response(&message)
        };
        tell(&child, line, self.until()).await?;
        Ok(accepted())
    }

    /// Begins a session, with a child of its own.
    async fn initialize(
        &self,
        principal: Principal,
        message: &Members<'_>,
    ) -> Result<Response<Body>, UpstreamError> {
        let newborn = Newborn(Some(self.home.start(principal, Era::Legacy)?));
        let child = newborn.child();
        let (sink, parts) = outlet::outlet();
        let asked = child.router.lock().request(message, sink, true);
        let (number, line) = match asked {
            Ok(asked) => asked,
            Err(refused) => return refused_by_router(refused, message.get("id")),
        };
        let Said::One(answer, code) = self.say(child, line, number, parts).await? else {
            return Err(UpstreamError::Protocol(
                "it does not begin with its answer".to_owned(),
            ));
        };
        let mut response = answer::json(StatusCode::OK, answer);
        if code.is_none() {
            let id = self.home.open_session(child).ok_or_else(ended)?;
            let id = HeaderValue::from_maybe_shared(Bytes::from(id))
                .expect("base64url is visible ASCII");
            response.headers_mut().insert(MCP_SESSION_ID.clone(), id);
            newborn.grows_up();
        }
        Ok(response)
    }

    /// A batch (revision 2025-03-26 only): every element for itself, the answers together.
    async fn batch(
        &self,
        child: &Arc<Child>,
        out: &Outgoing,
    ) -> Result<Response<Body>, UpstreamError> {
        let elements: Option<Vec<Members<'_>>> =
            serde_json::from_slice::<Vec<&RawValue>>(&out.body)
                .ok()
                .filter(|elements| (1..=BATCH_LIMIT).contains(&elements.len()))
                .and_then(|elements| elements.into_iter().map(Members::of).collect());
        let Some(elements) = elements else {
            let because = "a batch holds 1 to 64 JSON objects";
            return Ok(refuse(
                StatusCode::BAD_REQUEST,
                None,
                INVALID_REQUEST,
                because,
            ));
        };
        let (sink, parts) = outlet::outlet();
        let is_json_only = is_json_only(&out.headers);
        let mut letters = Vec::with_capacity(elements.len());
        let mut numbers = Vec::with_capacity(elements.len());
        let mut refused = 0;
        for element in &elements {
            let mut router = child.router.lock();
            match (element.get("method").is_some(), element.get("id")) {
                (true, Some(id)) => match router.request(element, sink.clone(), is_json_only) {
                    Ok((number, line)) => {
                        numbers.push(number);
                        letters.push(Letter::with_request(line, child, number));
                    }
                    Err(Refused::Ended) => return Err(ended()),
                    Err(because) => {
                        refused += 1;
                        let message = error(Some(id), INVALID_REQUEST, &because.to_string());
                        sink.put(Part::Answer {
                            message,
                            code: Some(INVALID_REQUEST),
                        });
                    }
                },
                (true, None) => letters.extend(router.notification(element).map(Letter::new)),
                (false, _) => letters.extend(router.response(element).map(Letter::new)),
            }
        }
        drop(sink);
        let expected = numbers.len() + refused;
        let mut waiting = Waiting::new(Arc::clone(child), parts, numbers, refused);
        let until = self.until();
        for letter in letters {
            if let Err(error) = child.tell(letter, until).await {
                waiting.cancel();
                return Err(error);
            }
        }
        if expected == 0 {
            return Ok(accepted());
        }
        let said = answer::listen(waiting, true, until).await?;
        Ok(answer::respond(said, Era::Legacy))
    }

    /// The stream of what a session's server says by itself.
    fn listen(&self, out: &Outgoing) -> Response<Body> {
        let child = match self.session(out) {
            Ok(child) => child,
            Err(refused) => return *refused,
        };
        let (sink, parts) = outlet::outlet();
        if !child.router.lock().listen(sink) {
            let because = "this session has a stream open already";
            return refuse(StatusCode::CONFLICT, None, NOT_SERVED, because);
        }
        answer::stream(parts)
    }

    fn end_session(&self, out: &Outgoing) -> Response<Body> {
        match self.session(out) {
            Ok(child) => {
                self.home.end_session(&child);
                let mut response = accepted();
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            Err(refused) => *refused,
        }
    }

    /// The session that a request names, or what to say when there is none of this principal.
    fn session(&self, out: &Outgoing) -> Result<Arc<Child>, Box<Response<Body>>> {
        let Some(id) = out.headers.get(&MCP_SESSION_ID) else {
            let because = "no session is named: begin with `initialize`, then send its \
                           `Mcp-Session-Id`";
            return Err(Box::new(refuse(
                StatusCode::BAD_REQUEST,
                None,
                NOT_SERVED,
                because,
            )));
        };
        id.to_str()
            .ok()
            .and_then(|id| self.home.session(id, &out.principal))
            .ok_or_else(|| {
                let because =
                    "this session is over or never was: begin a new one with `initialize`";
                Box::new(refuse(StatusCode::NOT_FOUND, None, NO_SESSION, because))
            })
    }
}

/// A child whose session has not begun yet; ended when it never does.
struct Newborn(Option<Arc<Child>>);

impl Newborn {
    fn child(&self) -> &Arc<Child> {
        self.0
            .as_ref()
            .expect("taken only when it grows up, which consumes it")
    }

    fn grows_up(mut self) {
        self.0 = None;
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            child.end(Haste::Gentle, &ended());
        }
    }
}

async fn tell(child: &Child, line: Option<Bytes>, until: Instant) -> Result<(), UpstreamError> {
    match line {
        Some(line) => child.tell(Letter::new(line), until).await,
        None => Ok(()),
    }
}

fn is_modern(headers: &HeaderMap) -> bool {
    headers
        .get(&MCP_PROTOCOL_VERSION)
        .and_then(|version| version.to_str().ok())
        .and_then(|version| Revision::parse(version.trim()))
        .is_some_and(Revision::is_modern)
}

/// Whether a client takes no events.
fn is_json_only(headers: &HeaderMap) -> bool {
    let takes_events = |accept: &HeaderValue| {
        accept.to_str().is_ok_and(|accept| {
            let accept = accept.to_ascii_lowercase();
            accept.contains("text/event-stream")
                || accept.contains("*/*")
                || accept.contains("text/*")
        })
    };
    let mut accepts = headers.get_all(ACCEPT).iter().peekable();
    accepts.peek().is_some() && !accepts.any(takes_events)
}

fn refused_by_router(
    refused: Refused,
    id: Option<&RawValue>,
) -> Result<Response<Body>, UpstreamError> {
    match refused {
        Refused::TooMany => Err(UpstreamError::TooMany(refused.to_string())),
        Refused::Ended => Err(ended()),
        Refused::NotAMessage | Refused::IdInUse => Ok(refuse(
            StatusCode::BAD_REQUEST,
            id,
            INVALID_REQUEST,
            &refused.to_string(),
        )),
    }
}

fn accepted() -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

fn not_allowed() -> Response<Body> {
    let mut response = accepted();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

/// An HTTP answer with a JSON-RPC error.
fn refuse(status: StatusCode, id: Option<&RawValue>, code: i64, because: &str) -> Response<Body> {
    answer::json(status, error(id, code, because))
}

/// A JSON-RPC error. The text must need no escapes.
fn error(id: Option<&RawValue>, code: i64, because: &str) -> Bytes {
    let id = id.map_or("null", RawValue::get);
    format!(r#"{{"jsonrpc":"2.0","error":{{"code":{code},"message":"{because}"}},"id":{id}}}"#)
        .into()
}
