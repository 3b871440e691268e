//! The engine: the one owner of the control plane's state.
//!
//! Every change goes through three places: the audit log, the store, and what is live in memory.
//! Their order makes a crash between any two of them safe:
//!
//! - What *gives* (registering, enrolling, opening, releasing, enabling, reloading) is recorded
//!   first, then stored, then made live. If the log cannot be written nothing happens (R4); after a
//!   crash in between, less is possible than the log says.
//! - What *takes* (quarantining, retiring, disabling, ending, revoking) holds in memory first, then
//!   in the store together with the record that it owes, then in the log. It holds before the call
//!   returns and whatever breaks (R5); what could not be written is tried again until it is.
//!
//! Changes run to their end even when the caller goes away in the middle.

mod agents;
mod approvals;
mod canaries;
mod error;
mod holds;
mod housekeeping;
mod parts;
mod recovery;
mod restriction;
mod review;
mod setup;
mod svids;
mod tasks;
mod tools;
mod vault;
mod watching;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use audit::AuditError;
use gateway::live::Live;
use gateway::pipeline::Pipeline;
use identity::KeyRing;
use identity::svid::Authority;
use jiff::{SignedDuration, Timestamp};
use model::config::{Monitor, Redaction, Server};
use model::record::Record;
use model::{AgentName, InstanceId, ServerName, Template, TemplateName, TrustDomain};
use policy::Policies;
use store::Store;

use crate::api;
use crate::watch::Watch;

pub use approvals::Approve;
pub use error::EngineError;
pub use holds::Hold;
pub use restriction::Restricted;
pub use tasks::OpenTask;
pub(crate) use tasks::words;

use restriction::Owed;

/// What people wrote, ready for use: what `POST /v1/reload` replaces.
#[derive(Clone)]
pub struct Setup {
    /// The policies, compiled.
    pub policies: Arc<Policies>,
    /// The templates.
    pub templates: BTreeMap<TemplateName, Template>,
    /// The protected servers.
    pub servers: BTreeMap<ServerName, Server>,
    /// What of arguments may be seen in records.
    pub redaction: Redaction,
    /// What is watched in what agents do.
    pub monitor: Monitor,
}

/// What does not change while the process runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// Base URL of the control listener, which is the issuer of tokens.
    pub control_url: String,
    /// Base URL of the gateway.
    pub gateway_url: String,
    /// URL of the forward proxy, if there is one.
    pub proxy_url: Option<String>,
    /// Where clients of databases connect, once there is a listener for them.
    pub databases: Arc<OnceLock<Databases>>,
    /// Whether tokens can be bound to certificates (RFC 8705): only where the control listener and the gateway
    /// have TLS of their own.
    pub certificates: bool,
    /// What this machine cannot keep the programs from that the gateway starts, for the status.
    pub confinement_lacks: Option<String>,
    /// Limits.
    pub limits: Limits,
}

/// The listener for clients of databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Databases {
    /// `postgres://host:port`, as clients reach it.
    pub base_url: String,
    /// Whether it has TLS.
    pub encrypted: bool,
}

impl Databases {
    /// The URL of one database, as clients take it.
    #[must_use]
    pub fn url(&self, server: &ServerName) -> String {
        let mode = if self.encrypted {
            "?sslmode=verify-full"
        } else {
            ""
        };
        format!("{}/{server}{mode}", self.base_url)
    }
}

/// What keeps the control plane from growing without bound (R7).
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Agents, retired ones included.
    pub agents: usize,
    /// Enabled instances of one agent.
    pub instances_per_agent: u32,
    /// Open tasks in all.
    pub open_tasks: usize,
    /// Open tasks of one agent.
    pub open_tasks_per_agent: usize,
    /// How long the store keeps tasks that have ended; the log keeps them for good.
    pub keep_ended: SignedDuration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            agents: 100_000,
            instances_per_agent: 100,
            open_tasks: 20_000,
            open_tasks_per_agent: 2_000,
            keep_ended: SignedDuration::from_hours(24 * 30),
        }
    }
}

/// What the engine is made of.
pub struct EngineParts {
    /// The store.
    pub store: Store,
    /// The pipeline, whose `Live` the engine fills at its start and keeps up to date.
    pub pipeline: Arc<Pipeline>,
    /// The signing keys of the token service.
    pub keys: Arc<KeyRing>,
    /// The certification authority of the trust domain.
    pub authority: Arc<Authority>,
    /// The folder of the audit log, read once at the start.
    pub log_dir: PathBuf,
    /// What people wrote.
    pub setup: Setup,
    /// What does not change.
    pub settings: Settings,
    /// Called each second and after each end of a task: drops what belongs to ended tasks.
    pub sweep: Arc<dyn Fn() + Send + Sync>,
}

/// Who makes a change, as it stands in the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The operator.
    Operator,
    /// An enrolled instance, authenticated.
    Instance {
        /// Its id.
        id: InstanceId,
        /// The agent that it is a copy of.
        agent: AgentName,
    },
    /// The process itself.
    Sallyport,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("operator"),
            Self::Instance { id, .. } => id.fmt(f),
            Self::Sallyport => f.write_str("sallyport"),
        }
    }
}

/// The owner of the control plane. See the module's description for the order of changes.
pub struct Engine {
    store: Store,
    pipeline: Arc<Pipeline>,
    keys: Arc<KeyRing>,
    authority: Arc<Authority>,
    settings: Settings,
    servers: arc_swap::ArcSwap<BTreeMap<ServerName, Server>>,
    sweep: Arc<dyn Fn() + Send + Sync>,
    started_at: Timestamp,
    /// Keeps changes of the store and of what is live in the same order. Those that open tasks
    /// share it, so that their records are written together; all others have it alone.
    changes: tokio::sync::RwLock<()>,
    owed: Owed,
    desk: Arc<approvals::StoreDesk>,
    watch: Arc<Watch>,
    /// What is remembered of the servers whose tools change.
    contacts: tools::Contacts,
    /// Why what people wrote last was not taken into use.
    setup_problem: arc_swap::ArcSwapOption<String>,
}

impl Engine {
    /// What is true right now.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        self.pipeline.live()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The pipeline.
    #[must_use]
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// What watches agents: findings, incidents and scores. Begin it with [`Watch::start`].
    #[must_use]
    pub fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// The signing keys of the token service.
    #[must_use]
    pub fn keys(&self) -> &Arc<KeyRing> {
        &self.keys
    }

    /// What does not change while the process runs.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The protected servers as they are configured now.
    #[must_use]
    pub fn servers(&self) -> Arc<BTreeMap<ServerName, Server>> {
        self.servers.load_full()
    }

    /// Writes the record of a change that gives; the change may go on only when this succeeds.
    pub(crate) async fn record(&self, record: Record) -> Result<u64, EngineError> {
        self.live().record(record).await.map_err(|error| match error {
            AuditError::TooLong { bytes } => EngineError::Invalid(format!(
                "the record of this change would be {bytes} bytes long, and the log takes at most \
                 {}: a template with a smaller grant is needed",
                audit::LONGEST_RECORD
            )),
            other => other.into(),
        })
    }

    /// How things are.
    pub async fn status(&self) -> api::Status {
        let problems = self.problems().await;
        // A store that cannot be read is among the problems already.
        let counts = self.store.agent_counts().await.unwrap_or_default();
        let agents = counts
            .into_iter()
            .map(|(state, count)| (state.as_str().to_owned(), count))
            .collect();
        let live = self.live();
        let world = Arc::clone(&live.world());
        let now = Timestamp::now();
        let disabled = world.servers().filter(|(_, facts)| !facts.enabled).count();
        api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_domain: self.settings.trust_domain.to_string(),
            control: self.settings.control_url.clone(),
            gateway: self.settings.gateway_url.clone(),
            started_at: self.started_at,
            ready: problems.is_empty(),
            problems,
            policy_version: world.policies().version().to_owned(),
            policies: world.policies().len(),
            templates: world.templates().len(),
            servers: api::Count {
                total: world.servers().count(),
                disabled,
            },
            agents,
            open_tasks: self.open_tasks(now),
            log_size: live.audit().size(),
            owed: self.owed.len(),
            setup_problem: self.setup_problem.load().as_deref().cloned(),
            confinement_lacks: self.settings.confinement_lacks.clone(),
        }
    }

    /// What does not work, in words; nothing when the process is ready.
    pub async fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(error) = self.store.ping().await {
            problems.push(error.to_string());
        }
        if let Err(error) = self.live().audit().health() {
            problems.push(format!("the audit log cannot be written: {error}"));
        }
        if self.live().world().policies().is_empty() {
            problems.push("no policies are loaded, so nothing is permitted".to_owned());
        }
        match self.owed.len() {
            0 => {}
            owed => problems.push(format!(
                "{owed} restrictions hold, but could not be written to the store or the log yet"
            )),
        }
        problems
    }

    /// How many restrictions hold but are not written everywhere yet.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.owed.len()
    }

    /// Says in the status why the files, as they are now, were not taken into use; `None` when they
    /// are. Sallyport works all the same, so this makes it no less ready.
    pub fn set_setup_problem(&self, problem: Option<String>) {
        self.setup_problem.store(problem.map(Arc::new));
    }

    /// How many tasks are open.
    #[must_use]
    pub fn open_tasks(&self, now: Timestamp) -> usize {
        let tasks = self.live().tasks();
        tasks
            .iter()
            .filter(|task| task.status_at(now) == model::TaskStatus::Open)
            .count()
    }
}

/// Runs a change to its end, whether or not the caller waits for it.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, EngineError>> + Send + 'static,
) -> Result<T, EngineError> {
    tokio::spawn(change)
        .await
        .unwrap_or(Err(EngineError::Ending))
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}
