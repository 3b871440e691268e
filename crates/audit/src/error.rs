//! What can go wrong with the log, and what the reader can do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::note::NoteError;
use crate::proof::ProofError;

/// Why something could not be done with the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The record is longer than the format allows.
    #[error("a record of {bytes} bytes is longer than the log's format allows (65535 bytes)")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// More records wait to be written than the queue may hold.
    #[error("the audit log is not written as fast as records arrive: try again")]
    Full,
    /// The log cannot be written at present. Writing is tried again in the background.
    #[error("the audit log cannot be written: {0}")]
    Unavailable(String),
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
    /// Another process writes this log.
    #[error("{path} is locked: another process writes this log; stop it first")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Part of the log that was complete is not as it was written.
    #[error("the audit log is damaged: {0}; restore it from a copy, and keep this one as evidence")]
    Damaged(Damage),
    /// The name of the log cannot be used.
    #[error(
        "`{0}` cannot name a log: it must not be empty nor contain spaces, `+` or control characters"
    )]
    Origin(String),
    /// The signing key's file is open to others.
    #[error(
        "{path} is open to others (mode {mode:03o}): run `chmod go= {path}`, and start a new log if \
         somebody may have read it"
    )]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file holds no Ed25519 private key.
    #[error("{path} is no Ed25519 private key in PEM (`BEGIN PRIVATE KEY`)")]
    NotAKey {
        /// The key file.
        path: PathBuf,
    },
    /// The key or the origin is not the one that this log was begun with.
    #[error(
        "{path} says `{found}`, but this key and origin make `{expected}`: use the log's own key and origin"
    )]
    OtherKey {
        /// The file with the verifier key.
        path: PathBuf,
        /// The verifier key in it.
        found: String,
        /// The verifier key of the signing key and the origin.
        expected: String,
    },
    /// The folder is no log, or not yet.
    #[error("{0} is no audit log: it has no checkpoint and no journal")]
    NotALog(PathBuf),
    /// There is no such record, or no checkpoint covers it yet.
    #[error("record {index} is not covered: the checkpoint has the records below {size}")]
    NotCovered {
        /// The record.
        index: u64,
        /// The size of the checkpoint.
        size: u64,
    },
    /// A signed note is not acceptable.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A proof does not hold.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The cryptographic library failed to make a key, a signature or random bytes.
    #[error("the cryptographic library failed")]
    Crypto,
    /// The operating system refused something.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl AuditError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn damaged(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Damaged(Damage {
            file: file.into(),
            what: what.into(),
        })
    }
}

/// A place in the log that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file, relative to the log's folder.
    pub file: String,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.what)
    }
}
