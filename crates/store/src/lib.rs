//! Durable control-plane state: agents and their instances, enrolments, tasks, revoked tokens and
//! disabled servers.
//!
//! It lives in one SQLite file (WAL, `synchronous=FULL`), readable by its owner only. The SQL is
//! what PostgreSQL takes as well; the types of columns stand in the migrations. Every change is
//! durable when its method returns. Decisions never wait for this crate: what they need is held in
//! memory and loaded from here at start.

mod agents;
mod answers;
mod approvals;
mod asked;
mod error;
mod findings;
mod owed;
mod response;
mod row;
mod signals;
mod tasks;
mod tokens;
mod tools;
mod watch;

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

pub use answers::StoredAnswer;
pub use approvals::{ApprovalFilter, Filed, LevelOf, RaisedLevel, Room};
pub use asked::{AskedChange, GivenId, Webhook};
pub use error::StoreError;
pub use findings::{FindingFilter, FindingRow, IncidentFilter, IncidentRow};
pub use response::{Held, RunRow};
pub use signals::{SignalsTold, WaitingSignal};
pub use tasks::{OpenTask, TaskFilter, UsageSnapshot};
pub use tools::{ApprovedTool, ListedTool, StoredCanary, StoredTool, ToolHashes};
pub use watch::{KNOWN, WatchBatch, WatchPosition, Watched};

/// The file's name in the data directory.
pub const FILE: &str = "sallyport.db";

/// How long a statement waits for another process that holds the file, such as a backup.
const BUSY: Duration = Duration::from_secs(5);

/// The store. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct Store {
    /// One connection: SQLite has one writer, and waiting here is fairer than being told "busy".
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Store {
    /// Opens the store in a data directory that exists, making the file at the first start and
    /// bringing its tables up to date.
    ///
    /// # Errors
    /// [`StoreError::Exposed`] when others may read the file, [`StoreError::Open`] when it cannot
    /// be opened or was made by a newer version.
    pub async fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        make_private(&path)?;
        let failed = |source: sqlx::Error| StoreError::Open {
            path: path.clone(),
            source: source.into(),
        };
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        sqlx::migrate!("migrations/sqlite")
            .run(&writer)
            .await
            .map_err(|source| StoreError::Open {
                path: path.clone(),
                source: source.into(),
            })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(2)
            .min_connections(1)
            .connect_with(options.read_only(true))
            .await
            .map_err(failed)?;
        Ok(Self { writer, readers })
    }

    /// Whether the store can be reached, for readiness.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }

    /// Closes the connections, so that the write-ahead log is merged into the file. Clones are
    /// closed too.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Makes the file if it is not there; refuses one that others may read. SQLite gives its companion
/// files (`-wal`, `-shm`) the same mode.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let failed = |source: std::io::Error| StoreError::Open {
        path: path.to_owned(),
        source: source.into(),
    };
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(StoreError::Exposed {
            path: path.to_owned(),
            mode,
        })
    }
}
