//! Approvals on the way of an action: what a person must let through, and whether one did.
//!
//! An action that everything allows but a person must approve is refused, and a request is left on the
//! [`Desk`]; the agent is told its name, and sends the same again when it was decided. What a person
//! allowed is in the [`Book`] of the task and nowhere else, so it ends with the task; each use is counted
//! there under the task's lock, claimed durably at the desk, and named in the record of the action.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use model::approval::{Approval, ApprovalLevel, ApprovalStatus};
use model::config::Approvals as Settings;
use model::{AgentName, ApprovalId, DecisionId, TaskId};
use serde_json::{Value, json};

use crate::front::BoxFuture;
use crate::live::LiveTask;

mod book;
mod call;
mod levels;
mod shown;

pub(crate) use book::{Book, Standing};
pub(crate) use call::{Call, changes};
pub use levels::{Raised, RaisedLevels};
pub(crate) use shown::{Shown, asked_whole};

/// Where requests for approval are kept, and shown to people.
pub trait Desk: Send + Sync {
    /// Keeps a request. It is durable, and on record, when this succeeds; a second time nothing happens.
    fn file(&self, request: Approval) -> BoxFuture<'_, Result<(), Unfiled>>;

    /// Uses an approval once more, for a decision. Durable when it returns; false when it is used up,
    /// over or taken back, or when that cannot be known.
    fn claim(&self, id: ApprovalId, decision: DecisionId) -> BoxFuture<'_, bool>;

    /// Where its agent can ask what became of a request.
    fn url(&self, id: ApprovalId) -> String;
}

/// Why a request was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfiled {
    /// Too many wait already.
    #[error("{0} requests wait for a person already")]
    TooMany(usize),
    /// It could not be written.
    #[error("the request could not be kept: {0}")]
    NotWritten(String),
}

/// What the agent is told about a request for approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    /// Its name.
    pub id: ApprovalId,
    /// Where the agent can ask what became of it.
    pub url: String,
    /// Until when a person can decide it.
    pub expires_at: Timestamp,
}

impl Requested {
    /// As it stands in a denial: the answer to an access request (AuthZEN Access Request and Approval
    /// Profile, §"Access Request Response"), which the gateway made in the agent's place.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "task": {
            "id": self.id,
            "status": ApprovalStatus::Pending.as_str(),
            "status_endpoint": self.url,
            "expires_at": self.expires_at,
        }})
    }
}

/// What all tasks share of approvals.
#[derive(Default)]
pub struct Approvals {
    desk: OnceLock<Arc<dyn Desk>>,
    levels: ArcSwap<RaisedLevels>,
    settings: ArcSwap<Settings>,
}

impl Approvals {
    /// Says where requests are kept; once, before anything is served. Without it, what needs a person is
    /// simply refused.
    pub fn set_desk(&self, desk: Arc<dyn Desk>) {
        // The first one stays: requests that it keeps would be lost otherwise.
        let _ = self.desk.set(desk);
    }

    /// Where requests are kept.
    #[must_use]
    pub fn desk(&self) -> Option<&Arc<dyn Desk>> {
        self.desk.get()
    }

    /// Takes a configuration into use, for the very next action.
    pub fn configure(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// The configuration in use.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Sets how much of an agent needs a person, for the very next action.
    pub fn set_agent_level(&self, agent: &AgentName, raised: Option<Raised>) {
        self.levels.rcu(|levels| levels.with_agent(agent, raised));
    }

    /// The same, of a task and its parts.
    pub fn set_task_level(&self, task: &TaskId, raised: Option<Raised>) {
        self.levels.rcu(|levels| levels.with_task(task, raised));
    }

    /// What was raised.
    #[must_use]
    pub fn levels(&self) -> Arc<RaisedLevels> {
        self.levels.load_full()
    }

    /// How much of what a task does needs a person right now: the most that holds for it, for its agent,
    /// for what it is a part of, and for how bad it looks.
    pub(crate) fn level(&self, task: &LiveTask, risk: u8, now: Timestamp) -> ApprovalLevel {
        let settings = self.settings.load();
        let at = |threshold: Option<u8>| threshold.is_some_and(|threshold| risk >= threshold);
        let by_risk = if at(settings.all_at_risk) {
            ApprovalLevel::All
        } else if at(settings.changes_at_risk) {
            ApprovalLevel::Changes
        } else {
            ApprovalLevel::Usual
        };
        let levels = self.levels.load();
        if levels.is_empty() {
            return by_risk;
        }
        let own = levels.of(task.task(), now);
        let above = task.ancestors().map(|above| levels.of(above.task(), now));
        above.fold(by_risk.max(own), ApprovalLevel::max)
    }
}
