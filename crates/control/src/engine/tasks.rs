//! Tasks: opening, ending and expiring; and revoking tokens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use identity::AccessClaims;
use jiff::{SignedDuration, Timestamp};
use model::record::Record;
use model::template::Opener;
use model::{AgentName, InstanceId, Lifecycle, Task, TaskId, TaskStatus, Template, TemplateName};
use policy::{Usage, World};

use super::restriction::Restriction;
use super::{Actor, Engine, EngineError, Restricted, parts, random, to_the_end};

/// Longest purpose, in characters: what a user asks for is often a page of instructions.
const PURPOSE: usize = 2_000;
/// Longest reason, in characters.
const WORDS: usize = 500;
/// Most parameters of a task.
const PARAMETERS: usize = 64;
/// Longest value of a parameter, in bytes.
const PARAMETER_BYTES: usize = 1_024;

/// What a task is opened with.
#[derive(Debug, Clone)]
pub struct OpenTask {
    /// The agent whose work it is.
    pub agent: AgentName,
    /// The only instance that may work on it; `None` leaves it to every instance of the agent.
    pub instance: Option<InstanceId>,
    /// The task that it is to be a part of.
    pub parent: Option<TaskId>,
    /// The template.
    pub template: TemplateName,
    /// The values of its parameters.
    pub parameters: BTreeMap<String, String>,
    /// Why, in words.
    pub purpose: String,
    /// How long it lives; by default, and at most, as long as the template says.
    pub life: Option<Duration>,
}

impl Engine {
    /// Opens a task. An instance opens for itself only, but as a part of a task of its own it may open
    /// one for another agent: what it delegates is within what it has.
    ///
    /// # Errors
    /// [`EngineError`] when the parent does not cover what the template asks for, when the agent is not active, the template does not exist or is not for it,
    /// a parameter is wrong, a limit is reached, or the log or the store cannot be written.
    pub async fn open_task(
        self: &Arc<Self>,
        actor: Actor,
        wanted: OpenTask,
    ) -> Result<Task, EngineError> {
        if let Actor::Instance { id, agent } = &actor
            && wanted.parent.is_none()
            && (wanted.agent != *agent || wanted.instance != Some(*id))
        {
            return Err(EngineError::Forbidden {
                reason: "an instance opens tasks for itself only".to_owned(),
                remedy: "leave out `agent` and `instance`, name a `parent`, or ask the operator"
                    .to_owned(),
            });
        }
        let purpose = purpose(&wanted.purpose)?;
        let too_long = |value: &String| value.len() > PARAMETER_BYTES;
        if wanted.parameters.len() > PARAMETERS || wanted.parameters.values().any(too_long) {
            return Err(EngineError::invalid(format!(
                "at most {PARAMETERS} parameters of {PARAMETER_BYTES} bytes each are accepted"
            )));
        }
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _shared = engine.changes.read().await;
            engine.may_give()?;
            let now = Timestamp::now();
            let world = Arc::clone(&engine.live().world());
            let template = usable_template(&world, &actor, &wanted)?;
            engine.has_room(&wanted.agent, now)?;
            let parent = match wanted.parent {
                Some(id) => Some(engine.open_parent(&actor, id, now).await?),
                None => None,
            };
            let own = matches!(&actor, Actor::Instance { id, .. } if Some(*id) == wanted.instance);
            if let (false, Some(id)) = (own, &wanted.instance) {
                let instance = engine.store.instance(id).await?;
                if !instance.is_some_and(|it| it.agent == wanted.agent && !it.disabled) {
                    return Err(EngineError::not_found("enabled instance of the agent", id));
                }
            }
            let (grant, parameters) = template
                .fill(&wanted.parameters)
                .map_err(EngineError::invalid)?;
            let (mut grant, life) = (grant, life(template, wanted.life)?);
            grant.trusted_inputs =
                template.trusted_inputs(&wanted.parameters, opener(&actor, parent.is_some()));
            // What the template says counts, whoever says otherwise.
            let purpose = template.purpose.clone().unwrap_or(purpose);
            let ends = now.saturating_add(life).unwrap_or(Timestamp::MAX);
            let (grant, ends) = match &parent {
                Some(parent) => parts::within(&actor, parent, grant, ends)?,
                None => (grant, ends),
            };
            let task = Task {
                id: TaskId::new(now, random()),
                agent: wanted.agent,
                instance: wanted.instance,
                parent: wanted.parent,
                template: wanted.template,
                parameters,
                purpose,
                grant,
                opened_at: now,
                expires_at: ends,
                status: TaskStatus::Open,
                ended_at: None,
                ended_because: None,
            };
            let index = engine.record(opened(&actor, &task)).await?;
            let salt: [u8; 32] = random();
            engine.store.insert_task(&task, &salt, index).await?;
            engine.live().open(task.clone(), &salt, Usage::default());
            if let Some(parent) = &parent
                && parent.status_at(Timestamp::now()) != TaskStatus::Open
            {
                // It ended meanwhile, and did not know of this part yet.
                let because = gateway::live::ENDED_WITH_PARENT;
                engine
                    .end_live(&Actor::Sallyport, task.id, TaskStatus::Revoked, because)
                    .await;
            }
            Ok(task)
        })
        .await
    }

    /// Says that a task's work is done. A task that has ended already stays as it ended.
    ///
    /// # Errors
    /// [`EngineError`] when the caller knows no such task.
    pub async fn complete_task(
        self: &Arc<Self>,
        actor: Actor,
        id: TaskId,
        because: Option<String>,
    ) -> Result<Restricted<Task>, EngineError> {
        let default = match &actor {
            Actor::Instance { .. } => "the agent said that the work is done",
            _ => "an operator said that the work is done",
        };
        self.end_task(actor, id, TaskStatus::Completed, because, default)
            .await
    }

    /// Ends a task before its time. A task that has ended already stays as it ended.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such task.
    pub async fn revoke_task(
        self: &Arc<Self>,
        actor: Actor,
        id: TaskId,
        because: Option<String>,
    ) -> Result<Restricted<Task>, EngineError> {
        self.end_task(
            actor,
            id,
            TaskStatus::Revoked,
            because,
            "an operator revoked it",
        )
        .await
    }

    async fn end_task(
        self: &Arc<Self>,
        actor: Actor,
        id: TaskId,
        status: TaskStatus,
        because: Option<String>,
        default: &str,
    ) -> Result<Restricted<Task>, EngineError> {
        let because = words("because", because.as_deref().unwrap_or(default))?;
        let engine = Arc::clone(self);
        to_the_end(async move {
            if engine.live().task(&id).is_none() {
                // Being opened just now, or ended long ago: in its turn it is one or the other.
                drop(engine.changes.write().await);
            }
            engine.visible_task(&actor, &id).await?;
            let warnings = engine.end_live(&actor, id, status, &because).await;
            engine.sweep();
            let task = engine.visible_task(&actor, &id).await?;
            Ok(Restricted {
                now: task,
                warnings,
            })
        })
        .await
    }

    /// Ends a task that is live, then in the store and in the log. Returns what could not be
    /// written. When the task had ended before, nothing is written. A task that is not live may
    /// still be open in the store, when its opening failed half way: it is ended there.
    pub(super) async fn end_live(
        &self,
        actor: &Actor,
        id: TaskId,
        status: TaskStatus,
        because: &str,
    ) -> Vec<String> {
        let now = Timestamp::now();
        let (first, parts) = self.live().end_with_parts(&id, status, now, because).await;
        let approvals = self.live().approvals();
        if !approvals.levels().is_empty() {
            for over in parts.iter().chain([&id]) {
                approvals.set_task_level(over, None);
            }
        }
        if !first && self.live().task(&id).is_some() {
            return Vec::new();
        }
        let mut warnings = self.write_end(actor, id, status, now, because).await;
        for part in parts {
            let actor = Actor::Sallyport;
            let because = gateway::live::ENDED_WITH_PARENT;
            warnings.extend(
                self.write_end(&actor, part, TaskStatus::Revoked, now, because)
                    .await,
            );
        }
        warnings
    }

    /// Writes down how a task ended. Returns what could not be written.
    pub(super) async fn write_end(
        &self,
        actor: &Actor,
        id: TaskId,
        status: TaskStatus,
        now: Timestamp,
        because: &str,
    ) -> Vec<String> {
        let change = format!("task.{}", status.as_str());
        let mut record =
            Record::change(now, actor.to_string(), change, id.to_string()).with("because", because);
        if let Some(task) = self.live().task(&id) {
            record = record
                .with("agent", task.task().agent.as_str())
                .with("parent", task.task().parent.map(|id| id.to_string()))
                .with("calls", task.usage().calls());
        }
        let restriction = Restriction::Task {
            id,
            status,
            at: now,
            because: because.to_owned(),
        };
        self.write_restriction(restriction, &record).await.0
    }

    /// Ends the tasks whose time is over.
    pub(super) async fn expire_tasks(&self, now: Timestamp) {
        let mut any = false;
        for task in self.live().tasks() {
            if task.ending().is_none() && now >= task.task().expires_at {
                any = true;
                let id = task.task().id;
                self.end_live(
                    &Actor::Sallyport,
                    id,
                    TaskStatus::Expired,
                    "its time was over",
                )
                .await;
            }
        }
        if any {
            self.sweep();
        }
    }

    /// A task as the caller may see it: all for the operator; for an instance those of its agent
    /// that are not bound to another instance.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] for every task that the caller may not see.
    pub async fn visible_task(&self, actor: &Actor, id: &TaskId) -> Result<Task, EngineError> {
        let live = self.live().task(id);
        let task = match &live {
            Some(live) => Some(live.task().clone()),
            None => self.store.task(id).await?,
        };
        let visible = |task: &Task| match actor {
            Actor::Operator | Actor::Sallyport => true,
            Actor::Instance { id, agent } => {
                let own = |task: &Task| {
                    task.agent == *agent && task.instance.is_none_or(|owner| owner == *id)
                };
                // Who delegated a part of its task may see it, and say that it is done.
                own(task)
                    || live
                        .iter()
                        .flat_map(|live| live.ancestors())
                        .any(|above| own(above.task()))
            }
        };
        let mut task = task
            .filter(visible)
            .ok_or_else(|| EngineError::not_found("task", id))?;
        if let Some(ending) = live.as_ref().and_then(|live| live.ending()) {
            task.status = ending.status;
            task.ended_at = Some(ending.at);
            task.ended_because = Some(ending.because);
        }
        task.status = task.status_at(Timestamp::now());
        Ok(task)
    }

    /// Revokes an access token whose claims were verified (RFC 7009): it is refused when this
    /// returns, and what its task has in flight is cut.
    ///
    /// # Errors
    /// [`EngineError::Ending`] only; what cannot be written is in the warnings.
    pub async fn revoke_token(
        self: &Arc<Self>,
        actor: Actor,
        token: [u8; 32],
        claims: &AccessClaims,
    ) -> Result<Restricted<()>, EngineError> {
        let expires = Timestamp::from_second(claims.exp).unwrap_or(Timestamp::MAX);
        let task = claims.task;
        let record = Record::change(
            Timestamp::now(),
            actor.to_string(),
            "token.revoked",
            gateway::hex(&token),
        )
        .with("agent", claims.agent.as_str())
        .with("client", claims.client_id.to_string())
        .with("task", task.map(|task| task.to_string()));
        let engine = Arc::clone(self);
        to_the_end(async move {
            engine
                .live()
                .revoke_token(token, expires, task.as_ref())
                .await;
            let restriction = Restriction::Token {
                hash: token,
                expires,
            };
            let (warnings, _) = engine.write_restriction(restriction, &record).await;
            Ok(Restricted { now: (), warnings })
        })
        .await
    }

    fn has_room(&self, agent: &AgentName, now: Timestamp) -> Result<(), EngineError> {
        let limits = &self.settings.limits;
        let (mut all, mut own) = (0, 0);
        for task in self.live().tasks() {
            if task.status_at(now) == TaskStatus::Open {
                all += 1;
                own += usize::from(task.task().agent == *agent);
            }
        }
        if own >= limits.open_tasks_per_agent {
            return Err(EngineError::TooMany(format!(
                "agent `{agent}` has {own} open tasks"
            )));
        }
        if all >= limits.open_tasks {
            return Err(EngineError::TooMany("too many tasks are open".to_owned()));
        }
        Ok(())
    }

    /// Drops what belongs to tasks that have ended.
    pub(super) fn sweep(&self) {
        (self.sweep)();
    }
}

/// Whose words the inputs of a task are.
fn opener(actor: &Actor, is_part: bool) -> Opener {
    match actor {
        Actor::Operator => Opener::Operator,
        Actor::Instance { .. } if !is_part => Opener::Agent,
        _ => Opener::Delegating,
    }
}

/// The template, if the agent may open it. An instance learns nothing of the others.
fn usable_template<'w>(
    world: &'w World,
    actor: &Actor,
    wanted: &OpenTask,
) -> Result<&'w Template, EngineError> {
    let agent = world
        .agent(&wanted.agent)
        .ok_or_else(|| EngineError::not_found("agent", &wanted.agent))?;
    if agent.lifecycle != Lifecycle::Active {
        let state = agent.lifecycle.as_str();
        return Err(EngineError::conflict(
            format!(
                "agent `{}` is {state}, so no task can be opened for it",
                wanted.agent
            ),
            "enrol an instance of a registered agent; release a quarantined one",
        ));
    }
    let template = world.templates().get(&wanted.template);
    match template {
        Some(template) if template.is_for(&wanted.agent, agent.segment.as_ref()) => Ok(template),
        Some(_) if *actor == Actor::Operator => Err(EngineError::Forbidden {
            reason: format!(
                "agent `{}` may not open tasks from template `{}`",
                wanted.agent, wanted.template
            ),
            remedy: "add the agent or its segment to the template, and reload".to_owned(),
        }),
        _ => Err(EngineError::not_found("template", &wanted.template)),
    }
}

fn life(template: &Template, wanted: Option<Duration>) -> Result<SignedDuration, EngineError> {
    let life = wanted.unwrap_or(template.ttl);
    if life.is_zero() || life > template.ttl {
        return Err(EngineError::invalid(format!(
            "the template gives tasks at most {} seconds",
            template.ttl.as_secs()
        )));
    }
    Ok(SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX))
}

/// The record of a task's opening holds its whole grant: decisions are reproduced from it (R2).
fn opened(actor: &Actor, task: &Task) -> Record {
    let grant = serde_json::to_value(&task.grant).expect("grants are maps with text keys");
    let parameters = task
        .parameters
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().into()));
    Record::change(
        task.opened_at,
        actor.to_string(),
        "task.opened",
        task.id.to_string(),
    )
    .with("agent", task.agent.as_str())
    .with("instance", task.instance.map(|id| id.to_string()))
    .with("parent", task.parent.map(|id| id.to_string()))
    .with("template", task.template.as_str())
    .with("parameters", parameters.collect::<serde_json::Map<_, _>>())
    .with("purpose", task.purpose.as_str())
    .with("expires_at", task.expires_at.to_string())
    .with("grant", grant)
}

/// Words that a person wrote: bounded, and without characters that could forge lines of a log.
pub(crate) fn words(field: &str, text: &str) -> Result<String, EngineError> {
    line(field, text, WORDS)
}

/// A purpose. What stands on several lines is put on one.
fn purpose(text: &str) -> Result<String, EngineError> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    line("purpose", &lines.join(" "), PURPOSE)
}

fn line(field: &str, text: &str, most: usize) -> Result<String, EngineError> {
    let text = text.trim();
    if text.chars().count() > most || text.chars().any(char::is_control) {
        return Err(EngineError::invalid(format!(
            "`{field}` is at most {most} characters without control characters"
        )));
    }
    Ok(text.to_owned())
}
