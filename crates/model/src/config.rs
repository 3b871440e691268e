//! The configuration file, `sallyport.toml`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::inspection::Inspection;
use crate::mistake::Mistake;
use crate::name::{ServerName, TrustDomain};
use crate::rate::{Rate, RateLimit};

mod a2a;
mod approvals;
mod confine;
mod http;
mod http2;
mod identity;
mod llm;
mod monitor;
mod postgres;
mod proofs;
mod proxy;
mod response;
mod server;
mod signals;
mod vault;

pub use a2a::{A2a, PushTarget};
pub use approvals::Approvals;
pub use confine::{Confine, Enforce};
pub use http::{CallToken, Http};
pub use http2::Http2;
pub use identity::Identity;
pub use llm::{Fallback, Llm, Price, Surface};
pub use monitor::{Monitor, Points, Scoring, ServerLabel};
pub use postgres::{Postgres, PostgresTls};
pub use proofs::{Nonce, Proofs};
pub use proxy::Proxy;
pub use response::{Channel, Mode, Response, Rotation, Trigger};
pub use server::{Credential, Secret, Server, ServerKind};
pub use signals::{
    ClientCredentials, Reaction, SecretMethod, SignalReceiver, SignalTransmitter, Signals,
};
pub use vault::{RecordContent, Vault, WhenFull};

/// The configuration of one process. The file format is described in `docs/configuration.md`;
/// relative paths are relative to the file.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The SPIFFE trust domain.
    pub trust_domain: TrustDomain,
    /// Where keys, state and the log live.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// The control listener: management API, token service, metrics.
    #[serde(default = "Listener::control")]
    pub control: Listener,
    /// The gateway listener: the enforcement points.
    #[serde(default = "Listener::gateway")]
    pub gateway: Listener,
    /// Certificates of agents.
    #[serde(default)]
    pub identity: Identity,
    /// Limits on what arrives.
    #[serde(default)]
    pub limits: Limits,
    /// What of arguments may be seen in records.
    #[serde(default)]
    pub redaction: Redaction,
    /// What is done about what is seen in contents, at all servers.
    #[serde(default)]
    pub inspection: Inspection,
    /// Approvals by people.
    #[serde(default)]
    pub approvals: Approvals,
    /// The PostgreSQL listener. It is opened only when a server of that kind is configured.
    #[serde(default = "Listener::postgres")]
    pub postgres: Listener,
    /// The forward proxy for HTTP. There is none unless it is configured.
    #[serde(default)]
    pub proxy: Option<Proxy>,
    /// What proofs of possession must have in them.
    #[serde(default)]
    pub proofs: Proofs,
    /// What is watched in what agents do.
    #[serde(default)]
    pub monitor: Monitor,
    /// What is done about incidents.
    #[serde(default)]
    pub response: Response,
    /// Signals to and from other systems.
    #[serde(default)]
    pub signals: Signals,
    /// Content that is kept for investigation.
    #[serde(default)]
    pub vault: Vault,
    /// What is protected: servers of MCP, of HTTP APIs, of models, of databases, and other agents.
    #[serde(default)]
    pub servers: BTreeMap<ServerName, Server>,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The address to listen on. Anything but loopback needs `tls`.
    pub listen: SocketAddr,
    /// The URL that clients use, without a path or trailing slash; by default made from `listen`.
    #[serde(default)]
    pub public_url: Option<String>,
    /// The certificate and key, in PEM files.
    #[serde(default)]
    pub tls: Option<TlsFiles>,
    /// Origins of browser pages that may call (MCP Origin check); requests without `Origin` pass.
    #[serde(default)]
    pub allowed_origins: Vec<String>,
}

impl Listener {
    fn control() -> Self {
        Self::on(SocketAddr::from(([127, 0, 0, 1], 8600)))
    }

    fn gateway() -> Self {
        Self::on(SocketAddr::from(([127, 0, 0, 1], 8601)))
    }

    fn postgres() -> Self {
        Self::on(SocketAddr::from(([127, 0, 0, 1], 8602)))
    }

    /// A listener with nothing but an address.
    #[must_use]
    pub fn on(listen: SocketAddr) -> Self {
        Self {
            listen,
            public_url: None,
            tls: None,
            allowed_origins: Vec::new(),
        }
    }

    /// The base URL that clients use, without a trailing slash.
    #[must_use]
    pub fn base_url(&self) -> String {
        self.public_url.clone().unwrap_or_else(|| {
            let scheme = if self.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", self.listen)
        })
    }
}

/// A certificate chain and its private key, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Limits on what arrives; whatever is over one is refused with an error that names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Longest request body, in bytes.
    pub request_bytes: usize,
    /// Longest single message of an upstream, in bytes.
    pub response_bytes: usize,
    /// Deepest nesting of JSON.
    pub json_depth: usize,
    /// Sessions at once, over all servers (revisions before 2026-07-28).
    pub sessions: usize,
    /// Sessions at once, per task.
    pub sessions_per_task: usize,
    /// Connections at once.
    pub connections: usize,
    /// Open streams at once, per task.
    pub streams_per_task: usize,
    /// Seconds without traffic after which a session ends.
    pub session_idle_seconds: u64,
    /// Seconds that a client may take to send a request's head, or its body.
    pub request_seconds: u64,
    /// Seconds that an upstream may take to begin its answer.
    pub upstream_seconds: u64,
    /// Seconds after which the tools of an MCP server in use are compared with what was approved again,
    /// though it announced no change; 0 for never.
    pub recheck_seconds: u64,
    /// How often one agent may call, with all its tasks and instances together.
    pub agent_rate: RateLimit,
    /// How often a task may call whose template does not say.
    pub task_rate: RateLimit,
    /// How often one agent may ask the control listener: for tokens, and for what becomes of its tasks.
    pub control_rate: RateLimit,
    /// How often one address that is not this machine's may present credentials that are none.
    pub unauthenticated_rate: RateLimit,
}

impl Limits {
    /// The longest message that is taken in, from either side, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.request_bytes.max(self.response_bytes)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 4 << 20,
            response_bytes: 16 << 20,
            json_depth: 64,
            sessions: 4_096,
            sessions_per_task: 16,
            connections: 8_192,
            streams_per_task: 64,
            session_idle_seconds: 1_800,
            request_seconds: 30,
            upstream_seconds: 300,
            recheck_seconds: 300,
            agent_rate: RateLimit::Off,
            task_rate: RateLimit::Off,
            control_rate: RateLimit::At(Rate::a_second(50, 500)),
            unauthenticated_rate: RateLimit::At(Rate::a_second(100, 1_000)),
        }
    }
}

/// What of arguments may be seen in records. Values of constrained arguments are shown, all
/// others only as their kind and size, unless a rule says otherwise; `hide` wins over `show`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redaction {
    /// Names of arguments, at any depth, whose values are shown.
    pub show: Vec<String>,
    /// Names of arguments, at any depth, whose values are never shown.
    pub hide: Vec<String>,
    /// Regular expressions; what they match in shown text is replaced.
    pub patterns: Vec<String>,
}

fn default_data_dir() -> PathBuf {
    PathBuf::from("data")
}

impl Config {
    /// Reads the configuration.
    ///
    /// # Errors
    /// Every mistake in the text, each with its place.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Vec<Mistake>> {
        let config: Self = toml::from_str(text)
            .map_err(|error| vec![Mistake::new(file, error.message()).at(error.span())])?;
        Ok(config)
    }
}
