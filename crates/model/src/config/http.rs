//! What the configuration says of an HTTP API, beyond what it says of every server.

use serde::{Deserialize, Serialize};

/// More about an HTTP API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {}
