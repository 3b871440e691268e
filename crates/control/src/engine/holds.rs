//! The kill switch: all agents, a segment or a tool is held back, until it is released. And tokens that an
//! agent was given so far.
//!
//! Like everything that takes, a hold is in effect before it is written: nothing that it is about is
//! forwarded when the call returns, and what was streaming is cut. A release is recorded first.

use std::collections::BTreeSet;
use std::sync::Arc;

use gateway::live::{Cut, LiveTask};
use jiff::Timestamp;
use model::record::Record;
use model::{AgentName, SegmentName, ServerName, TaskStatus};
use policy::Holds;
use store::Held;

use super::restriction::Restriction;
use super::tasks::words;
use super::{Actor, Engine, EngineError, Restricted, to_the_end};

/// Longest name of a tool, in bytes.
const TOOL: usize = 1_024;

/// What can be held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// All agents.
    All,
    /// A segment: its agents may do nothing, and nobody reaches its servers.
    Segment(SegmentName),
    /// A tool, endpoint, model, skill, resource or prompt of a server, a table, or where a tunnel leads: see
    /// [`Holds::holds_back`].
    Tool(ServerName, String),
}

impl Hold {
    fn kind(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Segment(_) => "segment",
            Self::Tool(..) => "tool",
        }
    }

    fn name(&self) -> String {
        match self {
            Self::All => String::new(),
            Self::Segment(segment) => segment.to_string(),
            Self::Tool(server, tool) => format!("{server}/{tool}"),
        }
    }

    /// What the store has; `None` for what this version does not know.
    fn parse(held: &Held) -> Option<Self> {
        match held.kind.as_str() {
            "all" => Some(Self::All),
            "segment" => held.name.parse().ok().map(Self::Segment),
            "tool" => {
                let (server, tool) = held.name.split_once('/')?;
                Some(Self::Tool(server.parse().ok()?, tool.to_owned()))
            }
            _ => None,
        }
    }

    fn change(&self, held: bool) -> &'static str {
        match (self, held) {
            (Self::All, true) => "agents.stopped",
            (Self::All, false) => "agents.released",
            (Self::Segment(_), true) => "segment.isolated",
            (Self::Segment(_), false) => "segment.released",
            (Self::Tool(..), true) => "tool.disabled",
            (Self::Tool(..), false) => "tool.enabled",
        }
    }

    fn record(&self, actor: &Actor, held: bool, because: &str, now: Timestamp) -> Record {
        let subject = match self {
            Self::All => "all".to_owned(),
            other => other.name(),
        };
        Record::change(now, actor.to_string(), self.change(held), subject).with("because", because)
    }
}

/// Something that is held back, and since when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// What.
    pub what: Hold,
    /// Why.
    pub because: String,
    /// Since when.
    pub since: Timestamp,
}

impl Engine {
    /// Holds something back: nothing of it is forwarded when this returns, and what was streaming is cut.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such server, or no such segment anywhere.
    pub async fn hold(
        self: &Arc<Self>,
        actor: Actor,
        what: Hold,
        because: Option<String>,
    ) -> Result<Restricted<Hold>, EngineError> {
        let because = words("because", because.as_deref().unwrap_or_default())?;
        let engine = Arc::clone(self);
        to_the_end(async move {
            engine.is_there(&what).await?;
            // First of all it holds, whatever else is going on; then the same again in its turn.
            engine.publish_hold(&what, true).await;
            let _alone = engine.changes.write().await;
            engine.publish_hold(&what, true).await;
            let now = Timestamp::now();
            let record = what.record(&actor, true, &because, now);
            let held = Held {
                kind: what.kind().to_owned(),
                name: what.name(),
                because,
                held_at: now,
            };
            let (warnings, _) = engine
                .write_restriction(Restriction::Hold(held), &record)
                .await;
            Ok(Restricted {
                now: what,
                warnings,
            })
        })
        .await
    }

    /// Lets something go on that was held back.
    ///
    /// # Errors
    /// [`EngineError`] when it is not held back, or the log or the store cannot be written.
    pub async fn release_hold(
        self: &Arc<Self>,
        actor: Actor,
        what: Hold,
        because: Option<String>,
    ) -> Result<Hold, EngineError> {
        let because = words("because", because.as_deref().unwrap_or_default())?;
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            engine.may_give()?;
            let before = engine.live().world().holds().clone();
            let mut after = before.clone();
            set(&mut after, &what, false);
            if after == before {
                return Err(EngineError::conflict(
                    not_held(&what),
                    "see what is: `sallyport segment list` and `sallyport tool list`",
                ));
            }
            let record = what.record(&actor, false, &because, Timestamp::now());
            engine.record(record).await?;
            engine.store.release(what.kind(), &what.name()).await?;
            engine.publish_hold(&what, false).await;
            Ok(what)
        })
        .await
    }

    /// All that is held back.
    ///
    /// # Errors
    /// [`EngineError`] when the store cannot be read.
    pub async fn holdings(&self) -> Result<Vec<Holding>, EngineError> {
        let held = self.store.holds().await?;
        let known = held.into_iter().filter_map(|held| {
            Some(Holding {
                what: Hold::parse(&held)?,
                because: held.because,
                since: held.held_at,
            })
        });
        Ok(known.collect())
    }

    /// Makes live what was held back before the process began.
    pub(super) async fn restore_holds(&self) -> Result<(), EngineError> {
        let mut holds = Holds::default();
        for held in self.store.holds().await? {
            match Hold::parse(&held) {
                Some(what) => set(&mut holds, &what, true),
                None => {
                    // Held back by a version that knows more: rather everything than nothing.
                    tracing::error!(kind = held.kind, "an unknown hold: all agents are stopped");
                    holds.all = true;
                }
            }
        }
        self.live()
            .change_world(|world| world.with_holds(holds.clone()));
        for (agent, moment) in self.store.token_floors().await? {
            self.live().refuse_tokens_until(&agent, moment).await;
        }
        Ok(())
    }

    /// A segment is there when an agent or a server belongs to it: otherwise it is a slip of the pen, and
    /// nothing would be held back.
    async fn is_there(&self, what: &Hold) -> Result<(), EngineError> {
        match what {
            Hold::All => Ok(()),
            Hold::Tool(server, tool) => {
                if self.live().world().server(server).is_none() {
                    return Err(EngineError::not_found("server", server));
                }
                if tool.is_empty() || tool.len() > TOOL || tool.chars().any(char::is_control) {
                    return Err(EngineError::invalid("`tool` is no name of a tool"));
                }
                Ok(())
            }
            Hold::Segment(segment) => {
                let of_server = {
                    let world = self.live().world();
                    world
                        .servers()
                        .any(|(_, facts)| facts.segment.as_ref() == Some(segment))
                };
                // A store that cannot be read does not keep a segment from being isolated.
                let of_agent = match self.store.agents().await {
                    Ok(agents) => agents.iter().any(|it| it.segment.as_ref() == Some(segment)),
                    Err(_) => true,
                };
                if of_server || of_agent {
                    Ok(())
                } else {
                    Err(EngineError::not_found("segment", segment))
                }
            }
        }
    }

    /// Makes a hold, or its end, hold for the very next action; what is under way is cut.
    async fn publish_hold(&self, what: &Hold, held: bool) {
        self.live().change_world(|world| {
            let mut holds = world.holds().clone();
            set(&mut holds, what, held);
            world.with_holds(holds)
        });
        if !held {
            return;
        }
        match what {
            Hold::All => self.live().cut(Cut::All).await,
            Hold::Tool(server, _) => self.live().cut(Cut::Server(server)).await,
            Hold::Segment(segment) => {
                let world = Arc::clone(&self.live().world());
                let of_agent = |task: &Arc<LiveTask>| {
                    let facts = world.agent(&task.task().agent);
                    facts.is_some_and(|it| it.segment.as_ref() == Some(segment))
                };
                let reaches = |task: &Arc<LiveTask>| {
                    task.task().grant.permissions.iter().any(|permission| {
                        let facts = world.server(&permission.server);
                        facts.is_some_and(|it| it.segment.as_ref() == Some(segment))
                    })
                };
                self.live()
                    .cut_where(|task| {
                        of_agent(task) || task.ancestors().any(of_agent) || reaches(task)
                    })
                    .await;
            }
        }
    }

    /// Refuses every token that an agent was given so far: nothing that comes with one is forwarded when
    /// this returns, and what was streaming is cut. New tokens are given out as before.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such agent.
    pub async fn revoke_tokens(
        self: &Arc<Self>,
        actor: Actor,
        agent: AgentName,
        because: Option<String>,
    ) -> Result<Restricted<AgentName>, EngineError> {
        let because = words("because", because.as_deref().unwrap_or_default())?;
        let engine = Arc::clone(self);
        to_the_end(async move {
            if engine.live().world().agent(&agent).is_none() {
                return Err(EngineError::not_found("agent", &agent));
            }
            let now = Timestamp::now();
            engine.live().refuse_tokens_until(&agent, now).await;
            let record = Record::change(
                now,
                actor.to_string(),
                "agent.tokens_revoked",
                agent.as_str(),
            )
            .with("because", because);
            let restriction = Restriction::TokensOf(agent.clone(), now);
            let (warnings, _) = engine.write_restriction(restriction, &record).await;
            Ok(Restricted {
                now: agent,
                warnings,
            })
        })
        .await
    }

    /// The agents that act under parts of an agent's open tasks.
    #[must_use]
    pub fn sub_agents(&self, agent: &AgentName) -> BTreeSet<AgentName> {
        let now = Timestamp::now();
        let mut below: BTreeSet<AgentName> = self
            .live()
            .tasks()
            .iter()
            .filter(|task| task.status_at(now) == TaskStatus::Open)
            .filter(|task| task.ancestors().any(|above| above.task().agent == *agent))
            .map(|task| task.task().agent.clone())
            .collect();
        below.remove(agent);
        below
    }

    /// The open tasks of an agent.
    #[must_use]
    pub fn open_tasks_of(&self, agent: &AgentName) -> Vec<model::TaskId> {
        let now = Timestamp::now();
        self.live()
            .tasks()
            .iter()
            .filter(|task| task.task().agent == *agent && task.status_at(now) == TaskStatus::Open)
            .map(|task| task.task().id)
            .collect()
    }
}

fn set(holds: &mut Holds, what: &Hold, held: bool) {
    match what {
        Hold::All => holds.all = held,
        Hold::Segment(segment) => holds.set_segment(segment, held),
        Hold::Tool(server, tool) => holds.set_tool(server, tool, held),
    }
}

fn not_held(what: &Hold) -> String {
    match what {
        Hold::All => "the agents are not stopped as a whole".to_owned(),
        Hold::Segment(segment) => format!("the segment `{segment}` is not isolated"),
        Hold::Tool(server, tool) => {
            format!("`{}` of `{server}` is not disabled", tool.escape_debug())
        }
    }
}
