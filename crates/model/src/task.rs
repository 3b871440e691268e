//! Tasks.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::grant::Grant;
use crate::id::{InstanceId, TaskId};
use crate::name::{AgentName, TemplateName};

/// Where a task is in its life. Everything but `Open` is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskStatus {
    /// Work may be done under it until it expires.
    Open,
    /// The agent said that the work is done.
    Completed,
    /// Its time ran out.
    Expired,
    /// A person or a playbook ended it.
    Revoked,
}

impl TaskStatus {
    /// The word used in the API, the store and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Completed => "completed",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// Reads the word back; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Completed, Self::Expired, Self::Revoked]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// One piece of work of one agent. Everything but `status`, `ended_at` and `ended_because` is fixed
/// when it opens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// The agent whose work it is.
    pub agent: AgentName,
    /// The only instance that may work on it; `None` leaves it to every instance of the agent.
    pub instance: Option<InstanceId>,
    /// The task that it is a part of: its grant is within that one's, and it ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// The template that it was opened from.
    pub template: TemplateName,
    /// The parameters that narrowed the template.
    pub parameters: BTreeMap<String, String>,
    /// Why it was opened, in words.
    pub purpose: String,
    /// What it may do.
    pub grant: Grant,
    /// When it opened.
    pub opened_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// Where it is in its life.
    pub status: TaskStatus,
    /// When it ended, if it has.
    pub ended_at: Option<Timestamp>,
    /// Why it ended, in words, if it has.
    pub ended_because: Option<String>,
}

impl Task {
    /// The status at a moment: an open task past its time is expired, whoever noticed or not.
    #[must_use]
    pub fn status_at(&self, now: Timestamp) -> TaskStatus {
        if self.status == TaskStatus::Open && now >= self.expires_at {
            TaskStatus::Expired
        } else {
            self.status
        }
    }
}
