//! How far an agent or a task could reach: what it touched, from the log, and what grants, templates and
//! policies allow now.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway::live::Live;
use jiff::Timestamp;
use model::config::Server;
use model::record::Record;
use model::{
    AgentName, Grant, InstanceId, SegmentName, ServerName, Task, TaskId, TaskStatus, TemplateName,
};
use policy::{CompiledGrant, Listed, World};
use response::blast::{self, Blast, Of, Touching, Ways};

use super::Responder;
use crate::engine::{Actor, EngineError};

/// Most records that are read, the latest.
const RECORDS: u64 = 5_000_000;

impl Responder {
    /// How far an agent or a task could reach, and what it touched since a moment.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such agent or task, or the log cannot be read.
    pub async fn blast_radius(
        &self,
        of: Of,
        since: Option<Timestamp>,
    ) -> Result<Blast, EngineError> {
        let engine = &self.engine;
        let (reachable, agent) = {
            let world = World::clone(&engine.live().world());
            let ways = Now {
                live: Arc::clone(engine.live()),
                world,
                servers: engine.servers(),
                now: Timestamp::now(),
            };
            match &of {
                Of::Agent(agent) => {
                    if ways.world.agent(agent).is_none() {
                        return Err(EngineError::not_found("agent", agent));
                    }
                    (blast::reachable(agent, &ways), agent.clone())
                }
                Of::Task(id) => {
                    let task = engine.visible_task(&Actor::Operator, id).await?;
                    let open = task.status == TaskStatus::Open;
                    let by = id.to_string();
                    let found = match open {
                        true => blast::of_task(&task.agent, &by, &task.grant, &ways),
                        false => Vec::new(),
                    };
                    (found, task.agent)
                }
            }
        };
        tracing::debug!(%agent, "a blast radius is looked up");
        let dir = self.log_dir.clone();
        let read = tokio::task::spawn_blocking(move || {
            let failed = |error: &dyn std::fmt::Display| error.to_string();
            let reader = audit::Reader::open(&dir).map_err(|error| failed(&error))?;
            let end = reader.size();
            let start = end.saturating_sub(RECORDS);
            let mut touching = Touching::new(of);
            for entry in reader.entries(start..end) {
                let (_, bytes) = entry.map_err(|error| failed(&error))?;
                let Ok(record) = serde_json::from_slice::<Record>(&bytes) else {
                    continue;
                };
                // What was opened before is a part all the same.
                let is_change = matches!(record.event, model::record::Event::Change(_));
                if is_change || since.is_none_or(|since| record.time >= since) {
                    touching.note(&record);
                }
            }
            Ok::<_, String>((touching, start > 0))
        });
        let failed = |why: String| {
            EngineError::conflict(
                format!("the log could not be read: {why}"),
                "`sallyport audit verify` looks closer",
            )
        };
        let (touching, cut) = read
            .await
            .map_err(|error| failed(error.to_string()))?
            .map_err(failed)?;
        Ok(touching.into_blast(since, reachable, cut))
    }
}

/// What is true now.
struct Now {
    live: Arc<Live>,
    world: World,
    servers: Arc<BTreeMap<ServerName, Server>>,
    now: Timestamp,
}

impl Ways for Now {
    fn grants(&self, agent: &AgentName) -> Vec<(String, Grant)> {
        let segment = self.world.agent(agent).and_then(|it| it.segment.clone());
        let mut all: Vec<(String, Grant)> = self
            .world
            .templates()
            .values()
            .filter(|template| template.is_for(agent, segment.as_ref()))
            .map(|template| {
                (
                    format!("template {}", template.name),
                    template.grant.clone(),
                )
            })
            .collect();
        // Tasks that were opened from a template that says something else now.
        let open = self.live.tasks();
        let open = open.iter().filter(|task| {
            task.task().agent == *agent && task.status_at(self.now) == TaskStatus::Open
        });
        all.extend(open.map(|task| (task.task().id.to_string(), task.task().grant.clone())));
        all
    }

    fn server(&self, server: &ServerName) -> Option<Option<SegmentName>> {
        let facts = self.world.server(server)?;
        let there = facts.enabled && !self.world.holds().cuts_off(facts.segment.as_ref());
        there.then(|| facts.segment.clone())
    }

    fn behind(&self, server: &ServerName) -> Option<AgentName> {
        self.servers.get(server)?.a2a.agent.clone()
    }

    fn permits(
        &self,
        agent: &AgentName,
        grant: &Grant,
        server: &ServerName,
        what: &str,
        target: &str,
    ) -> Option<bool> {
        let item = match what {
            "tool" => Listed::Tool(target),
            "endpoint" => Listed::Endpoint(target),
            "model" => Listed::Model(target),
            "skill" => Listed::Skill(target),
            "resource" => Listed::Resource(target),
            "prompt" => Listed::Prompt(target),
            _ => return None,
        };
        // As if a task with this grant were open now.
        let instance = InstanceId::new(self.now, [0; 10]);
        let task = Task {
            id: TaskId::new(self.now, [0; 10]),
            agent: agent.clone(),
            instance: None,
            parent: None,
            template: TemplateName::parse("blast-radius").ok()?,
            parameters: BTreeMap::new(),
            purpose: String::new(),
            grant: grant.clone(),
            opened_at: self.now,
            expires_at: self
                .now
                .saturating_add(jiff::SignedDuration::from_hours(1))
                .ok()?,
            status: TaskStatus::Open,
            ended_at: None,
            ended_because: None,
        };
        let caller = policy::Caller {
            agent,
            instance: &instance,
            proof: grant.proof,
            risk: 0,
        };
        let compiled = CompiledGrant::new(grant);
        Some(policy::may_list(
            &self.world,
            &caller,
            &task,
            &compiled,
            server,
            item,
            self.now,
        ))
    }
}
