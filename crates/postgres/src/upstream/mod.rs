//! The database behind the gateway: how it is reached, and what its administrator does there.

mod admin;
mod connection;
mod login;
mod settings;
pub(crate) mod tls;

pub(crate) use admin::Admin;
pub(crate) use connection::{Stream, cancel, connect, dial};
pub(crate) use login::{Login, Ready, login, receive};
pub use settings::{Address, Database, DatabaseError};

/// What went wrong with a database.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// It cannot be reached, or the connection broke.
    #[error("the database cannot be reached: {0}")]
    Unreachable(#[from] std::io::Error),
    /// It took too long.
    #[error("the database did not answer in time")]
    TimedOut,
    /// It does not offer TLS where TLS is needed.
    #[error(
        "the database does not offer TLS; give it a certificate, or say `tls = \"off\"` if the network is encrypted"
    )]
    NoTls,
    /// It wants another way of authentication than SCRAM.
    #[error(
        "the database wants an authentication that is not SCRAM-SHA-256 (method {0}); set `password_encryption` and pg_hba.conf to scram-sha-256"
    )]
    Authentication(u32),
    /// It said no.
    #[error("the database said: {message} ({code})")]
    Refused {
        /// The SQLSTATE.
        code: String,
        /// Its words.
        message: String,
    },
    /// A rule on rows could not be made, since a table that it is for was never free.
    #[error(
        "a rule on the rows of {0} is new, making it needs the table for itself for a moment, and others had \
         the table in use all the time"
    )]
    InUse(String),
    /// It does not keep to the protocol.
    #[error("the database does not keep to the protocol: {0}")]
    Protocol(&'static str),
}

impl UpstreamError {
    /// The SQLSTATE that a client is told.
    #[must_use]
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::InUse(_) => "55P03",
            Self::TimedOut => "08004",
            _ => "08006",
        }
    }

    /// What can be done, where it is not plain.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::InUse(_) => Some(
                "try again when no long transaction uses the table (pg_stat_activity shows them); the rule is \
                 made once, and kept for a day after its last use",
            ),
            _ => None,
        }
    }

    /// Whether the same may succeed a moment later: something was in use, or somebody else was a little
    /// faster.
    pub(crate) fn is_passing(&self) -> bool {
        let Self::Refused { code, message } = self else {
            return false;
        };
        match code.as_str() {
            // lock_not_available, deadlock_detected, serialization_failure, duplicate_object, unique_violation
            "55P03" | "40P01" | "40001" | "42710" | "23505" => true,
            "XX000" => message.contains("concurrently"),
            _ => false,
        }
    }
}

impl From<crate::wire::WireError> for UpstreamError {
    fn from(_: crate::wire::WireError) -> Self {
        Self::Protocol("a malformed message")
    }
}
