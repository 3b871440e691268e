//! What can go wrong with the vault, and what the reader can do about it.

use std::io;
use std::path::{Path, PathBuf};

use model::{DecisionId, TaskId};

/// Why something could not be done with the vault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The vault's key file is open to others.
    #[error(
        "{} is open to others (mode {mode:03o}): run `chmod go= {}`, and take what the vault holds for \
         known if somebody may have read it", path.display(), path.display()
    )]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file holds no key of a vault.
    #[error("{} is no key of a vault: restore it from a copy", .0.display())]
    NotAKey(PathBuf),
    /// A task's key was sealed with another vault key, or was changed.
    #[error(
        "the key of {task} cannot be opened: it was sealed with another vault key, or damaged; \
         restore the vault's key that was in use then"
    )]
    OtherKey {
        /// The task.
        task: TaskId,
    },
    /// The payloads of the task were destroyed.
    #[error("the key of {task} was destroyed, and with it every payload of the task")]
    Destroyed {
        /// The task.
        task: TaskId,
    },
    /// Nothing of the decision is kept.
    #[error(
        "nothing of {decision} is kept: its server does not seal payloads, they were not taken in (the \
         record of its result says why), or their time was over"
    )]
    Nothing {
        /// The decision.
        decision: DecisionId,
    },
    /// Nothing of the task is kept.
    #[error("nothing of {task} is kept")]
    NothingOf {
        /// The task.
        task: TaskId,
    },
    /// A payload is not as it was written.
    #[error("a payload of {decision} in segment {segment} is damaged")]
    Damaged {
        /// The decision.
        decision: DecisionId,
        /// The segment.
        segment: u64,
    },
    /// The vault was closed, or its writer has ended.
    #[error("the vault is closed")]
    Closed,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Crypto,
    /// The operating system refused something.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl VaultError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// Why a payload was not kept, as its record says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// As many payloads wait to be sealed as may.
    #[error("as many payloads waited as may")]
    NoRoom,
    /// The task has as much in the vault as it may.
    #[error("the task had as much in the vault as it may")]
    TaskFull,
    /// The agent has as much in the vault as it may.
    #[error("the agent had as much in the vault as it may")]
    AgentFull,
    /// The vault holds as much as it may.
    #[error("the vault was full")]
    VaultFull,
    /// The payloads of the task were destroyed.
    #[error("the task's key was destroyed")]
    Destroyed,
    /// The disk, or the cryptographic library, failed.
    #[error("it could not be written: {0}")]
    Failed(String),
    /// The vault was closed.
    #[error("the vault was closed")]
    Closed,
}
