//! Sub-tasks for other agents: who is asked acts under a task of its own, within the task of whoever
//! asks, with tokens for its own key. What opens them is not here.

use gateway::front::BoxFuture;
use model::{AgentName, Denial, InstanceId, TaskId, TemplateName};

/// A sub-task that is to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    /// The task of whoever asks.
    pub parent: TaskId,
    /// The instance that asks.
    pub by: InstanceId,
    /// The agent that is asked.
    pub agent: AgentName,
    /// The template of the sub-task.
    pub template: TemplateName,
    /// What for, in words.
    pub purpose: String,
}

/// Opens and closes sub-tasks.
pub trait Delegations: Send + Sync + 'static {
    /// Opens a sub-task; it holds nothing that its parent's grant does not cover.
    ///
    /// # Errors
    /// Why not.
    fn open(&self, wanted: Delegation) -> BoxFuture<'_, Result<TaskId, Denial>>;

    /// The work of a sub-task is done.
    fn close(&self, task: TaskId) -> BoxFuture<'_, ()>;
}
