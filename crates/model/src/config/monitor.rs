//! What is watched in what agents do: `[monitor]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::ServerName;

/// What is too much, what servers are, and how findings become scores.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Monitor {
    /// Denials of one agent within ten minutes that are pressure.
    pub denials: u32,
    /// Requests for approval of one agent within ten minutes that are pressure.
    pub approvals: u32,
    /// Requests without a caller at one endpoint within ten minutes that are pressure.
    pub refusals: u32,
    /// Agents that begin with the same thing within ten minutes that are spreading.
    pub spreading: u32,
    /// What servers are; one that is not named is neither sensitive nor external.
    pub servers: BTreeMap<ServerName, ServerLabel>,
    /// How findings become scores.
    pub risk: Scoring,
    /// For how many days findings, and incidents that are dealt with, are kept in the store. The log
    /// keeps their records for good.
    pub keep_days: u32,
}

impl Default for Monitor {
    fn default() -> Self {
        Self {
            denials: 8,
            approvals: 6,
            refusals: 60,
            spreading: 4,
            servers: BTreeMap::new(),
            risk: Scoring::default(),
            keep_days: 90,
        }
    }
}

/// What an operator says about a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerLabel {
    /// What is read there must not leave.
    pub sensitive: bool,
    /// What is sent there has left.
    pub external: bool,
}

/// How findings become scores from 0 to 100.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scoring {
    /// Hours after which half of an agent's points are gone.
    pub half_life_hours: u32,
    /// The highest score by light findings alone: those that are low or less, and, for the agent's own
    /// score, those about what it was only given (a document, a result, a message). Whoever writes those
    /// could otherwise put it out of action.
    pub light_most: u8,
    /// What each finding adds.
    pub points: Points,
}

impl Default for Scoring {
    fn default() -> Self {
        Self {
            half_life_hours: 24,
            light_most: 40,
            points: Points::default(),
        }
    }
}

/// Points by severity: 20 are a score of 28, 45 of 53, 90 of 78.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Points {
    /// For what is worth knowing.
    pub info: u32,
    /// For what is odd.
    pub low: u32,
    /// For what is worth a look.
    pub medium: u32,
    /// For what is probably an attack.
    pub high: u32,
    /// For what is certainly wrong.
    pub critical: u32,
}

impl Default for Points {
    fn default() -> Self {
        Self {
            info: 0,
            low: 2,
            medium: 8,
            high: 20,
            critical: 45,
        }
    }
}
