//! The database behind the gateway: how it is reached, and what its administrator does there.

mod admin;
mod connection;
mod login;
mod settings;

pub(crate) use admin::Admin;
pub(crate) use connection::{Stream, cancel, dial};
pub(crate) use login::{Login, Ready, login};
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
    /// It does not keep to the protocol.
    #[error("the database does not keep to the protocol: {0}")]
    Protocol(&'static str),
}

impl From<crate::wire::WireError> for UpstreamError {
    fn from(_: crate::wire::WireError) -> Self {
        Self::Protocol("a malformed message")
    }
}
