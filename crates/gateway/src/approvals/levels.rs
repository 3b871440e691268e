//! How much of what agents and tasks do needs a person, raised while they run.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::approval::ApprovalLevel;
use model::{AgentName, Task, TaskId};

/// A level, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised {
    /// The level.
    pub level: ApprovalLevel,
    /// Until when; `None` until it is lowered.
    pub until: Option<Timestamp>,
}

impl Raised {
    fn at(&self, now: Timestamp) -> ApprovalLevel {
        match self.until {
            Some(until) if now >= until => ApprovalLevel::Usual,
            _ => self.level,
        }
    }
}

/// What was raised by hand or by a procedure; nothing in most processes most of the time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RaisedLevels {
    agents: BTreeMap<AgentName, Raised>,
    tasks: BTreeMap<TaskId, Raised>,
}

impl RaisedLevels {
    /// Whether nothing was raised.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty() && self.tasks.is_empty()
    }

    /// What was raised for an agent.
    #[must_use]
    pub fn agent(&self, agent: &AgentName) -> Option<Raised> {
        self.agents.get(agent).copied()
    }

    /// What was raised for a task.
    #[must_use]
    pub fn task(&self, task: &TaskId) -> Option<Raised> {
        self.tasks.get(task).copied()
    }

    pub(super) fn of(&self, task: &Task, now: Timestamp) -> ApprovalLevel {
        let level = |raised: Option<&Raised>| raised.map_or(ApprovalLevel::Usual, |it| it.at(now));
        level(self.agents.get(&task.agent)).max(level(self.tasks.get(&task.id)))
    }

    pub(super) fn with_agent(&self, agent: &AgentName, raised: Option<Raised>) -> Self {
        let mut levels = self.clone();
        match raised {
            Some(raised) => levels.agents.insert(agent.clone(), raised),
            None => levels.agents.remove(agent),
        };
        levels
    }

    pub(super) fn with_task(&self, task: &TaskId, raised: Option<Raised>) -> Self {
        let mut levels = self.clone();
        match raised {
            Some(raised) => levels.tasks.insert(*task, raised),
            None => levels.tasks.remove(task),
        };
        levels
    }
}
