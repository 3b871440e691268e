//! What the configuration says of approvals by people.

use serde::{Deserialize, Serialize};

/// Approvals by people.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Approvals {
    /// Seconds that a request waits for a person.
    pub wait_seconds: u64,
    /// Seconds that an approval holds when the person does not say.
    pub valid_seconds: u64,
    /// Requests that may wait at once, in all.
    pub waiting: usize,
    /// Requests that may wait at once, per agent.
    pub waiting_per_agent: usize,
    /// Requests that may wait at once, per task.
    pub waiting_per_task: usize,
    /// Requests of one task in all.
    pub requests_per_task: usize,
    /// The risk score, from 1 to 100, from which everything that changes something needs a person.
    pub changes_at_risk: Option<u8>,
    /// The risk score, from 1 to 100, from which everything needs a person.
    pub all_at_risk: Option<u8>,
}

impl Default for Approvals {
    fn default() -> Self {
        Self {
            wait_seconds: 3_600,
            valid_seconds: 900,
            waiting: 500,
            waiting_per_agent: 32,
            waiting_per_task: 8,
            requests_per_task: 64,
            changes_at_risk: None,
            all_at_risk: None,
        }
    }
}
