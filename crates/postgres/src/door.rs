//! The enforcement point: its databases, its sessions, and what of them is cleaned up when.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway::front::{BoxFuture, Commit, Door, Settings};
use gateway::pipeline::Pipeline;
use gateway::slots::Slots;
use model::ServerName;
use model::config::{Config, ServerKind};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cancel::Cancels;
use crate::role;
use crate::upstream::Database;

/// How many sweeps of the door, one each second, come between two looks for roles that are left over.
const SWEEPS: usize = 15;
/// How long an orderly end waits for sessions to drop their roles.
const GRACE: Duration = Duration::from_secs(10);

/// The enforcement point for PostgreSQL.
pub struct Endpoint {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    databases: ArcSwap<HashMap<ServerName, Arc<Database>>>,
    pub(crate) slots: Slots,
    pub(crate) sessions: AtomicUsize,
    pub(crate) cancels: Cancels,
    pub(crate) work: TaskTracker,
    pub(crate) stopping: CancellationToken,
    sweeps: AtomicUsize,
    /// Databases that are being looked at for roles that are left over.
    sweeping: Arc<Mutex<Vec<ServerName>>>,
}

impl Endpoint {
    /// Reads the databases of a configuration.
    ///
    /// # Errors
    /// Every database that cannot be used, and why.
    pub fn new(
        config: &Config,
        pipeline: Arc<Pipeline>,
        settings: Arc<ArcSwap<Settings>>,
    ) -> Result<Self, Vec<String>> {
        let endpoint = Self {
            pipeline,
            settings,
            databases: ArcSwap::default(),
            slots: Slots::default(),
            sessions: AtomicUsize::new(0),
            cancels: Cancels::default(),
            work: TaskTracker::new(),
            stopping: CancellationToken::new(),
            sweeps: AtomicUsize::new(0),
            sweeping: Arc::default(),
        };
        endpoint.prepare(config)?();
        Ok(endpoint)
    }

    /// Whether a configuration has such servers at all.
    #[must_use]
    pub fn is_wanted(config: &Config) -> bool {
        let mut servers = config.servers.values();
        servers.any(|server| server.kind == ServerKind::Postgres)
    }

    /// A database by its name in the configuration.
    pub(crate) fn database(&self, name: &ServerName) -> Option<Arc<Database>> {
        self.databases.load().get(name).cloned()
    }

    /// Looks for roles that are left over, in the background.
    fn sweep_roles(&self) {
        if self.stopping.is_cancelled() || self.work.is_closed() {
            return;
        }
        for database in self.databases.load().values() {
            let mut sweeping = self.sweeping.lock();
            if sweeping.contains(&database.name) {
                continue;
            }
            sweeping.push(database.name.clone());
            let (database, sweeping) = (Arc::clone(database), Arc::clone(&self.sweeping));
            self.work.spawn(async move {
                match role::sweep(&database).await {
                    Ok(0) => {}
                    Ok(dropped) => {
                        tracing::info!(server = %database.name, dropped, "roles that were left over were dropped");
                    }
                    Err(error) => {
                        tracing::warn!(server = %database.name, %error, "roles that are left over were not looked for");
                    }
                }
                sweeping.lock().retain(|name| *name != database.name);
            });
        }
    }
}

impl Door for Endpoint {
    fn kind(&self) -> ServerKind {
        ServerKind::Postgres
    }

    fn prepare(&self, config: &Config) -> Result<Commit<'_>, Vec<String>> {
        let before = self.databases.load_full();
        let mut databases = HashMap::new();
        let mut wrong = Vec::new();
        let servers = config.servers.iter();
        for (name, server) in servers.filter(|(_, s)| s.kind == ServerKind::Postgres) {
            match Database::read(name, server) {
                Ok(read) => {
                    let same = before.get(name).filter(|known| known.is_same(&read));
                    let database = same.map_or_else(|| Arc::new(read), Arc::clone);
                    databases.insert(name.clone(), database);
                }
                Err(error) => wrong.push(error.to_string()),
            }
        }
        if wrong.is_empty() {
            Ok(Box::new(move || self.databases.store(Arc::new(databases))))
        } else {
            Err(wrong)
        }
    }

    fn sweep(&self) {
        // The first one too: a gateway that died may have left roles behind.
        let sweeps = self.sweeps.fetch_add(1, Ordering::Relaxed);
        if sweeps.is_multiple_of(SWEEPS) {
            self.sweep_roles();
        }
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.stopping.cancel();
            self.work.close();
            if tokio::time::timeout(GRACE, self.work.wait()).await.is_err() {
                tracing::warn!(
                    "some sessions of databases did not end in time; their roles are dropped later"
                );
            }
        })
    }
}
