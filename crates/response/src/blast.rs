//! The blast radius of an agent or a task: what it touched, from the records, and what it could have
//! reached, from what it is granted. Pure: records and grants come in, a list and a graph come out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use model::grant::Permission;
use model::record::{Ended, Event, Record};
use model::{AgentName, DecisionId, Grant, SegmentName, ServerName, TaskId};
use serde::{Deserialize, Serialize};

mod drawn;

pub use drawn::Form;

/// Most things that are listed as touched, and as reachable.
pub const MOST: usize = 5_000;
/// Most actions whose end is waited for while records are read.
const OPEN: usize = 100_000;
/// How many agents deep what is reachable through others is followed.
const DEEP: usize = 8;

/// What a blast radius is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// An agent, with the parts of its tasks.
    Agent(AgentName),
    /// A task, with its parts.
    Task(TaskId),
}

/// A blast radius.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blast {
    /// Of what.
    pub of: Of,
    /// From when on records were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What was touched, the most often touched first.
    pub touched: Vec<Touched>,
    /// What could have been reached.
    pub reachable: Vec<Reachable>,
    /// Whether there was more than is listed, or more records than were read.
    pub cut: bool,
    /// How many records were read.
    pub records: u64,
}

/// Something that was touched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Touched {
    /// By which agent.
    pub agent: AgentName,
    /// At which server.
    pub server: ServerName,
    /// The tool, URI, prompt, endpoint, model, skill or tables; empty for the server itself.
    pub target: String,
    /// Under which tasks, at most eight.
    pub tasks: BTreeSet<TaskId>,
    /// How often it was permitted.
    pub calls: u64,
    /// How often it was refused.
    pub refused: u64,
    /// Bytes of answers.
    pub bytes: u64,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
}

/// Something that could have been reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reachable {
    /// By which agent.
    pub agent: AgentName,
    /// At which server.
    pub server: ServerName,
    /// In which segment that is.
    pub segment: Option<SegmentName>,
    /// What: a word such as `tool` or `table`, and the pattern of the grant.
    pub what: String,
    /// The pattern.
    pub target: String,
    /// By what: a template that the agent may open tasks from, or a task that it has open.
    pub by: String,
    /// Through which agents that it can ask, the nearest first.
    pub through: Vec<AgentName>,
    /// Whether the policies permit it now; unknown for a pattern.
    pub permitted: Option<bool>,
}

/// Reads records, and finds out what was touched.
pub struct Touching {
    of: Of,
    /// Parts of the task, or of the agent's tasks.
    within: BTreeSet<TaskId>,
    touched: BTreeMap<(AgentName, ServerName, String), Touched>,
    open: HashMap<DecisionId, (AgentName, ServerName, String)>,
    records: u64,
    cut: bool,
}

impl Touching {
    /// Begins, with nothing touched.
    #[must_use]
    pub fn new(of: Of) -> Self {
        Self {
            of,
            within: BTreeSet::new(),
            touched: BTreeMap::new(),
            open: HashMap::new(),
            records: 0,
            cut: false,
        }
    }

    /// Takes in a record. They come in the order of the log.
    pub fn note(&mut self, record: &Record) {
        self.records += 1;
        match &record.event {
            Event::Intent(intent) => {
                let within = intent.within.iter().any(|above| match &self.of {
                    Of::Task(task) => above.task == *task,
                    Of::Agent(_) => self.within.contains(&above.task),
                });
                let own = match &self.of {
                    Of::Agent(agent) => intent.agent == *agent,
                    Of::Task(task) => intent.task == *task,
                };
                if !own && !within {
                    return;
                }
                if let (Of::Agent(_), true) = (&self.of, own)
                    && self.within.len() < OPEN
                {
                    self.within.insert(intent.task);
                }
                let key = (
                    intent.agent.clone(),
                    intent.server.clone(),
                    intent.target.clone(),
                );
                if self.touched.len() >= MOST && !self.touched.contains_key(&key) {
                    self.cut = true;
                    return;
                }
                let touched = self.touched.entry(key.clone()).or_insert_with(|| Touched {
                    agent: key.0.clone(),
                    server: key.1.clone(),
                    target: key.2.clone(),
                    tasks: BTreeSet::new(),
                    calls: 0,
                    refused: 0,
                    bytes: 0,
                    first: record.time,
                    last: record.time,
                });
                if touched.tasks.len() < 8 {
                    touched.tasks.insert(intent.task);
                }
                touched.last = touched.last.max(record.time);
                if !intent.permitted {
                    touched.refused += 1;
                    return;
                }
                touched.calls += 1;
                if self.open.len() < OPEN {
                    self.open.insert(intent.decision, key);
                }
            }
            Event::Result(end) => {
                if let Some(touched) = self
                    .open
                    .remove(&end.decision)
                    .and_then(|key| self.touched.get_mut(&key))
                {
                    touched.bytes = touched.bytes.saturating_add(end.bytes);
                    if end.ended == Ended::NotForwarded {
                        touched.calls = touched.calls.saturating_sub(1);
                    }
                }
            }
            // A part of a task is named when it is opened, before anything is done under it.
            Event::Change(change) if change.change == "task.opened" => {
                let text = |name: &str| change.details.get(name).and_then(|it| it.as_str());
                let Ok(task) = change.subject.parse::<TaskId>() else {
                    return;
                };
                let own = match &self.of {
                    Of::Agent(agent) => text("agent") == Some(agent.as_str()),
                    Of::Task(of) => task == *of,
                };
                let parent = text("parent").and_then(|parent| parent.parse::<TaskId>().ok());
                let part = parent.is_some_and(|parent| self.within.contains(&parent));
                if (own || part) && self.within.len() < OPEN {
                    self.within.insert(task);
                }
            }
            _ => {}
        }
    }

    /// Puts what was touched and what can be reached together. `cut` says that not all records were
    /// read.
    #[must_use]
    pub fn into_blast(
        self,
        since: Option<Timestamp>,
        reachable: Vec<Reachable>,
        cut: bool,
    ) -> Blast {
        let mut touched: Vec<Touched> = self.touched.into_values().collect();
        touched.sort_by(|one, other| {
            let weight = |it: &Touched| (it.calls, it.refused);
            weight(other).cmp(&weight(one))
        });
        let more = reachable.len() > MOST;
        Blast {
            of: self.of,
            since,
            touched,
            reachable: reachable.into_iter().take(MOST).collect(),
            cut: self.cut || cut || more,
            records: self.records,
        }
    }
}

/// What grants, policies and configuration say about who reaches what.
pub trait Ways {
    /// What an agent has or may have: what it is by, in words, and the grant.
    fn grants(&self, agent: &AgentName) -> Vec<(String, Grant)>;
    /// The segment of a server that is there and enabled; `None` when nobody reaches it.
    fn server(&self, server: &ServerName) -> Option<Option<SegmentName>>;
    /// The agent that stands behind a server of the Agent2Agent protocol, if it is registered.
    fn behind(&self, server: &ServerName) -> Option<AgentName>;
    /// Whether the policies permit an agent something under a grant, where its name is exact.
    fn permits(
        &self,
        agent: &AgentName,
        grant: &Grant,
        server: &ServerName,
        what: &str,
        target: &str,
    ) -> Option<bool>;
}

/// What an agent could reach: by itself, and through the agents that it can ask.
#[must_use]
pub fn reachable(agent: &AgentName, ways: &dyn Ways) -> Vec<Reachable> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::from([agent.clone()]);
    let mut next = vec![(agent.clone(), Vec::new())];
    while let Some((agent, through)) = next.pop() {
        for (by, grant) in ways.grants(&agent) {
            of_grant(&agent, &by, &grant, &through, ways, &mut found);
            for permission in &grant.permissions {
                let Some(behind) = ways.behind(&permission.server) else {
                    continue;
                };
                if through.len() < DEEP && seen.insert(behind.clone()) {
                    let mut through = through.clone();
                    through.push(behind.clone());
                    next.push((behind, through));
                }
            }
            if found.len() > MOST {
                return found.into_iter().collect();
            }
        }
    }
    found.into_iter().collect()
}

/// What one grant reaches.
#[must_use]
pub fn of_task(agent: &AgentName, by: &str, grant: &Grant, ways: &dyn Ways) -> Vec<Reachable> {
    let mut found = BTreeSet::new();
    of_grant(agent, by, grant, &[], ways, &mut found);
    found.into_iter().collect()
}

fn of_grant(
    agent: &AgentName,
    by: &str,
    grant: &Grant,
    through: &[AgentName],
    ways: &dyn Ways,
    found: &mut BTreeSet<Reachable>,
) {
    for permission in &grant.permissions {
        let Some(segment) = ways.server(&permission.server) else {
            continue;
        };
        for (what, target) in targets(permission) {
            let exact = !target.contains('*');
            let permitted = exact
                .then(|| ways.permits(agent, grant, &permission.server, what, &target))
                .flatten();
            found.insert(Reachable {
                agent: agent.clone(),
                server: permission.server.clone(),
                segment: segment.clone(),
                what: what.to_owned(),
                target,
                by: by.to_owned(),
                through: through.to_vec(),
                permitted,
            });
        }
    }
}

/// What a permission is about: a word, and the pattern.
fn targets(permission: &Permission) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    let calls = [
        ("tool", &permission.tools),
        ("endpoint", &permission.endpoints),
        ("model", &permission.models),
        ("skill", &permission.skills),
    ];
    for (what, list) in calls {
        all.extend(list.iter().map(|call| (what, call.name.to_string())));
    }
    let patterns = [
        ("resource", &permission.resources),
        ("prompt", &permission.prompts),
    ];
    for (what, list) in patterns {
        all.extend(list.iter().map(|pattern| (what, pattern.to_string())));
    }
    all.extend(
        permission
            .tables
            .iter()
            .map(|table| ("table", table.name.to_string())),
    );
    if permission.connect {
        all.push(("tunnel", "*".to_owned()));
    }
    all
}

#[cfg(test)]
mod tests;
