//! The MCP enforcement point: streamable HTTP of the revisions 2024-11-05 to 2026-07-28.
//!
//! The path of one request, and where each step lives:
//! 1. [`crate::front`]: Host, Origin and the routes; `intake`: the body, within its limits; `message`,
//!    `agreement`, `revision`: what it says, and whether headers and body say the same;
//! 2. [`crate::caller`]: who is calling, before anything of the body is read;
//! 3. `operations`: what is attempted;
//! 4. and 5. [`crate::pipeline`]: the decision and its durable record;
//! 6. `forward`: to the upstream, without anything of the agent's credentials;
//! 7. `inspect`, `results`, `asked`: every message of the answer, on its way through `relay`;
//! 8. `exchange`: what became of each call.
//!
//! Bytes pass as they arrived wherever nothing has to be taken out of them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{Method as HttpMethod, Response};
use jiff::Timestamp;
use model::config::{Config, ServerKind};
use model::{ServerName, TaskStatus};

use crate::front::{self, BoxFuture, Commit, Door, HttpDoor, Knock, Settings};
use crate::pipeline::Pipeline;
use crate::slots::Slots;
use crate::upstream::{UpstreamConfigError, Upstreams};
use crate::{Body, resource};

pub mod agreement;
pub mod annotations;
mod answer;
mod asked;
mod batch;
mod contents;
pub mod delivery;
mod exchange;
mod forward;
mod handles;
mod inspect;
mod intake;
mod legacy;
mod listing;
pub mod message;
mod news;
mod operations;
mod post;
pub mod raw;
mod recheck;
mod refusal;
mod relay;
mod results;
pub(crate) mod revision;
mod sessions;
pub mod sse;
mod visit;

use annotations::Annotations;
use handles::Handles;
use refusal::Refusal;
use sessions::Sessions;

/// The enforcement point, for one listener.
pub struct Endpoint {
    shared: Arc<Shared>,
}

/// What requests share.
struct Shared {
    pipeline: Arc<Pipeline>,
    upstreams: Arc<Upstreams>,
    settings: Arc<ArcSwap<Settings>>,
    sessions: Sessions,
    handles: Handles,
    annotations: papaya::HashMap<ServerName, Arc<Annotations>>,
    slots: Slots,
    room: crate::intake::Room,
}

impl Endpoint {
    /// Puts the enforcement point in front of the upstreams.
    #[must_use]
    pub fn new(
        pipeline: Arc<Pipeline>,
        upstreams: Arc<Upstreams>,
        settings: Arc<ArcSwap<Settings>>,
    ) -> Self {
        upstreams.report_to(pipeline.inspection().sink().clone());
        let longest = settings.load().limits.longest();
        let shared = Shared {
            room: crate::intake::Room::new(longest),
            pipeline,
            upstreams,
            settings,
            sessions: Sessions::default(),
            handles: Handles::default(),
            annotations: papaya::HashMap::new(),
            slots: Slots::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Forgets sessions and handles whose task is over or whose instance was disabled, and
    /// sessions without traffic.
    fn forget_the_ended(&self) {
        let now = Timestamp::now();
        let live = self.shared.pipeline.live();
        let alive = |principal: &crate::caller::Principal| {
            !live.is_disabled(&principal.instance)
                && live
                    .task(&principal.task)
                    .is_some_and(|task| task.status_at(now) == TaskStatus::Open)
        };
        let idle = self.shared.settings.load().limits.session_idle_seconds;
        self.shared
            .sessions
            .sweep(alive, std::time::Duration::from_secs(idle));
        self.shared.handles.retain(alive);
        self.shared.upstreams.retire(&|principal| !alive(principal));
    }

    /// How many sessions there are (revisions before 2026-07-28).
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.shared.sessions.len()
    }
}

impl Door for Endpoint {
    fn kind(&self) -> ServerKind {
        ServerKind::Mcp
    }

    fn prepare(&self, config: &Config) -> Result<Commit<'_>, Vec<String>> {
        let told = |wrong: Vec<UpstreamConfigError>| {
            wrong.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let commit = self.shared.upstreams.prepare(config).map_err(told)?;
        Ok(Box::new(commit))
    }

    fn sweep(&self) {
        self.forget_the_ended();
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.upstreams.stop())
    }
}

impl HttpDoor for Endpoint {
    fn answer(&self, knock: Knock) -> BoxFuture<'_, Response<Body>> {
        Box::pin(self.shared.resource(knock))
    }
}

impl Shared {
    /// A request for a protected resource. The caller comes first: nothing of the body is read for
    /// someone who is not authenticated.
    async fn resource(self: &Arc<Self>, knock: Knock) -> Response<Body> {
        let Knock {
            request,
            route,
            settings,
            ..
        } = knock;
        let authenticated = self
            .pipeline
            .authenticate(&request, &route, "", &settings.base_url);
        let caller = match authenticated {
            Ok(caller) => Arc::new(caller),
            Err(refused) => return resource::challenge(&refused, &route, &settings.base_url),
        };
        let visit = visit::Visit {
            shared: Arc::clone(self),
            limits: settings.limits.clone(),
            caller,
            route,
        };
        let answered = match *request.method() {
            HttpMethod::POST => visit.post(request).await,
            HttpMethod::GET => Box::pin(visit.listen(request.headers())).await,
            HttpMethod::DELETE => Box::pin(visit.end_session(request.headers())).await,
            _ => return front::method_not_allowed("POST, GET, DELETE, OPTIONS"),
        };
        answered.unwrap_or_else(|refused| visit.refuse(&refused))
    }

    /// What is known of a server's tools, if anything is.
    fn annotations_of(&self, server: &ServerName) -> Option<Arc<Annotations>> {
        self.annotations.pin().get(server).map(Arc::clone)
    }

    /// What is known of a server's tools, to learn more. Only for servers that have answered: the
    /// names of others come from agents, and would be kept without bound.
    fn annotations(&self, server: &ServerName) -> Arc<Annotations> {
        let known = self.annotations.pin();
        Arc::clone(known.get_or_insert_with(server.clone(), Arc::default))
    }
}

/// Why a request got no answer from the upstream, as the client is told.
#[derive(Debug)]
enum Refused {
    /// The protocol or a limit forbids it; recorded as such.
    Protocol(Refusal),
    /// Decided and recorded already, or nothing to record.
    Known(Refusal),
}
