//! What the configuration says of the content of what passes: how much of it is kept, and for how long.

use serde::{Deserialize, Serialize};

/// What is kept of the content of what passes at a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordContent {
    /// Nothing: records do not have hashes of it either.
    None,
    /// Hashes in the records, salted for each task.
    #[default]
    Hash,
    /// Besides, the content itself, in the vault, under a key of the task.
    Sealed,
}

/// The vault: content that is kept for investigation, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vault {
    /// For how many days content is kept.
    pub keep_days: u32,
    /// Of one payload, in bytes; of a longer one the beginning is kept.
    pub payload_bytes: usize,
    /// Of one task, in bytes.
    pub task_bytes: u64,
    /// Of all tasks of one agent, in bytes.
    pub agent_bytes: u64,
    /// In all, in bytes.
    pub total_bytes: u64,
    /// What is done when content that a server has sealed could not be kept.
    pub when_full: WhenFull,
}

impl Vault {
    /// The largest `payload_bytes`.
    pub const LONGEST_PAYLOAD: usize = 64 << 20;
}

impl Default for Vault {
    fn default() -> Self {
        Self {
            keep_days: 30,
            payload_bytes: 4 << 20,
            task_bytes: 256 << 20,
            agent_bytes: 2 << 30,
            total_bytes: 8 << 30,
            when_full: WhenFull::default(),
        }
    }
}

/// What is done when content could not be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// The action goes on; the record of its result says that its content was not kept, and why.
    #[default]
    Drop,
    /// The action is denied.
    Refuse,
}
