//! Why a change was not made, and what to do about it.

use audit::AuditError;
use store::StoreError;
use vault::VaultError;

/// Why the engine did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// There is no such thing, or the caller may not know of it.
    #[error("there is no {what} `{name}`")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Its name, as it was given.
        name: String,
    },
    /// What was given is not acceptable.
    #[error("{0}")]
    Invalid(String),
    /// Not possible in the present state.
    #[error("{reason}")]
    Conflict {
        /// What stands in the way.
        reason: String,
        /// What the reader can do.
        remedy: String,
    },
    /// The caller may not do this.
    #[error("{reason}")]
    Forbidden {
        /// Why not.
        reason: String,
        /// What the reader can do.
        remedy: String,
    },
    /// A limit is reached.
    #[error("{0}")]
    TooMany(String),
    /// The enrolment token is unknown, used or expired; which of these is not told.
    #[error("the enrolment token is not valid: it is unknown, was used before, or has expired")]
    EnrolmentRefused,
    /// The log cannot be written, so the change was not made (R4).
    #[error("the audit log cannot be written, so the change was not made: {0}")]
    AuditUnavailable(#[from] AuditError),
    /// The store did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The signing keys could not be used.
    #[error("the signing keys cannot be used: {0}")]
    Keys(String),
    /// A redaction pattern is not a regular expression.
    #[error("a redaction pattern cannot be used: {0}")]
    Redaction(String),
    /// Reading the log back at the start failed.
    #[error("the audit log cannot be read back to restore what open tasks have used: {0}")]
    Recovery(String),
    /// A restriction holds, but nothing more can be said, since the store cannot be read.
    #[error("the restriction is in effect, but the store cannot be read: {0}")]
    Held(String),
    /// The vault did not do its part.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The process is ending.
    #[error("the process is ending, so the change was not made")]
    Ending,
}

impl EngineError {
    pub(crate) fn not_found(what: &'static str, name: impl ToString) -> Self {
        let name = name.to_string().chars().take(100).collect();
        Self::NotFound { what, name }
    }

    pub(crate) fn invalid(why: impl ToString) -> Self {
        Self::Invalid(why.to_string())
    }

    pub(crate) fn conflict(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Conflict {
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }

    /// What the reader can do about it, in words.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NotFound { what, .. } => {
                format!("list the {what}s that there are, and check the spelling")
            }
            Self::Invalid(_) => "correct the request and send it again".to_owned(),
            Self::Conflict { remedy, .. } | Self::Forbidden { remedy, .. } => remedy.clone(),
            Self::TooMany(_) => "end what is not needed any more, or ask an operator to".to_owned(),
            Self::EnrolmentRefused => {
                "ask an operator for a new one: `sallyport agent enrolment NAME`".to_owned()
            }
            Self::AuditUnavailable(_) => {
                "make the log writable again (see /readyz), then repeat the request".to_owned()
            }
            Self::Store(StoreError::AgentExists(_)) => "choose another name".to_owned(),
            Self::Store(StoreError::KeyInUse) => "generate a new key and enrol with it".to_owned(),
            Self::Store(_) => "check the disk's space and health (see /readyz)".to_owned(),
            Self::Keys(_) => "check the folder `keys` in the data directory".to_owned(),
            Self::Redaction(_) => {
                "correct `[redaction] patterns`; see https://docs.rs/regex".to_owned()
            }
            Self::Recovery(_) => {
                "verify the log with `sallyport audit verify`; restore it if it is damaged"
                    .to_owned()
            }
            Self::Vault(VaultError::Nothing { .. } | VaultError::NothingOf { .. }) => {
                "`sallyport vault list` says what is kept".to_owned()
            }
            Self::Vault(VaultError::Destroyed { .. }) => {
                "the log still has what happened, and the hashes".to_owned()
            }
            Self::Vault(_) => "see docs/vault.md on the vault's key and folder".to_owned(),
            Self::Held(_) => "make the store readable again (see /readyz)".to_owned(),
            Self::Ending => "repeat the request when it is running again".to_owned(),
        }
    }

    /// The kind of error as one word, for programs.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Invalid(_) | Self::Redaction(_) => "invalid_request",
            Self::Conflict { .. } => "conflict",
            Self::Forbidden { .. } => "forbidden",
            Self::TooMany(_) => "limit_reached",
            Self::EnrolmentRefused => "enrolment_refused",
            Self::AuditUnavailable(_) => "audit_unavailable",
            Self::Store(StoreError::AgentExists(_) | StoreError::KeyInUse) => "conflict",
            Self::Vault(VaultError::Nothing { .. } | VaultError::NothingOf { .. }) => "not_found",
            Self::Vault(VaultError::Destroyed { .. }) => "destroyed",
            Self::Store(_)
            | Self::Keys(_)
            | Self::Recovery(_)
            | Self::Held(_)
            | Self::Vault(_)
            | Self::Ending => "unavailable",
        }
    }
}
