//! Tools are compared with their pins again before they are called: when the server has announced that they
//! changed, when a connection to it is new, and when it was long ago (step 7 of a listing that nobody asked
//! for). A definition that was changed is quarantined before the next call of it.
//!
//! The listing is one more action of the caller: decided, recorded and forwarded as if the agent had asked for
//! it, over the agent's own session or program, since a server may list something else in another.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http_body_util::BodyExt;
use model::Operation;
use model::config::ServerKind;
use parking_lot::Mutex;
use serde_json::json;

use super::agreement::{METHOD, VERSION};
use super::exchange::Exchange;
use super::message::Id;
use super::refusal::{Refusal, UPSTREAM_FAILED};
use super::revision::{Method, Revision};
use super::sessions::Session;
use super::visit::{Ready, Visit};
use super::{Refused, forward};
use crate::pipeline::random;
use crate::resource::Route;
use crate::upstream::Upstream;
use crate::upstream::freshness::Compared;

/// Most pages of one listing.
const PAGES: usize = 64;
/// How long a listing may take, all pages together, and how long a call waits for it.
const LONGEST: Duration = Duration::from_secs(30);
/// How often an announcement by itself has the tools listed, per connection; else the next call does.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Why tools are compared again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The server said that they changed.
    Announced,
    /// The session, the connection or the program is new.
    Connected,
    /// It was long ago.
    LongAgo,
}

impl Why {
    fn as_str(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Connected => "connected",
            Self::LongAgo => "interval",
        }
    }
}

/// What the gateway learns of a page that it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    /// There is another, with this cursor.
    More(String),
    /// It is the last one.
    Last,
}

/// Where what is learnt of a page is put.
pub(super) type Learnt = Arc<Mutex<Option<Page>>>;

/// The tools could not be listed; the log says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NotListed;

impl Visit {
    /// Before a tool is called: has the tools compared with their pins again, if that is due.
    ///
    /// # Errors
    /// When the server has announced a change, and its tools cannot be listed: then none is called (R4).
    pub(super) async fn recheck(
        &self,
        id: &Id,
        revision: Revision,
        session: Option<&Arc<Session>>,
    ) -> Result<(), Refused> {
        let Some((why, upstream)) = self.is_due(session) else {
            return Ok(());
        };
        if why == Why::LongAgo {
            // Nothing says that they changed, so nobody waits.
            self.recheck_aside(revision, session, why);
            return Ok(());
        }
        let listed = tokio::time::timeout(
            LONGEST,
            self.compare_tools(&upstream, revision, session, why),
        );
        match (listed.await.unwrap_or(Err(NotListed)), why) {
            (Ok(()), _) => Ok(()),
            (Err(NotListed), Why::Announced) => Err(Refused::Protocol(Refusal::new(
                http::StatusCode::BAD_GATEWAY,
                Some(id),
                UPSTREAM_FAILED,
                "the server announced that its tools have changed, and they cannot be listed: none is called \
                 before they were compared with what was approved; try again later",
            ))),
            (Err(NotListed), _) => {
                let server = &self.route.server;
                tracing::warn!(%server, "the tools of a server could not be compared with what was approved when a connection began");
                if let Some(compared) = compared(&upstream, self, session) {
                    compared.compared(upstream.freshness().announced());
                }
                Ok(())
            }
        }
    }

    /// Whether the tools are to be compared again, and why. Only where something was approved that could
    /// have changed since.
    fn is_due(&self, session: Option<&Arc<Session>>) -> Option<(Why, Arc<Upstream>)> {
        let server = &self.route.server;
        let live = self.shared.pipeline.live();
        if !live.world().tools(server).is_some_and(|tools| tools.met) {
            return None;
        }
        let upstream = self.shared.upstreams.get(server)?;
        let Some(compared) = compared(&upstream, self, session) else {
            return Some((Why::Connected, upstream));
        };
        let why = match compared.up_to() {
            0 => Why::Connected,
            seen if seen < upstream.freshness().announced() => Why::Announced,
            _ => {
                let every = self.limits.recheck_seconds;
                let due = every > 0 && compared.is_due(Duration::from_secs(every));
                due.then_some(Why::LongAgo)?
            }
        };
        Some((why, upstream))
    }

    /// Has the tools compared while nobody waits for it.
    fn recheck_aside(&self, revision: Revision, session: Option<&Arc<Session>>, why: Why) {
        let visit = Self {
            shared: Arc::clone(&self.shared),
            limits: self.limits.clone(),
            caller: Arc::clone(&self.caller),
            route: self.route.clone(),
        };
        let session = session.cloned();
        tokio::spawn(async move {
            let Some(upstream) = visit.shared.upstreams.get(&visit.route.server) else {
                return;
            };
            let listed = visit.compare_tools(&upstream, revision, session.as_ref(), why);
            if !matches!(tokio::time::timeout(LONGEST, listed).await, Ok(Ok(()))) {
                let (server, why) = (&visit.route.server, why.as_str());
                tracing::warn!(%server, why, "the tools of a server could not be compared with what was approved");
            }
        });
    }

    /// Lists the tools, page by page; each is compared with the pins on its way.
    async fn compare_tools(
        &self,
        upstream: &Upstream,
        revision: Revision,
        session: Option<&Arc<Session>>,
        why: Why,
    ) -> Result<(), NotListed> {
        let before = compared(upstream, self, session);
        // One at a time on one connection: whoever waited has nothing left to do.
        let _alone = match &before {
            Some(compared) => {
                let seen = compared.up_to();
                let alone = compared.alone.lock().await;
                if compared.up_to() > seen && compared.up_to() >= upstream.freshness().announced() {
                    return Ok(());
                }
                Some(alone)
            }
            None => None,
        };
        let announced = upstream.freshness().announced();
        let mut cursor = None;
        for _ in 0..PAGES {
            match self.page(revision, session, cursor.as_deref(), why).await? {
                Page::More(next) => cursor = Some(next),
                Page::Last => {
                    // A connection that was not there before is there now.
                    if let Some(compared) = compared(upstream, self, session) {
                        compared.compared(announced);
                    }
                    return Ok(());
                }
            }
        }
        Err(NotListed)
    }

    async fn page(
        &self,
        revision: Revision,
        session: Option<&Arc<Session>>,
        cursor: Option<&str>,
        why: Why,
    ) -> Result<Page, NotListed> {
        // No client has a request of this name under way.
        let name: String = random().iter().map(|byte| format!("{byte:02x}")).collect();
        let id = Id::Text(format!("sallyport-{name}").into());
        let mut params = json!({});
        if let Some(cursor) = cursor {
            params["cursor"] = cursor.into();
        }
        if revision.is_modern() {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": revision.as_str(),
                "io.modelcontextprotocol/clientInfo": { "name": "sallyport", "version": env!("CARGO_PKG_VERSION") },
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        let message =
            json!({ "jsonrpc": "2.0", "id": &id, "method": "tools/list", "params": params });
        let body = Bytes::from(message.to_string());
        let ready = Ready {
            id,
            method: Method::ListTools,
            name: "tools/list".to_owned(),
            operations: vec![Operation::Converse],
            begins_listing: false,
            hears_of_tools: false,
        };
        let mut call = self.decide(ready).await.map_err(|_| NotListed)?;
        for permit in &mut call.permits {
            permit.note("recheck", why.as_str());
        }
        let principal = self.caller.principal();
        let outgoing = if revision.is_modern() {
            let mut headers = HeaderMap::new();
            headers.insert(VERSION, HeaderValue::from_static(revision.as_str()));
            headers.insert(METHOD, HeaderValue::from_static("tools/list"));
            forward::modern(&headers, Method::ListTools, body, principal)
        } else {
            let session = session.map(AsRef::as_ref);
            forward::legacy(&HeaderMap::new(), body, principal, session)
        };
        let learnt = Learnt::default();
        let mut exchange = self.exchange(revision, session.cloned(), vec![call], None, None);
        exchange.learns = Some(Arc::clone(&learnt));
        let answered = exchange.carry_out(outgoing, Vec::new()).await;
        let mut answer = answered.map_err(|_| NotListed)?.into_body();
        // A stream need not end with its answer.
        while learnt.lock().is_none() && matches!(answer.frame().await, Some(Ok(_))) {}
        let page = learnt.lock().take();
        page.ok_or(NotListed)
    }
}

/// Up to when the tools were compared that a call would reach.
fn compared(
    upstream: &Upstream,
    visit: &Visit,
    session: Option<&Arc<Session>>,
) -> Option<Arc<Compared>> {
    match session {
        Some(session) => Some(Arc::clone(&session.compared)),
        None => upstream.compared(&visit.caller.principal()),
    }
}

impl Exchange {
    /// The server says that its tools changed: what was compared is stale for every session, and they are
    /// listed at once over the connection that says so.
    pub(super) fn tools_announced(&self) {
        let Some(upstream) = self.shared.upstreams.get(&self.server) else {
            return;
        };
        upstream.heard_announcement();
        let visit = self.as_visit();
        let compared = compared(&upstream, &visit, self.session.as_ref());
        if let Some((why @ Why::Announced, _)) = visit.is_due(self.session.as_ref())
            && compared.is_some_and(|compared| compared.is_due(AT_ONCE))
        {
            visit.recheck_aside(self.revision, self.session.as_ref(), why);
        }
    }

    /// The agent itself has had the tools listed as a whole: that is as good. `since` is up to which
    /// announcement.
    pub(super) fn tools_listed(&self, since: u64) {
        let Some(upstream) = self.shared.upstreams.get(&self.server) else {
            return;
        };
        if let Some(compared) = compared(&upstream, &self.as_visit(), self.session.as_ref()) {
            compared.compared(since);
        }
    }

    fn as_visit(&self) -> Visit {
        Visit {
            shared: Arc::clone(&self.shared),
            limits: self.limits.clone(),
            caller: Arc::clone(&self.caller),
            route: Route {
                kind: ServerKind::Mcp,
                server: self.server.clone(),
                task: None,
            },
        }
    }
}
