//! What can go wrong, and what to do about it.

use std::path::PathBuf;

use model::{AgentName, InstanceId, TaskId};

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file could not be opened or brought up to date.
    #[error(
        "the store {} cannot be opened: {source}; check that the folder exists and is writable, \
         and that no newer version of Sallyport has used it", path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Others than its owner may read or write the file.
    #[error(
        "the store {} may be read by others than its owner (mode {mode:03o}); run `chmod 600` on \
         it and find out who read it", path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The name is taken, now or by an agent that was retired.
    #[error("there is an agent `{0}` already (names are never used twice); choose another name")]
    AgentExists(AgentName),
    /// The same id was inserted twice.
    #[error("there is an instance `{0}` already")]
    InstanceExists(InstanceId),
    /// Another instance, enabled or not, has the same key.
    #[error("this key belongs to another instance already; generate a key for each instance")]
    KeyInUse,
    /// The same id was inserted twice.
    #[error("there is a task `{0}` already")]
    TaskExists(TaskId),
    /// A row does not say what it should: somebody else wrote to the file.
    #[error("the store holds a {what} that cannot be read ({why}); restore it from a backup")]
    Damaged {
        /// What kind of row.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The database did not carry out a statement.
    #[error("the store cannot be used: {0}; check the disk's space and health")]
    Unavailable(#[from] sqlx::Error),
}

impl StoreError {
    /// Whether a statement failed because a row with the same key is there.
    pub(crate) fn is_duplicate(error: &sqlx::Error) -> bool {
        error
            .as_database_error()
            .is_some_and(sqlx::error::DatabaseError::is_unique_violation)
    }

    /// Whether that row has the same value in this column, written as `table.column`.
    pub(crate) fn is_duplicate_of(error: &sqlx::Error, column: &str) -> bool {
        Self::is_duplicate(error)
            && error
                .as_database_error()
                .is_some_and(|error| error.message().contains(column))
    }
}
