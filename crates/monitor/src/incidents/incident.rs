//! One incident.

use std::collections::BTreeSet;

use jiff::Timestamp;
use model::{AgentName, ServerName, TaskId};
use serde::{Deserialize, Serialize};

use super::risk::Origin;
use crate::finding::{Finding, Severity};

/// Where an incident is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentStatus {
    /// Nobody has dealt with it.
    Open,
    /// Somebody dealt with it.
    Closed,
    /// Somebody looked, and it was nothing.
    FalseAlarm,
}

impl IncidentStatus {
    /// The word in the API and in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::FalseAlarm => "false-alarm",
        }
    }

    /// Reads the word back; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Closed, Self::FalseAlarm]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// A finding of an incident, and how often it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The finding, as it came first.
    pub finding: Finding,
    /// Whose doing it is.
    #[serde(default)]
    pub origin: Origin,
    /// How often it came.
    pub count: u64,
    /// When it came first.
    pub first: Timestamp,
    /// When it came last.
    pub last: Timestamp,
}

/// Findings that belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its number, from 1 on.
    pub id: u64,
    /// Grows with each change that is worth telling, over all incidents.
    #[serde(default)]
    pub revision: u64,
    /// Where it is in its life.
    pub status: IncidentStatus,
    /// How much it matters: as much as the worst finding, and one step more when three kinds of at least
    /// medium severity came together.
    pub severity: Severity,
    /// The agents that it is about.
    pub agents: BTreeSet<AgentName>,
    /// The tasks that it is about, at most 64.
    pub tasks: BTreeSet<TaskId>,
    /// The servers that it is about, at most 64.
    pub servers: BTreeSet<ServerName>,
    /// When the first finding came.
    pub first: Timestamp,
    /// When the last one came.
    pub last: Timestamp,
    /// When somebody closed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// The rules that saw something, also of findings that are not kept.
    #[serde(default)]
    pub rules: BTreeSet<String>,
    /// The findings.
    pub findings: Vec<Seen>,
    /// Findings beyond those that are kept.
    pub further: u64,
    /// What is being done or was found out, in words.
    pub note: String,
}

/// Most subjects of each kind that an incident names.
const SUBJECTS: usize = 64;
/// Kinds of findings of at least medium severity that together are worse than each.
const TOGETHER: usize = 3;
/// Most rules that an incident names; there are far fewer.
const RULES: usize = 256;
/// Longest note, in characters.
const NOTE: usize = 4_000;

impl Incident {
    pub(super) fn begin(id: u64, finding: Finding, origin: Origin, now: Timestamp) -> Self {
        let mut incident = Self {
            id,
            revision: 0,
            status: IncidentStatus::Open,
            severity: finding.severity,
            agents: BTreeSet::new(),
            tasks: BTreeSet::new(),
            servers: BTreeSet::new(),
            first: now,
            last: now,
            ended: None,
            rules: BTreeSet::new(),
            findings: Vec::new(),
            further: 0,
            note: String::new(),
        };
        incident.add(finding, origin, now);
        incident
    }

    /// Adds a finding; false when the same one was there and is only counted.
    pub(super) fn add(&mut self, finding: Finding, origin: Origin, now: Timestamp) -> bool {
        self.last = self.last.max(now);
        if self.rules.len() < RULES {
            self.rules.insert(finding.rule.clone());
        }
        let same = |seen: &&mut Seen| {
            let (a, b) = (&seen.finding, &finding);
            a.rule == b.rule
                && a.subject.agent == b.subject.agent
                && a.subject.server == b.subject.server
                && a.subject.target == b.subject.target
        };
        if let Some(seen) = self.findings.iter_mut().find(same) {
            seen.count = seen.count.saturating_add(1);
            seen.last = seen.last.max(now);
            if finding.severity > seen.finding.severity {
                self.severity = self.severity.max(finding.severity);
                seen.finding = finding;
            }
            return false;
        }
        let subject = &finding.subject;
        put(&mut self.agents, subject.agent.as_ref());
        put(&mut self.tasks, subject.task.as_ref());
        put(&mut self.servers, subject.server.as_ref());
        let severity = finding.severity;
        if self.findings.len() < super::FINDINGS {
            self.findings.push(Seen {
                finding,
                origin,
                count: 1,
                first: now,
                last: now,
            });
        } else {
            self.further = self.further.saturating_add(1);
            // The worst is never the one that is not kept.
            let least = self
                .findings
                .iter_mut()
                .min_by_key(|seen| seen.finding.severity);
            if let Some(least) = least.filter(|least| least.finding.severity < severity) {
                *least = Seen {
                    finding,
                    origin,
                    count: 1,
                    first: now,
                    last: now,
                };
            }
        }
        self.severity = self.severity.max(severity).max(self.together());
        true
    }

    /// Adds a line to the note; what does not fit is left out at the beginning.
    pub(super) fn write(&mut self, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if !self.note.is_empty() {
            self.note.push('\n');
        }
        self.note.push_str(text);
        let over = self.note.chars().count().saturating_sub(NOTE);
        if over > 0 {
            self.note = self.note.chars().skip(over).collect();
        }
    }

    /// How many findings it has, with those that are only counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        let kept = self.findings.iter().map(|seen| seen.count);
        kept.fold(self.further, u64::saturating_add)
    }

    /// What the findings together amount to.
    fn together(&self) -> Severity {
        let worst = self.findings.iter().map(|seen| seen.finding.severity).max();
        let worst = worst.unwrap_or(Severity::Info);
        let kinds: BTreeSet<&str> = self
            .findings
            .iter()
            .filter(|seen| seen.finding.severity >= Severity::Medium)
            .map(|seen| seen.finding.rule.as_str())
            .collect();
        if kinds.len() >= TOGETHER {
            worst.raised()
        } else {
            worst
        }
    }
}

fn put<T: Ord + Clone>(set: &mut BTreeSet<T>, one: Option<&T>) {
    if let Some(one) = one
        && set.len() < SUBJECTS
    {
        set.insert(one.clone());
    }
}
