//! Approvals: requests are kept, people decide them, and what they allowed is counted. Only the operator's
//! credential decides; an agent can see what became of its own.

use std::sync::{Arc, Weak};
use std::time::Duration;

use gateway::approvals::{Desk, Raised, Unfiled};
use gateway::front::BoxFuture;
use gateway::live::{Live, LiveTask};
use jiff::{SignedDuration, Timestamp};
use model::approval::{Allowance, Approval, ApprovalLevel, ApprovalStatus, Covers, Decided};
use model::record::Record;
use model::{ApprovalId, DecisionId, TaskStatus};
use policy::Allowed;
use store::{Filed, LevelOf, RaisedLevel, Room, Store};
use tokio::sync::Notify;

use super::restriction::Restriction;
use super::tasks::words;
use super::{Actor, Engine, EngineError, Restricted, to_the_end};

/// Most uses of one approval.
const MOST_USES: u32 = 1_000;
/// Longest that a caller is kept waiting for a decision; below the limit on requests.
const LONGEST_WAIT: Duration = Duration::from_secs(25);

/// What a person allows.
#[derive(Debug, Clone)]
pub struct Approve {
    /// What it covers.
    pub covers: Covers,
    /// How often; once when they do not say.
    pub uses: Option<u32>,
    /// How long, until the end of the task at most; as configured when they do not say.
    pub valid: Option<Duration>,
    /// Who they say they are.
    pub by: Option<String>,
    /// Why, in words.
    pub because: Option<String>,
}

/// Where requests for approval are kept: the store.
pub(super) struct StoreDesk {
    store: Store,
    /// What is live holds the desk, so the desk does not hold it.
    live: Weak<Live>,
    control_url: String,
    /// Told when something was filed, decided or used.
    changed: Notify,
}

impl StoreDesk {
    pub(super) fn new(store: Store, live: &Arc<Live>, control_url: String) -> Self {
        Self {
            store,
            live: Arc::downgrade(live),
            control_url,
            changed: Notify::new(),
        }
    }

    async fn keep(&self, request: Approval) -> Result<(), Unfiled> {
        let written = |error: &dyn std::fmt::Display| Unfiled::NotWritten(error.to_string());
        let live = self
            .live
            .upgrade()
            .ok_or_else(|| written(&"the process is ending"))?;
        let settings = live.approvals().settings();
        let room = Room {
            all: settings.waiting,
            per_agent: settings.waiting_per_agent,
        };
        let filed = self.store.file_approval(&request, room).await;
        match filed.map_err(|error| written(&error))? {
            Filed::Before => return Ok(()),
            Filed::TooMany(waiting) => return Err(Unfiled::TooMany(waiting)),
            Filed::TaskOver => return Err(written(&"the task is over")),
            Filed::New => {}
        }
        let record = requested(&request);
        live.record(record).await.map_err(|error| written(&error))?;
        self.changed.notify_waiters();
        Ok(())
    }
}

impl Desk for StoreDesk {
    fn file(&self, request: Approval) -> BoxFuture<'_, Result<(), Unfiled>> {
        Box::pin(self.keep(request))
    }

    fn claim(&self, id: ApprovalId, decision: DecisionId) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let claimed = self.store.use_approval(&id, Timestamp::now()).await;
            claimed.unwrap_or_else(|error| {
                tracing::error!(%error, %decision, "the use of an approval cannot be counted");
                false
            })
        })
    }

    fn url(&self, id: ApprovalId) -> String {
        format!("{}/access/v1/requests/{id}", self.control_url)
    }
}

/// The record of a request: what is asked about, not the values themselves.
fn requested(request: &Approval) -> Record {
    let asked = request.asked.iter().map(|one| {
        serde_json::json!({ "argument": one.argument, "reason": one.reason, "seen": one.seen })
    });
    Record::change(
        request.asked_at,
        "sallyport",
        "approval.requested",
        request.id.to_string(),
    )
    .with("agent", request.agent.as_str())
    .with("task", request.task.to_string())
    .with("decision", request.decision.to_string())
    .with("server", request.server.as_str())
    .with("kind", request.kind.as_str())
    .with("target", request.target.as_str())
    .with("rule", request.rule.as_str())
    .with("asked", asked.take(8).collect::<Vec<_>>())
    .with("call", request.call.as_str())
    .with("expires_at", request.expires_at.to_string())
}

impl Engine {
    /// Allows what a request asks for, for its task and for no other.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such request, it does not wait any more, its task is over, what is
    /// allowed cannot be meant, the caller is no operator, or the log or the store cannot be written.
    pub async fn approve(
        self: &Arc<Self>,
        actor: Actor,
        id: ApprovalId,
        allowed: Approve,
    ) -> Result<Approval, EngineError> {
        only_operator(&actor)?;
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            engine.may_give()?;
            let now = Timestamp::now();
            let request = engine.known_approval(&id).await?;
            if request.status_at(now) != ApprovalStatus::Pending {
                return Err(does_not_wait(&request, now));
            }
            let task = engine.open_task_of(&request, now)?;
            let allowance = allowance(&engine, &request, &task, &allowed, now)?;
            let decided = Decided {
                at: now,
                actor: actor.to_string(),
                by: said(allowed.by.as_deref(), "by")?,
                because: said(allowed.because.as_deref(), "because")?,
                allows: Some(allowance.clone()),
            };
            engine
                .record(decision(&request, &decided, "approval.approved"))
                .await?;
            let status = ApprovalStatus::Approved;
            if !engine.store.decide_approval(&id, status, &decided).await? {
                return Err(does_not_wait(&engine.known_approval(&id).await?, now));
            }
            // When the task ended meanwhile there is nothing to allow, and the store says so already.
            task.allow(id, &allowance, 0)
                .map_err(EngineError::invalid)?;
            engine.desk.changed.notify_waiters();
            engine.known_approval(&id).await
        })
        .await
    }

    /// Refuses what a request asks for, or takes back what was allowed, for the very next action. What is
    /// under way already goes on.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such request, or the caller is no operator.
    pub async fn refuse(
        self: &Arc<Self>,
        actor: Actor,
        id: ApprovalId,
        by: Option<String>,
        because: Option<String>,
    ) -> Result<Restricted<Approval>, EngineError> {
        only_operator(&actor)?;
        let decided = Decided {
            at: Timestamp::now(),
            actor: actor.to_string(),
            by: said(by.as_deref(), "by")?,
            because: said(because.as_deref(), "because")?,
            allows: None,
        };
        self.take_back(id, ApprovalStatus::Denied, decided).await
    }

    /// Takes back a request of one's own that still waits.
    ///
    /// # Errors
    /// [`EngineError`] when the caller knows no such request, or it does not wait any more.
    pub async fn cancel_approval(
        self: &Arc<Self>,
        actor: Actor,
        id: ApprovalId,
    ) -> Result<Restricted<Approval>, EngineError> {
        let now = Timestamp::now();
        let request = self.visible_approval(&actor, &id).await?;
        if request.status_at(now) != ApprovalStatus::Pending {
            return Err(does_not_wait(&request, now));
        }
        let decided = Decided {
            at: now,
            actor: actor.to_string(),
            by: None,
            because: Some("the agent took it back".to_owned()),
            allows: None,
        };
        self.take_back(id, ApprovalStatus::Cancelled, decided).await
    }

    async fn take_back(
        self: &Arc<Self>,
        id: ApprovalId,
        status: ApprovalStatus,
        decided: Decided,
    ) -> Result<Restricted<Approval>, EngineError> {
        let engine = Arc::clone(self);
        to_the_end(async move {
            let request = engine.known_approval(&id).await?;
            if let Some(task) = engine.live().task(&request.task) {
                match status {
                    ApprovalStatus::Denied => task.refuse(id),
                    _ => task.withdraw(id),
                }
            }
            let record = decision(&request, &decided, &format!("approval.{status}"));
            let restriction = Restriction::Approval {
                id,
                status,
                decided,
            };
            let (warnings, _) = engine.write_restriction(restriction, &record).await;
            engine.desk.changed.notify_waiters();
            Ok(Restricted {
                now: engine.known_approval(&id).await?,
                warnings,
            })
        })
        .await
    }

    /// One request as the caller may see it: all for the operator, for an instance those of its own tasks
    /// and of what it delegated.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] for every request that the caller may not see.
    pub async fn visible_approval(
        &self,
        actor: &Actor,
        id: &ApprovalId,
    ) -> Result<Approval, EngineError> {
        let approval = self.known_approval(id).await?;
        self.visible_task(actor, &approval.task)
            .await
            .map_err(|_| EngineError::not_found("approval", id))?;
        Ok(approval)
    }

    /// The same, once it was decided, or after a while at most.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] for every request that the caller may not see.
    pub async fn await_approval(
        &self,
        actor: &Actor,
        id: &ApprovalId,
        wait: Duration,
    ) -> Result<Approval, EngineError> {
        let end = tokio::time::Instant::now() + wait.min(LONGEST_WAIT);
        loop {
            let changed = self.desk.changed.notified();
            tokio::pin!(changed);
            // From here on nothing is missed.
            changed.as_mut().enable();
            let approval = self.visible_approval(actor, id).await?;
            let now = Timestamp::now();
            if approval.status_at(now) != ApprovalStatus::Pending {
                return Ok(approval);
            }
            let expires = tokio::time::Instant::now() + gateway::wait(approval.expires_at);
            if tokio::time::timeout_at(end.min(expires), changed)
                .await
                .is_err()
                && tokio::time::Instant::now() >= end
            {
                return Ok(approval);
            }
        }
    }

    /// Sets how much of what an agent or a task does needs a person. More holds at once, whatever can be
    /// written; less only when it is on record.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such agent or open task, or when it is lowered and the log or the
    /// store cannot be written.
    pub async fn set_approval_level(
        self: &Arc<Self>,
        actor: Actor,
        of: LevelOf,
        level: ApprovalLevel,
        lasts: Option<Duration>,
        because: &str,
    ) -> Result<Restricted<RaisedLevel>, EngineError> {
        let because = words("because", because)?;
        let engine = Arc::clone(self);
        to_the_end(async move {
            let now = Timestamp::now();
            let lasts = lasts.and_then(|it| SignedDuration::try_from(it).ok());
            let until = lasts.and_then(|it| now.saturating_add(it).ok());
            let before = engine.level_now(&of, now)?;
            let raised = RaisedLevel {
                of,
                level,
                until,
                because,
            };
            let record = levelled(&actor, &raised, now);
            let warnings = if level >= before {
                engine.publish_level(&raised);
                let _alone = engine.changes.write().await;
                let restriction = Restriction::Level(raised.clone());
                engine.write_restriction(restriction, &record).await.0
            } else {
                let _alone = engine.changes.write().await;
                engine.may_give()?;
                engine.record(record).await?;
                engine.store.set_approval_level(&raised, None).await?;
                engine.publish_level(&raised);
                Vec::new()
            };
            Ok(Restricted {
                now: raised,
                warnings,
            })
        })
        .await
    }

    fn level_now(&self, of: &LevelOf, now: Timestamp) -> Result<ApprovalLevel, EngineError> {
        let live = self.live();
        let levels = live.approvals().levels();
        let raised = match of {
            LevelOf::Agent(name) => {
                if live.world().agent(name).is_none() {
                    return Err(EngineError::not_found("agent", name));
                }
                levels.agent(name)
            }
            LevelOf::Task(id) => {
                let open = |task: &Arc<LiveTask>| task.status_at(now) == TaskStatus::Open;
                if !live.task(id).as_ref().is_some_and(open) {
                    return Err(EngineError::not_found("open task", id));
                }
                levels.task(id)
            }
        };
        let holds = raised.filter(|raised| raised.until.is_none_or(|until| now < until));
        Ok(holds.map_or(ApprovalLevel::Usual, |raised| raised.level))
    }

    pub(super) fn publish_level(&self, raised: &RaisedLevel) {
        let level = (!raised.level.is_usual()).then_some(Raised {
            level: raised.level,
            until: raised.until,
        });
        let approvals = self.live().approvals();
        match &raised.of {
            LevelOf::Agent(name) => approvals.set_agent_level(name, level),
            LevelOf::Task(id) => approvals.set_task_level(id, level),
        }
    }

    /// Makes live what people were asked and allowed before the process began, and what was raised.
    pub(super) async fn restore_approvals(&self) -> Result<(), EngineError> {
        for raised in self.store.approval_levels(Timestamp::now()).await? {
            self.publish_level(&raised);
        }
        for approval in self.store.open_approvals().await? {
            let Some(task) = self.live().task(&approval.task) else {
                continue;
            };
            if let Err(error) = task.restore(&approval) {
                tracing::error!(%error, approval = %approval.id, "an approval does not hold any more");
            }
        }
        Ok(())
    }

    async fn known_approval(&self, id: &ApprovalId) -> Result<Approval, EngineError> {
        let approval = self.store.approval(id).await?;
        approval.ok_or_else(|| EngineError::not_found("approval", id))
    }

    fn open_task_of(
        &self,
        request: &Approval,
        now: Timestamp,
    ) -> Result<Arc<LiveTask>, EngineError> {
        let task = self.live().task(&request.task);
        task.filter(|task| task.status_at(now) == TaskStatus::Open)
            .ok_or_else(|| {
                EngineError::conflict(
                    format!(
                        "task {} is over, and what it asked for with it",
                        request.task
                    ),
                    "there is nothing left to approve",
                )
            })
    }
}

/// Agents never decide, whatever they come with.
fn only_operator(actor: &Actor) -> Result<(), EngineError> {
    match actor {
        Actor::Operator => Ok(()),
        _ => Err(EngineError::Forbidden {
            reason: "only an operator decides what people are asked".to_owned(),
            remedy: "ask one: `sallyport approvals list` shows what waits".to_owned(),
        }),
    }
}

fn does_not_wait(request: &Approval, now: Timestamp) -> EngineError {
    EngineError::conflict(
        format!("{} is {}", request.id, request.status_at(now)),
        "only what still waits can be decided; when the agent tries again, it is asked anew",
    )
}

fn said(text: Option<&str>, field: &str) -> Result<Option<String>, EngineError> {
    let text = text.map(|text| words(field, text)).transpose()?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// What a person allows, within what anybody may allow.
fn allowance(
    engine: &Engine,
    request: &Approval,
    task: &LiveTask,
    allowed: &Approve,
    now: Timestamp,
) -> Result<Allowance, EngineError> {
    let uses = allowed.uses.unwrap_or(1);
    if !(1..=MOST_USES).contains(&uses) {
        return Err(EngineError::invalid(format!("`uses` is 1 to {MOST_USES}")));
    }
    let settings = engine.live().approvals().settings();
    let usual = Duration::from_secs(settings.valid_seconds);
    let valid =
        SignedDuration::try_from(allowed.valid.unwrap_or(usual)).unwrap_or(SignedDuration::MAX);
    let until = now.saturating_add(valid).unwrap_or(Timestamp::MAX);
    Allowed::new(&allowed.covers).map_err(EngineError::invalid)?;
    if let Covers::Values(sets) = &allowed.covers {
        let names = |argument: &str| {
            argument
                .trim_start_matches('/')
                .split('/')
                .next()
                .map(str::to_owned)
        };
        let asked = |set: &String| {
            request
                .asked
                .iter()
                .any(|one| names(&one.argument) == names(set))
        };
        if let Some(other) = sets.keys().find(|set| !asked(set)) {
            return Err(EngineError::invalid(format!(
                "nothing is asked about the argument `{other}`"
            )));
        }
        let unnamed = request
            .asked
            .iter()
            .find(|one| !sets.keys().any(|set| names(&one.argument) == names(set)));
        if let Some(unnamed) = unnamed {
            return Err(EngineError::invalid(format!(
                "`{}` is asked about too, and nothing says which of its values are allowed",
                unnamed.argument
            )));
        }
    }
    Ok(Allowance {
        uses,
        until: until.min(task.task().expires_at),
        covers: allowed.covers.clone(),
    })
}

/// The record of a decision by a person.
fn decision(request: &Approval, decided: &Decided, change: &str) -> Record {
    let mut record = Record::change(decided.at, &*decided.actor, change, request.id.to_string())
        .with("agent", request.agent.as_str())
        .with("task", request.task.to_string())
        .with("server", request.server.as_str())
        .with("target", request.target.as_str())
        .with("call", request.call.as_str());
    if let Some(by) = &decided.by {
        record = record.with("by", by.as_str());
    }
    if let Some(because) = &decided.because {
        record = record.with("because", because.as_str());
    }
    match &decided.allows {
        Some(allows) => record.with(
            "allows",
            serde_json::to_value(allows).expect("allowances are maps with text keys"),
        ),
        None => record.with("used", request.used),
    }
}

fn levelled(actor: &Actor, raised: &RaisedLevel, now: Timestamp) -> Record {
    let (change, subject) = match &raised.of {
        LevelOf::Agent(name) => ("agent.approval_level", name.to_string()),
        LevelOf::Task(id) => ("task.approval_level", id.to_string()),
    };
    Record::change(now, actor.to_string(), change, subject)
        .with("level", raised.level.as_str())
        .with("until", raised.until.map(|until| until.to_string()))
        .with("because", raised.because.as_str())
}
