//! What the configuration says of a provider of models, beyond what it says of every server.

use serde::{Deserialize, Serialize};

/// More about a provider of models.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Llm {}
