//! What the configuration says of an agent behind the Agent2Agent protocol, beyond what it says of every server.

use serde::{Deserialize, Serialize};

/// More about an agent behind the Agent2Agent protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct A2a {}
