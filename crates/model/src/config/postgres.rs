//! What the configuration says of a PostgreSQL database, beyond what it says of every server.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Secret;

/// More about a PostgreSQL database. The server's `url` is `postgres://host:port/database`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Postgres {
    /// The user that makes and drops the roles of sessions: it owns the tables or may grant on them, and
    /// has `CREATEROLE`. It never carries out a statement of an agent.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// Whether connections to the database are encrypted.
    pub tls: PostgresTls,
    /// The schemas that names without one are looked up in, in this order.
    pub search_path: Vec<String>,
    /// Functions that statements may call besides the harmless ones of PostgreSQL itself, by their name
    /// without a schema.
    pub functions: BTreeSet<String>,
    /// Seconds after which the database ends a statement.
    pub statement_seconds: u64,
    /// Seconds after which the database ends a session that idles in a transaction.
    pub transaction_idle_seconds: u64,
    /// Seconds after which a session ends in any case.
    pub session_seconds: u64,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            user: String::new(),
            password: None,
            tls: PostgresTls::default(),
            search_path: vec!["public".to_owned()],
            functions: BTreeSet::new(),
            statement_seconds: 60,
            transaction_idle_seconds: 60,
            session_seconds: 3_600,
        }
    }
}

/// Whether connections to a database are encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PostgresTls {
    /// Always, but to this machine itself when no `ca` is given.
    #[default]
    Auto,
    /// Always.
    Require,
    /// Never: for networks that are encrypted otherwise.
    Off,
}
