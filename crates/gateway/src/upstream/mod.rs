//! Step 6 of an action's path: one request to one MCP server, and its answer as it comes.
//!
//! Every server looks like one that speaks streamable HTTP. [`http`] reaches those that do; for
//! those that speak over pipes, [`stdio`] runs the program and stands in for the HTTP side: session
//! ids, JSON or event streams, status codes. The enforcement point has one path for both.
//!
//! Credentials are read when the configuration is, live in memory that is wiped when they go, and
//! take the place of whatever the agent sent under the same name (R3).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use ::http::{HeaderMap, Method, Response};
use arc_swap::ArcSwap;
use bytes::Bytes;
use model::config::{Config, Http2, Limits, Server, ServerKind};
use model::name::ServerName;
use parking_lot::Mutex;

use crate::Body;
use crate::caller::Principal;
use crate::inspection::Sink;

mod allowance;
mod connections;
mod credential;
mod findings;
pub(crate) mod freshness;
mod http;
mod passed;
mod places;
mod stdio;
mod web;

use credential::Resolved;
use findings::Findings;
use freshness::{Compared, Freshness};
use places::Places;
use stdio::Confinement;

pub use credential::{credential_header, read_secret};
pub(crate) use http::authorities;
pub use stdio::{Launcher, Made, NotPinned, digest, made_of};
pub use web::{Web, webs};

/// The header that names a session (revisions before 2026-07-28, `basic/transports`).
pub(crate) static MCP_SESSION_ID: ::http::HeaderName =
    ::http::HeaderName::from_static("mcp-session-id");
/// The header that names the revision.
pub(crate) static MCP_PROTOCOL_VERSION: ::http::HeaderName =
    ::http::HeaderName::from_static("mcp-protocol-version");

/// One request for a server.
#[derive(Debug)]
pub struct Outgoing {
    /// `POST`, `GET` or `DELETE`.
    pub method: Method,
    /// The client's headers, without what is meant for the gateway: no credentials, no cookies, no
    /// `Host`, nothing about the connection.
    pub headers: HeaderMap,
    /// The body; empty unless it is a `POST`.
    pub body: Bytes,
    /// For whom: sessions and children belong to a principal.
    pub principal: Principal,
}

/// Why there is no answer that could be passed on. The texts are fit for agents: they name no
/// address, no path and no secret. The operator finds the details in the log (target `upstream`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// No connection, or the program could not be started or ended before it answered. It may have
    /// taken effect if the request was under way.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// A connection that was kept for this request was closed before anything of the answer came. The request
    /// may have been heard: only one that can be repeated without harm may be sent again.
    #[error("the server cannot be reached: the connection broke before the answer")]
    Stale,
    /// No answer began within `limits.upstream_seconds`, or the server takes no input any more.
    #[error("the server did not answer in time; try again later, or ask for less")]
    Timeout,
    /// A limit on sessions or on waiting requests is reached; the text names it.
    #[error("{0}")]
    TooMany(String),
    /// The server answered with something that cannot be passed on.
    #[error("the server's answer cannot be passed on: {0}")]
    Protocol(String),
    /// The server was stopped or taken out of the configuration.
    #[error("the server is not in use any more")]
    Disabled,
}

/// Why a server of the configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamConfigError {
    /// It has neither a `command` nor a `url`, or both.
    #[error("server `{server}` needs either `command` or `url`")]
    Target {
        /// The server.
        server: ServerName,
    },
    /// The URL cannot be used.
    #[error(
        "server `{server}`: the `url` cannot be used: {because}; write it like `https://mcp.example.org/mcp`"
    )]
    Url {
        /// The server.
        server: ServerName,
        /// What is wrong with it.
        because: &'static str,
    },
    /// A credential or a variable's value cannot be read, or cannot be used.
    #[error("server `{server}`: {what} cannot be used: {because}")]
    Secret {
        /// The server.
        server: ServerName,
        /// Which one: the credential, or the variable's name.
        what: String,
        /// What is wrong; never the value.
        because: String,
    },
    /// The certification authorities cannot be read.
    #[error("server `{server}`: `ca` cannot be used: {because}")]
    Authorities {
        /// The server.
        server: ServerName,
        /// What is wrong with the file.
        because: String,
    },
    /// The HTTP client's TLS cannot be set up.
    #[error("TLS for upstreams cannot be set up: {0}")]
    Tls(String),
}

/// What all servers of one process share.
#[derive(Clone)]
struct Shared {
    limits: Arc<ArcSwap<Limits>>,
    places: Arc<Places>,
    connector: connections::Connector,
    /// What confines programs.
    launcher: Option<Arc<Launcher>>,
    /// Where it is reported that a program is not what was pinned.
    findings: Arc<Findings>,
}

impl Shared {
    fn new(limits: &Limits, launcher: Option<Launcher>) -> Result<Self, UpstreamConfigError> {
        let limits = Arc::new(ArcSwap::from_pointee(limits.clone()));
        let places = Arc::new(Places::new(Arc::clone(&limits)));
        Ok(Self {
            places,
            connector: http::connector(None, Http2::Never)?,
            launcher: launcher.map(Arc::new),
            findings: Arc::default(),
            limits,
        })
    }
}

/// One MCP server.
pub struct Upstream {
    server: Server,
    resolved: Arc<Resolved>,
    confinement: Option<Arc<Confinement>>,
    freshness: Arc<Freshness>,
    kind: Kind,
}

enum Kind {
    Http(Box<http::Http>),
    Stdio(stdio::Stdio),
}

impl Upstream {
    /// A server on its own, with a connection pool and limits that it shares with none, and without a
    /// [`Launcher`]. Reads its credential and environment. Nothing is connected or started before the
    /// first request.
    ///
    /// # Errors
    /// [`UpstreamConfigError`] when the URL, the credential or the environment cannot be used.
    pub fn new(
        name: &ServerName,
        server: &Server,
        limits: &Limits,
    ) -> Result<Self, UpstreamConfigError> {
        let resolved = Resolved::read(name, server)?;
        Self::build(name, server, resolved, None, &Shared::new(limits, None)?)
    }

    fn build(
        name: &ServerName,
        server: &Server,
        resolved: Resolved,
        confinement: Option<Confinement>,
        shared: &Shared,
    ) -> Result<Self, UpstreamConfigError> {
        let confinement = confinement.map(Arc::new);
        let resolved = Arc::new(resolved);
        let freshness = Arc::<Freshness>::default();
        let kind = match (&server.url, server.command.as_slice()) {
            (Some(url), []) => Kind::Http(Box::new(http::Http::new(
                name,
                url,
                server.ca.as_deref(),
                &resolved,
                shared,
            )?)),
            (None, [_, ..]) => Kind::Stdio(stdio::Stdio::new(
                name,
                server,
                &resolved,
                confinement.as_ref(),
                &freshness,
                shared,
            )),
            _ => {
                return Err(UpstreamConfigError::Target {
                    server: name.clone(),
                });
            }
        };
        Ok(Self {
            server: server.clone(),
            resolved,
            confinement,
            freshness,
            kind,
        })
    }

    /// Whether a configuration, with the secrets that it names, asks for exactly this server.
    fn is_what(
        &self,
        server: &Server,
        resolved: &Resolved,
        confinement: Option<&Confinement>,
    ) -> bool {
        self.confinement.as_deref() == confinement
            && self.server.url == server.url
            && self.server.command == server.command
            && self.server.directory == server.directory
            && self.server.digests == server.digests
            && *self.resolved == *resolved
    }

    /// Sends one request; resolves when the answer's head is there, and the body follows as the
    /// server sends it. Dropping the future or the body gives up: the connection is closed, or,
    /// in the modern era over pipes, the server is told with `notifications/cancelled`.
    ///
    /// # Errors
    /// [`UpstreamError`] when there is no answer that could be passed on. Protocol errors of the
    /// server itself are answers.
    pub async fn send(&self, out: Outgoing) -> Result<Response<Body>, UpstreamError> {
        match &self.kind {
            Kind::Http(http) => http.send(out).await,
            Kind::Stdio(stdio) => stdio.send(out).await,
        }
    }

    /// What the server has announced of its tools.
    pub(crate) fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// An agent's stream has brought the announcement that the tools changed. What programs say over pipes
    /// was counted when it was read.
    pub(crate) fn heard_announcement(&self) {
        if let Kind::Http(_) = &self.kind {
            self.freshness.announce();
        }
    }

    /// Up to when the tools were compared that requests without a session reach (2026-07-28); `None` while
    /// a request would need a new connection, or a program that does not run yet.
    pub(crate) fn compared(&self, principal: &Principal) -> Option<Arc<Compared>> {
        match &self.kind {
            Kind::Http(http) => http
                .is_connected()
                .then(|| Arc::clone(self.freshness.shared())),
            Kind::Stdio(stdio) => stdio.compared(principal),
        }
    }

    /// Ends the sessions and programs of principals that are gone: nothing can use them any more
    /// when this returns, and what they were still sending is cut. Over HTTP there are none, only
    /// connections that were not used for long.
    pub fn retire(&self, gone: &dyn Fn(&Principal) -> bool) {
        match &self.kind {
            Kind::Http(http) => http.forget_idle(),
            Kind::Stdio(stdio) => stdio.retire(gone),
        }
    }

    /// Refuses further requests and begins to end what runs.
    fn close(&self) {
        match &self.kind {
            Kind::Http(http) => http.close(),
            Kind::Stdio(stdio) => stdio.close(),
        }
    }

    /// Refuses further requests, ends all programs, and waits until they have ended.
    pub async fn stop(&self) {
        self.close();
        if let Kind::Stdio(stdio) = &self.kind {
            stdio.ended().await;
        }
    }
}

/// The servers of the configuration. Readers never wait.
pub struct Upstreams {
    shared: Shared,
    servers: ArcSwap<BTreeMap<ServerName, Arc<Upstream>>>,
    /// One reload at a time.
    reloading: Mutex<()>,
}

impl Upstreams {
    /// The servers of a configuration, whose programs nothing confines.
    ///
    /// # Errors
    /// Every server that cannot be used, and why.
    pub fn new(config: &Config) -> Result<Self, Vec<UpstreamConfigError>> {
        Self::with_launcher(config, None)
    }

    /// The servers of a configuration, whose programs a launcher confines.
    ///
    /// # Errors
    /// Every server that cannot be used, and why.
    pub fn with_launcher(
        config: &Config,
        launcher: Option<Launcher>,
    ) -> Result<Self, Vec<UpstreamConfigError>> {
        let upstreams = Self {
            shared: Shared::new(&config.limits, launcher).map_err(|error| vec![error])?,
            servers: ArcSwap::default(),
            reloading: Mutex::new(()),
        };
        upstreams.reload(config)?;
        Ok(upstreams)
    }

    /// Where it is reported from now on that a program is not what was pinned.
    pub fn report_to(&self, sink: Sink) {
        self.shared.findings.report_to(sink);
    }

    /// Takes a configuration into use, all or nothing.
    ///
    /// # Errors
    /// Every server that cannot be used, and why; then nothing has changed.
    pub fn reload(&self, config: &Config) -> Result<(), Vec<UpstreamConfigError>> {
        self.prepare(config)?();
        Ok(())
    }

    /// Reads a configuration, with the credentials, and returns what takes it into use. MCP servers that
    /// are the same as before keep their connections and programs; those that changed are replaced, and
    /// those that are gone are stopped: what they run ends in the background. Callers
    /// prepare one at a time.
    ///
    /// # Errors
    /// Every server that cannot be used, and why; then nothing has changed.
    pub fn prepare(
        &self,
        config: &Config,
    ) -> Result<impl FnOnce() + Send + use<'_>, Vec<UpstreamConfigError>> {
        let before = self.servers.load_full();
        let mut servers = BTreeMap::new();
        let mut wrong = Vec::new();
        let mcp = config
            .servers
            .iter()
            .filter(|(_, server)| server.kind == ServerKind::Mcp);
        let hidden = Arc::new(stdio::hidden(config));
        for (name, server) in mcp {
            let confinement = self.confinement(server, &hidden);
            let built = Resolved::read(name, server).and_then(|resolved| match before.get(name) {
                Some(known) if known.is_what(server, &resolved, confinement.as_ref()) => {
                    Ok(Arc::clone(known))
                }
                _ => {
                    Upstream::build(name, server, resolved, confinement, &self.shared).map(Arc::new)
                }
            });
            match built {
                Ok(upstream) => {
                    servers.insert(name.clone(), upstream);
                }
                Err(error) => wrong.push(error),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let limits = Arc::new(config.limits.clone());
        Ok(move || {
            let _one = self.reloading.lock();
            self.shared.limits.store(limits);
            let servers = Arc::new(servers);
            self.servers.store(Arc::clone(&servers));
            for (name, old) in before.iter() {
                if servers.get(name).is_none_or(|new| !Arc::ptr_eq(new, old)) {
                    old.close();
                }
            }
        })
    }

    /// How a server's programs are confined, if it has any.
    fn confinement(&self, server: &Server, hidden: &Arc<BTreeSet<PathBuf>>) -> Option<Confinement> {
        let launcher = self.shared.launcher.as_ref()?;
        (!server.command.is_empty()).then(|| Confinement::new(launcher, hidden, &server.confine))
    }

    /// A server.
    #[must_use]
    pub fn get(&self, name: &ServerName) -> Option<Arc<Upstream>> {
        self.servers.load().get(name).cloned()
    }

    /// Ends the sessions and programs of principals that are gone, at every server: see
    /// [`Upstream::retire`].
    pub fn retire(&self, gone: &dyn Fn(&Principal) -> bool) {
        for upstream in self.servers.load().values() {
            upstream.retire(gone);
        }
    }

    /// Stops every server, and waits until all programs have ended.
    pub async fn stop(&self) {
        let servers = self.servers.swap(Arc::default());
        // Those of earlier configurations may still be ending: the places say when all have.
        for upstream in servers.values() {
            upstream.close();
        }
        for upstream in servers.values() {
            upstream.stop().await;
        }
        self.shared.places.empty().await;
    }
}
