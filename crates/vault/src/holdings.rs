//! What is in the vault, by task, and what it may hold.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::{AgentName, TaskId};

use crate::error::NotKept;
use crate::segment::{Content, Tally};

/// Most tasks of which something is kept.
const MOST_TASKS: usize = 200_000;

/// What the vault may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of one payload, in bytes; of a longer one the beginning is kept.
    pub payload_bytes: usize,
    /// Of one task, in bytes on the disk.
    pub task_bytes: u64,
    /// Of all tasks of one agent, in bytes on the disk.
    pub agent_bytes: u64,
    /// In all, in bytes on the disk.
    pub total_bytes: u64,
}

/// What is kept of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The agent whose work it is.
    pub agent: AgentName,
    /// Payloads.
    pub payloads: u64,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Whether the key was destroyed, so that nothing of it can be read any more.
    pub destroyed: bool,
}

/// What was removed because its time was over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Payloads.
    pub payloads: u64,
    /// Tasks of which nothing is left.
    pub tasks: u64,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// What is in the vault.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    pub(crate) tasks: BTreeMap<TaskId, Holding>,
    /// Bytes of all tasks of an agent.
    agents: BTreeMap<AgentName, u64>,
    /// The segments that are complete, each with when its last payload was sealed.
    pub(crate) complete: BTreeMap<u64, Timestamp>,
    /// Bytes in all segments.
    pub(crate) total: u64,
    /// Why nothing can be written, if so.
    pub(crate) fault: Option<String>,
}

impl Holdings {
    /// Takes in what is in a segment that is complete.
    pub(crate) fn add(&mut self, number: u64, content: &Content) {
        for (task, tally) in &content.tasks {
            self.count(task, tally);
        }
        self.complete.insert(number, content.last);
    }

    /// Counts what was added for a task.
    pub(crate) fn count(&mut self, task: &TaskId, tally: &Tally) {
        let holding = self.tasks.entry(*task).or_insert_with(|| Holding {
            agent: tally.agent.clone(),
            payloads: 0,
            bytes: 0,
            destroyed: false,
        });
        *self.agents.entry(tally.agent.clone()).or_default() += tally.bytes;
        holding.payloads += tally.payloads;
        holding.bytes += tally.bytes;
        self.total += tally.bytes;
    }

    /// Takes out what is in a segment that is removed; the tasks of which nothing is left.
    pub(crate) fn take_out(&mut self, number: u64, content: &Content) -> (Expired, Vec<TaskId>) {
        self.complete.remove(&number);
        let mut expired = Expired::default();
        let mut empty = Vec::new();
        for (task, tally) in &content.tasks {
            expired.payloads += tally.payloads;
            expired.bytes += tally.bytes;
            if let Some(bytes) = self.agents.get_mut(&tally.agent) {
                *bytes = bytes.saturating_sub(tally.bytes);
                if *bytes == 0 {
                    self.agents.remove(&tally.agent);
                }
            }
            let Some(holding) = self.tasks.get_mut(task) else {
                continue;
            };
            holding.payloads = holding.payloads.saturating_sub(tally.payloads);
            holding.bytes = holding.bytes.saturating_sub(tally.bytes);
            if holding.payloads == 0 {
                self.tasks.remove(task);
                empty.push(*task);
                expired.tasks += 1;
            }
        }
        self.total = self.total.saturating_sub(expired.bytes);
        (expired, empty)
    }

    /// Whether so many bytes more of a task may be kept.
    ///
    /// # Errors
    /// [`NotKept`] that says which limit is in the way.
    pub(crate) fn admit(
        &self,
        task: &TaskId,
        agent: &AgentName,
        bytes: u64,
        limits: &Limits,
    ) -> Result<(), NotKept> {
        let holding = self.tasks.get(task);
        if holding.is_some_and(|holding| holding.destroyed) {
            return Err(NotKept::Destroyed);
        }
        let own = holding.map_or(0, |holding| holding.bytes);
        if own.saturating_add(bytes) > limits.task_bytes {
            return Err(NotKept::TaskFull);
        }
        let agents = self.agents.get(agent).copied().unwrap_or(0);
        if agents.saturating_add(bytes) > limits.agent_bytes {
            return Err(NotKept::AgentFull);
        }
        let is_new = holding.is_none();
        let full = self.total.saturating_add(bytes) > limits.total_bytes;
        if full || (is_new && self.tasks.len() >= MOST_TASKS) {
            return Err(NotKept::VaultFull);
        }
        Ok(())
    }
}
