//! What the configuration says of a PostgreSQL database, beyond what it says of every server.

use serde::{Deserialize, Serialize};

/// More about a PostgreSQL database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Postgres {}
