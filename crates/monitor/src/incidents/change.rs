//! What is told of incidents to whoever follows them.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::incident::Incident;

/// What happened to an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It began.
    Opened,
    /// A finding joined it that was not in it before.
    Grown,
    /// It matters more than before.
    Raised,
    /// Somebody dealt with it.
    Closed,
    /// Somebody looked, and it was nothing.
    FalseAlarm,
    /// Somebody wrote something about it.
    Noted,
}

impl What {
    /// The word in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Grown => "grown",
            Self::Raised => "raised",
            Self::Closed => "closed",
            Self::FalseAlarm => "false-alarm",
            Self::Noted => "noted",
        }
    }
}

/// A change of an incident, as it is published: what happened, and the incident as it is after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentChange {
    /// What happened.
    pub what: What,
    /// When.
    pub at: Timestamp,
    /// The finding that changed it, by its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<u64>,
    /// The incident.
    pub incident: Arc<Incident>,
}
