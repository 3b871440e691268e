//! From where data must not go to where.

use std::collections::BTreeMap;

use model::ServerName;
use serde::{Deserialize, Serialize};

/// What an operator says about a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Label {
    /// What is read there must not leave.
    pub sensitive: bool,
    /// What is sent there has left.
    pub external: bool,
}

/// The labels of servers; a server without one is neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(pub BTreeMap<ServerName, Label>);

impl Labels {
    /// The label of a server.
    #[must_use]
    pub fn of(&self, server: &ServerName) -> Label {
        self.0.get(server).copied().unwrap_or_default()
    }
}
