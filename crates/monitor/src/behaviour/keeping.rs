//! What is known, in parts that are kept one by one: only those that changed need to be written again.

use std::collections::HashSet;

use jiff::Timestamp;
use model::{AgentName, TaskId};
use serde::{Deserialize, Serialize};

use super::baseline::Target;
use super::flows::Read;
use super::observe::{Behaviour, Settings, no_pressure};
use super::pressure::Pressure;
use crate::Capped;
use crate::capped::Entry;

/// A part of what is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The baseline of an agent and a template.
    Baseline(AgentName, String),
    /// A task that is watched.
    Task(TaskId),
    /// Everything else: pressure, spreading, what agents read last.
    Rest,
}

impl Part {
    /// The name that it is kept under.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Baseline(agent, template) => format!("baseline/{agent}/{template}"),
            Self::Task(id) => format!("task/{id}"),
            Self::Rest => "rest".to_owned(),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        if name == "rest" {
            return Some(Self::Rest);
        }
        match name.split_once('/')? {
            ("task", id) => TaskId::parse(id).ok().map(Self::Task),
            ("baseline", rest) => {
                // A name of an agent has no `/`.
                let (agent, template) = rest.split_once('/')?;
                let agent = AgentName::parse(agent).ok()?;
                Some(Self::Baseline(agent, template.to_owned()))
            }
            _ => None,
        }
    }
}

/// A part that was kept cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("what was kept as `{name}` cannot be read: {why}; it is learnt anew")]
pub struct NotKept {
    /// The part's name.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

/// The parts that changed since they were kept.
#[derive(Debug, Clone, Default)]
pub(super) struct Changed {
    baselines: HashSet<(AgentName, String)>,
    tasks: HashSet<TaskId>,
    pub(super) rest: bool,
}

/// What is still to be kept is no part of what is known.
impl PartialEq for Changed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Changed {
    pub(super) fn baseline(&mut self, agent: &AgentName, template: &str) {
        let key = (agent.clone(), template.to_owned());
        self.baselines.insert(key);
    }

    pub(super) fn task(&mut self, id: TaskId) {
        self.tasks.insert(id);
    }
}

#[derive(Serialize)]
struct RestOut<'a> {
    denials: &'a Capped<AgentName, Pressure>,
    approvals: &'a Capped<AgentName, Pressure>,
    refusals: &'a Capped<String, Pressure>,
    too_fast: &'a Capped<AgentName, Pressure>,
    spreading: &'a Capped<Target, Vec<(AgentName, Timestamp)>>,
    reads: &'a Capped<AgentName, Read>,
}

#[derive(Deserialize)]
struct RestIn {
    denials: Capped<AgentName, Pressure>,
    approvals: Capped<AgentName, Pressure>,
    refusals: Capped<String, Pressure>,
    #[serde(default = "no_pressure")]
    too_fast: Capped<AgentName, Pressure>,
    spreading: Capped<Target, Vec<(AgentName, Timestamp)>>,
    reads: Capped<AgentName, Read>,
}

impl Behaviour {
    /// The parts that changed since this was asked last. Results that are awaited are no part: after a
    /// restart nobody gives them any more.
    pub fn changed(&mut self) -> Vec<Part> {
        let changed = std::mem::take(&mut self.changed);
        let baselines = changed
            .baselines
            .into_iter()
            .map(|(agent, template)| Part::Baseline(agent, template));
        baselines
            .chain(changed.tasks.into_iter().map(Part::Task))
            .chain(changed.rest.then_some(Part::Rest))
            .collect()
    }

    /// A part as JSON; `None` when it is not there any more.
    #[must_use]
    pub fn part(&self, part: &Part) -> Option<String> {
        let text = match part {
            Part::Baseline(agent, template) => {
                let key = (agent.clone(), template.clone());
                serde_json::to_string(self.baselines.entry(&key)?)
            }
            Part::Task(id) => serde_json::to_string(self.tasks.entry(id)?),
            Part::Rest => serde_json::to_string(&RestOut {
                denials: &self.denials,
                approvals: &self.approvals,
                refusals: &self.refusals,
                too_fast: &self.too_fast,
                spreading: &self.spreading,
                reads: &self.reads,
            }),
        };
        text.ok()
    }

    /// Whether there is something under a name; what is kept under others can be thrown away.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match Part::parse(name) {
            Some(Part::Baseline(agent, template)) => {
                self.baselines.get(&(agent, template)).is_some()
            }
            Some(Part::Task(id)) => self.tasks.get(&id).is_some(),
            Some(Part::Rest) => true,
            None => false,
        }
    }

    /// Goes on from what was kept, by name. A part that cannot be read is left out, and told.
    #[must_use]
    pub fn restored(
        settings: Settings,
        parts: impl IntoIterator<Item = (String, String)>,
    ) -> (Self, Vec<NotKept>) {
        let mut behaviour = Self::new(settings);
        let mut wrong = Vec::new();
        for (name, text) in parts {
            if let Err(why) = behaviour.put_back(&name, &text) {
                wrong.push(NotKept { name, why });
            }
        }
        (behaviour, wrong)
    }

    fn put_back(&mut self, name: &str, text: &str) -> Result<(), String> {
        fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
            serde_json::from_str(text).map_err(|error| error.to_string())
        }
        match Part::parse(name) {
            Some(Part::Baseline(agent, template)) => {
                let entry: Entry<_> = read(text)?;
                self.baselines.put_back((agent, template), entry);
            }
            Some(Part::Task(id)) => {
                let entry: Entry<_> = read(text)?;
                self.tasks.put_back(id, entry);
            }
            Some(Part::Rest) => {
                let rest: RestIn = read(text)?;
                self.denials = rest.denials;
                self.approvals = rest.approvals;
                self.refusals = rest.refusals;
                self.too_fast = rest.too_fast;
                self.spreading = rest.spreading;
                self.reads = rest.reads;
            }
            None => return Err("there is no part of that name".to_owned()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        let agent = AgentName::parse("triage").unwrap();
        for part in [
            Part::Baseline(agent.clone(), "triage-issues".into()),
            Part::Baseline(agent, String::new()),
            Part::Task(TaskId::new(Timestamp::UNIX_EPOCH, [7; 10])),
            Part::Rest,
        ] {
            assert_eq!(Part::parse(&part.name()), Some(part));
        }
        for wrong in ["", "baseline/x", "task/x", "x/y", "baseline/X Y/z"] {
            assert_eq!(Part::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_and_left_out() {
        let parts = [
            ("rest".to_owned(), "{".to_owned()),
            ("task/x".to_owned(), "{}".to_owned()),
        ];
        let (behaviour, wrong) = Behaviour::restored(Settings::default(), parts);
        assert_eq!(wrong.len(), 2);
        assert_eq!(behaviour, Behaviour::new(Settings::default()));
    }
}
