//! One open task: what it has used, whether it has ended, and what of it is in flight.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use model::approval::{Allowance, Approval};
use model::{ApprovalId, Task, TaskStatus};
use parking_lot::Mutex;
use policy::{CompiledGrant, InvalidAllowance, Usage};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::agents::OfAgent;
use crate::approvals::Book;
use crate::pace::Pace;
use crate::provenance::Memory;
use crate::risk::Level;

/// How long ending something waits for what is already on its way to an upstream. It is cancelled
/// first, so this is reached only if the runtime itself is stuck.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Why a task ended that was a part of another.
pub const ENDED_WITH_PARENT: &str = "the task that it is a part of has ended";

/// One task that is known here.
pub struct LiveTask {
    task: Task,
    /// The task that it is a part of. One whose parent was not known is over from the beginning.
    parent: Option<Arc<LiveTask>>,
    grant: CompiledGrant,
    salt: hmac::Key,
    memory: Memory,
    /// How bad it looks.
    own_risk: Level,
    /// How fast it goes.
    pub(super) pace: Pace,
    /// What it shares with the other tasks of its agent.
    pub(super) of_agent: Arc<OfAgent>,
    state: Mutex<State>,
}

/// The part of a task that changes.
pub(crate) struct State {
    pub(crate) usage: Usage,
    /// What people were asked and allowed.
    pub(crate) book: Book,
    ended: Option<Ending>,
    /// Cancelled to cut what is in flight; replaced each time, since an agent that was quarantined
    /// may be released while its task is still open.
    cutter: CancellationToken,
    /// Counts what is on its way to an upstream under the present cutter.
    dispatching: TaskTracker,
    /// What was cut and may still be on its way: whoever cuts next waits for it too.
    pub(super) draining: Vec<TaskTracker>,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The final status.
    pub status: TaskStatus,
    /// When.
    pub at: Timestamp,
    /// Why, in words.
    pub because: String,
}

impl LiveTask {
    pub(crate) fn new(
        task: Task,
        parent: Option<Arc<LiveTask>>,
        of_agent: Arc<OfAgent>,
        salt: &[u8],
        usage: Usage,
    ) -> Self {
        let dispatching = TaskTracker::new();
        dispatching.close();
        let orphan = task.parent.is_some() && parent.is_none();
        let ended = orphan.then(|| Ending {
            status: TaskStatus::Revoked,
            at: task.opened_at,
            because: ENDED_WITH_PARENT.to_owned(),
        });
        Self {
            parent,
            grant: CompiledGrant::new(&task.grant),
            salt: hmac::Key::new(hmac::HMAC_SHA256, salt),
            memory: Memory::default(),
            own_risk: Level::default(),
            pace: Pace::default(),
            of_agent,
            state: Mutex::new(State {
                usage,
                book: Book::default(),
                ended,
                cutter: CancellationToken::new(),
                dispatching,
                draining: Vec::new(),
            }),
            task,
        }
    }

    /// The task as it was opened. Its `status` says nothing about now: see [`Self::status_at`].
    #[must_use]
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Its grant, ready for deciding.
    #[must_use]
    pub fn grant(&self) -> &CompiledGrant {
        &self.grant
    }

    /// The tasks that it is a part of, the nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = &Arc<LiveTask>> {
        std::iter::successors(self.parent.as_ref(), |task| task.parent.as_ref())
    }

    /// The status at a moment. A task is over when one that it is a part of is.
    #[must_use]
    pub fn status_at(&self, now: Timestamp) -> TaskStatus {
        let own = |task: &Self| match &task.state.lock().ended {
            Some(ending) => ending.status,
            None => task.task.status_at(now),
        };
        match own(self) {
            TaskStatus::Open => {}
            ended => return ended,
        }
        let over = self.ancestors().any(|task| own(task) != TaskStatus::Open);
        if over {
            TaskStatus::Revoked
        } else {
            TaskStatus::Open
        }
    }

    /// How bad it and its agent look right now, whichever is more: 0 to 100. Two loads, no lock.
    #[must_use]
    pub fn risk(&self) -> u8 {
        self.own_risk.get().max(self.of_agent.risk.get())
    }

    pub(super) fn set_risk(&self, score: u8) {
        self.own_risk.set(score);
    }

    /// Takes over what a person allowed it, for its very next action. False when it has ended: then there
    /// is nothing to allow.
    ///
    /// # Errors
    /// [`InvalidAllowance`]
    pub fn allow(
        &self,
        id: ApprovalId,
        allowance: &Allowance,
        used: u32,
    ) -> Result<bool, InvalidAllowance> {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return Ok(false);
        }
        state.book.allow(id, allowance, used)?;
        Ok(true)
    }

    /// Takes over that a person refused something, or took back what they had allowed.
    pub fn refuse(&self, id: ApprovalId) {
        self.state.lock().book.refuse(id);
    }

    /// Takes over that a request was taken back by whom it was made for: the same may be asked again.
    pub fn withdraw(&self, id: ApprovalId) {
        self.state.lock().book.withdraw(id);
    }

    /// Takes over what people were asked before a restart.
    ///
    /// # Errors
    /// [`InvalidAllowance`]
    pub fn restore(&self, approval: &Approval) -> Result<(), InvalidAllowance> {
        self.state.lock().book.restore(approval)
    }

    /// How it ended, if it did.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        self.state.lock().ended.clone()
    }

    /// What it has used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.state.lock().usage.clone()
    }

    /// The last look before something of this task leaves for an upstream: `None` when the task
    /// is over or was cut since `signal` was taken.
    pub(crate) fn begin_dispatch(
        &self,
        signal: &CutSignal,
        now: Timestamp,
    ) -> Option<TaskTrackerToken> {
        // Whoever ends a task that this is a part of ends this one too, and cuts it: one that is not
        // seen here is seen in the signal.
        let within = self
            .ancestors()
            .all(|task| task.status_at(now) == TaskStatus::Open);
        let state = self.state.lock();
        let open = within && state.ended.is_none() && self.task.status_at(now) == TaskStatus::Open;
        (open && !signal.0.is_cancelled()).then(|| state.dispatching.token())
    }

    /// The key for this task's salted hashes (HMAC-SHA-256).
    pub(crate) fn salt(&self) -> &hmac::Key {
        &self.salt
    }

    /// What it has seen.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn set_ended(&self, status: TaskStatus, at: Timestamp, because: &str) -> bool {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return false;
        }
        state.ended = Some(Ending {
            status,
            at,
            because: because.to_owned(),
        });
        state.book = Book::default();
        drop(state);
        self.memory.end(self.task.id);
        true
    }

    /// Cancels what is in flight and waits until nothing is on its way to an upstream.
    pub(super) async fn cut(&self) {
        let draining = {
            let mut state = self.state.lock();
            state.cutter.cancel();
            state.cutter = CancellationToken::new();
            let fresh = TaskTracker::new();
            fresh.close();
            let cut = std::mem::replace(&mut state.dispatching, fresh);
            state.draining.push(cut);
            state.draining.clone()
        };
        let drained = futures_util::future::join_all(draining.iter().map(TaskTracker::wait));
        if tokio::time::timeout(DRAIN_LIMIT, drained).await.is_err() {
            tracing::error!(task = %self.task.id, "actions in flight did not stop in time");
        }
        self.state.lock().draining.retain(|cut| !cut.is_empty());
    }
}

impl State {
    /// The status that the task ended with, if it did.
    pub(crate) fn ended_status(&self) -> Option<TaskStatus> {
        self.ended.as_ref().map(|ending| ending.status)
    }

    /// A handle that is cancelled when the task's actions in flight are cut.
    pub(crate) fn cut_signal(&self) -> CutSignal {
        CutSignal(self.cutter.clone())
    }
}

/// Tells when an action in flight must stop.
#[derive(Clone)]
pub struct CutSignal(CancellationToken);

impl CutSignal {
    #[cfg(test)]
    pub(crate) fn of(token: CancellationToken) -> Self {
        Self(token)
    }

    /// Whether it must stop already.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Resolves when it must stop.
    pub fn cut(&self) -> WaitForCancellationFutureOwned {
        self.0.clone().cancelled_owned()
    }
}
