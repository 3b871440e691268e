//! From where data must not go to where.

use std::collections::BTreeMap;

use jiff::Timestamp;
pub use model::config::ServerLabel as Label;
use model::record::Intent;
use model::{ServerName, TaskId};
use serde::{Deserialize, Serialize};

use super::explain::Who;
use super::observe::Behaviour;
use super::pressure::seconds_between;
use crate::finding::{Asi, Atlas, Finding, Severity};
use crate::text::escaped;

/// How long an agent counts as knowing what it read in another task, in seconds.
const KNOWS: f64 = 1_800.0;
/// How long that is not told again, in seconds.
const TOLD: f64 = 86_400.0;

/// The labels of servers; a server without one is neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(pub BTreeMap<ServerName, Label>);

impl Labels {
    /// The label of a server.
    #[must_use]
    pub fn of(&self, server: &ServerName) -> Label {
        self.0.get(server).copied().unwrap_or_default()
    }
}

/// Where something sensitive was read, and when.
pub(super) type Source = (ServerName, String, Timestamp);

/// What an agent read last that must not leave, in whichever task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Read {
    source: Source,
    task: TaskId,
    told: Option<Timestamp>,
}

impl Behaviour {
    /// What was read, in the task or in one that it is a part of, that must not leave. What a part read is
    /// marked at all that it is a part of, so that the other parts have it too.
    pub(super) fn source(&self, intent: &Intent) -> Option<Source> {
        let above = intent.within.iter().map(|above| &above.task);
        std::iter::once(&intent.task)
            .chain(above)
            .find_map(|task| self.tasks.get(task)?.read.clone())
    }

    /// What was read where it must not leave goes where it has left.
    pub(super) fn flow(
        &mut self,
        intent: &Intent,
        source: Option<Source>,
        who: Who<'_>,
        time: Timestamp,
        findings: &mut Vec<Finding>,
    ) {
        let label = self.settings.labels.of(&intent.server);
        if label.external {
            let same_work = source.filter(|(from, ..)| *from != intent.server);
            let Some((from, what, at)) = same_work else {
                self.elsewhere(intent, who, time, findings);
                return self.mark(intent, label, who, time);
            };
            let watched = self.tasks.get_mut(&intent.task);
            let flow = format!("flow {from} {}", intent.server);
            if watched.is_some_and(|watched| watched.tell_bad(&flow)) {
                findings.push(who.finding(
                    "sensitive-data-leaves",
                    Severity::High,
                    (Asi::Asi02, Atlas::EXFILTRATION),
                    format!(
                        "`{}` of {from}, which is sensitive, was read, and {:.0} seconds later in the same \
                         work agent {} called `{}` of {}, which is external",
                        escaped(&what, 80),
                        seconds_between(at, time),
                        who.agent,
                        escaped(who.target, 80),
                        intent.server,
                    ),
                ));
            }
        }
        self.mark(intent, label, who, time);
    }

    /// Remembers what was read that must not leave.
    fn mark(&mut self, intent: &Intent, label: Label, who: Who<'_>, time: Timestamp) {
        if label.sensitive {
            let read = (intent.server.clone(), who.target.to_owned(), time);
            let above = intent.within.iter().map(|above| above.task);
            for task in std::iter::once(intent.task).chain(above) {
                if let Some(watched) = self.tasks.get_mut(&task) {
                    watched.read = Some(read.clone());
                    self.changed.task(task);
                }
            }
            let known = self.reads.at(intent.agent.clone(), || Read {
                source: read.clone(),
                task: intent.task,
                told: None,
            });
            (known.source, known.task) = (read, intent.task);
            self.changed.rest = true;
        }
    }

    /// What the agent read in another task a short time ago: it may remember.
    fn elsewhere(
        &mut self,
        intent: &Intent,
        who: Who<'_>,
        time: Timestamp,
        findings: &mut Vec<Finding>,
    ) {
        let Some(known) = self.reads.get_mut(&intent.agent) else {
            return;
        };
        let (from, what, at) = &known.source;
        let told = known
            .told
            .is_some_and(|told| seconds_between(told, time) < TOLD);
        if told
            || known.task == intent.task
            || *from == intent.server
            || seconds_between(*at, time) > KNOWS
        {
            return;
        }
        findings.push(who.finding(
            "sensitive-data-may-leave",
            Severity::Medium,
            (Asi::Asi02, Atlas::EXFILTRATION),
            format!(
                "Agent {} called `{}` of {}, which is external, {:.0} seconds after it read `{}` of {from}, \
                 which is sensitive, in another task",
                who.agent,
                escaped(who.target, 80),
                intent.server,
                seconds_between(*at, time),
                escaped(what, 80),
            ),
        ));
        known.told = Some(time);
        self.changed.rest = true;
    }
}
