//! Where findings arrive: they get a number, a record, and a place in an incident.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use jiff::Timestamp;
use model::inspection::Response;
use model::record::Record;
use model::{AgentName, DecisionId, TaskId};
use monitor::Finding;
use monitor::incidents::{Incident, IncidentChange, Incidents, Origin, Taken, What};
use std::sync::Arc;
use store::{FindingRow, IncidentRow, KNOWN, WatchBatch};

use super::flood::Flood;
use super::records;
use crate::api;

/// Most records that wait for the log to take them. Beyond it the log has been gone for long.
const UNWRITTEN: usize = 8_192;
/// Most findings that wait for the store. Beyond it the store has been gone for long; their records are
/// in the log.
const UNSAVED: usize = 20_000;

/// A finding, with where it was made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    /// What was seen.
    pub(crate) finding: Finding,
    /// Whose doing it is.
    pub(crate) origin: Origin,
    /// When.
    pub(crate) at: Timestamp,
    /// What was looked at.
    pub(crate) seen_in: &'static str,
    /// What was done about the message.
    pub(crate) response: Option<Response>,
    /// The decision that it is about.
    pub(crate) decision: Option<DecisionId>,
    /// The record that it is about.
    pub(crate) about: Option<u64>,
    /// The number that it has in the log already.
    pub(crate) recorded: Option<u64>,
}

/// What there is to tell of a finding that arrived.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Records for the log, in order.
    pub(super) records: Vec<Record>,
    /// Changes of its incident.
    pub(super) changes: Vec<IncidentChange>,
    /// Whether it was suppressed, or has no record of its own.
    pub(super) suppressed: bool,
    pub(super) unrecorded: bool,
    /// The score of its agent and of its task now.
    pub(super) agent: Option<(AgentName, u8)>,
    pub(super) task: Option<(TaskId, u8)>,
}

/// What is known, and what of it is still to be kept.
pub(super) struct Desk {
    pub(super) incidents: Incidents,
    /// The number of the last finding.
    pub(super) last: u64,
    flood: Flood,
    /// Records that the log did not take.
    pub(super) unwritten: VecDeque<Bytes>,
    unsaved: Unsaved,
}

#[derive(Default)]
struct Unsaved {
    findings: Vec<api::Finding>,
    incidents: BTreeSet<u64>,
    known: bool,
    parts: Vec<(String, Option<String>)>,
    observed: Option<u64>,
    told: Option<u64>,
}

impl Desk {
    pub(super) fn new(incidents: Incidents, last: u64) -> Self {
        Self {
            incidents,
            last,
            flood: Flood::default(),
            unwritten: VecDeque::new(),
            unsaved: Unsaved::default(),
        }
    }

    /// Takes in a finding.
    pub(super) fn take(&mut self, seen: Seen, now: Timestamp) -> News {
        let Seen {
            finding,
            origin,
            at,
            seen_in,
            response,
            decision,
            about,
            recorded,
        } = seen;
        let receipt = self.incidents.receive(finding.clone(), origin, at);
        self.unsaved.known = true;
        let mut news = News::default();
        let Some(incident) = receipt.taken.incident() else {
            news.suppressed = true;
            return news;
        };
        self.unsaved.incidents.insert(incident);
        let Finding {
            rule,
            asi,
            atlas,
            subject,
            evidence,
            explanation,
            ..
        } = finding;
        let first = receipt.first_of_rule || receipt.raised;
        let admitted = match recorded {
            Some(_) => Some(0),
            None => {
                let agent = subject.agent.as_ref();
                self.flood
                    .admits(agent, receipt.severity, first, at.as_second())
            }
        };
        news.unrecorded = admitted.is_none();
        let mut id = None;
        if let Some(unrecorded) = admitted {
            self.last = match recorded {
                Some(number) => self.last.max(number),
                None => self.last.saturating_add(1),
            };
            let number = recorded.unwrap_or(self.last);
            id = Some(number);
            let finding = api::Finding {
                id: number,
                at,
                rule,
                severity: receipt.severity,
                asi,
                atlas,
                agent: subject.agent.clone(),
                task: subject.task,
                server: subject.server.clone(),
                target: subject.target,
                origin,
                seen_in: seen_in.to_owned(),
                response,
                decision,
                about,
                explanation,
                evidence,
                incident: Some(incident),
                scored: receipt.taken.is_scored(),
                feedback: None,
            };
            if recorded.is_none() {
                news.records.push(records::found(&finding, unrecorded));
            }
            if self.unsaved.findings.len() < UNSAVED {
                self.unsaved.findings.push(finding);
            }
        }
        let what = match receipt.taken {
            Taken::Begun(_) => Some(What::Opened),
            _ if receipt.raised => Some(What::Raised),
            Taken::Joined(_) => Some(What::Grown),
            Taken::Counted(_) | Taken::Suppressed => None,
        };
        if let (Some(what), Some(incident)) = (what, self.incidents.get(incident)) {
            if what != What::Grown && recorded.is_none() {
                news.records
                    .push(records::incident_changed(at, what, incident, None, None));
            }
            news.changes.push(IncidentChange {
                what,
                at,
                finding: id,
                incident: Arc::new(incident.clone()),
            });
        }
        if receipt.taken.is_scored() {
            news.task = subject
                .task
                .map(|task| (task, self.incidents.task_score(&task)));
            news.agent = subject.agent.map(|agent| {
                let score = self.incidents.agent_score(&agent, now);
                (agent, score)
            });
        }
        news
    }

    /// An incident that is not in memory any more, as it was kept.
    pub(super) fn adopt(&mut self, incident: Incident) {
        if self.incidents.get(incident.id).is_none() {
            self.incidents.adopt(incident);
        }
    }

    /// What is known besides incidents has changed.
    pub(super) fn touch(&mut self) {
        self.unsaved.known = true;
    }

    /// An incident has changed.
    pub(super) fn touch_incident(&mut self, id: u64) {
        self.unsaved.incidents.insert(id);
        self.unsaved.known = true;
    }

    /// A finding that is kept already has changed.
    pub(super) fn put_finding(&mut self, finding: api::Finding) {
        self.unsaved.findings.push(finding);
    }

    /// Parts of what is known of behaviour.
    pub(super) fn put_parts(&mut self, parts: impl IntoIterator<Item = (String, Option<String>)>) {
        self.unsaved.parts.extend(parts);
    }

    /// How many parts wait to be kept.
    pub(super) fn waiting_parts(&self) -> usize {
        self.unsaved.parts.len()
    }

    /// The records before this index are in the parts.
    pub(super) fn observed(&mut self, index: u64) {
        self.unsaved.observed = Some(index);
    }

    /// The findings about records before this index have arrived.
    pub(super) fn told(&mut self, index: u64) {
        self.unsaved.told = Some(index);
    }

    /// A record that the log did not take.
    pub(super) fn owe(&mut self, record: Bytes) {
        if self.unwritten.len() < UNWRITTEN {
            self.unwritten.push_back(record);
        } else {
            tracing::error!(
                record = %String::from_utf8_lossy(&record),
                "too much is owed to the audit log already: this is not kept"
            );
        }
    }

    /// Takes out what is to be kept.
    pub(super) fn batch(&mut self) -> WatchBatch {
        let unsaved = std::mem::take(&mut self.unsaved);
        let mut parts = unsaved.parts;
        if unsaved.known
            && let Ok(text) = serde_json::to_string(self.incidents.known())
        {
            parts.push((KNOWN.to_owned(), Some(text)));
        }
        let incidents = unsaved.incidents.iter();
        WatchBatch {
            findings: unsaved.findings.into_iter().filter_map(row).collect(),
            incidents: incidents
                .filter_map(|id| incident_row(self.incidents.get(*id)?))
                .collect(),
            parts,
            observed: unsaved.observed,
            told: unsaved.told,
        }
    }

    /// Puts back what could not be kept. What has changed again meanwhile is taken anew.
    pub(super) fn put_back(&mut self, batch: WatchBatch) {
        let later = std::mem::take(&mut self.unsaved);
        let findings = batch.findings.iter();
        let mut findings: Vec<api::Finding> = findings
            .filter_map(|row| serde_json::from_str(&row.body).ok())
            .chain(later.findings)
            .collect();
        findings.truncate(UNSAVED);
        let mut parts: Vec<_> = batch
            .parts
            .into_iter()
            .filter(|(name, _)| name != KNOWN)
            .collect();
        parts.extend(later.parts);
        self.unsaved = Unsaved {
            findings,
            incidents: batch
                .incidents
                .iter()
                .map(|row| row.id)
                .chain(later.incidents)
                .collect(),
            known: true,
            parts,
            observed: later.observed.or(batch.observed),
            told: later.told.or(batch.told),
        };
    }
}

fn row(finding: api::Finding) -> Option<FindingRow> {
    Some(FindingRow {
        body: serde_json::to_string(&finding).ok()?,
        id: finding.id,
        at: finding.at,
        rule: finding.rule,
        severity: finding.severity,
        agent: finding.agent,
        task: finding.task,
        server: finding.server,
        incident: finding.incident,
    })
}

fn incident_row(incident: &Incident) -> Option<IncidentRow> {
    Some(IncidentRow {
        id: incident.id,
        revision: incident.revision,
        status: incident.status.as_str().to_owned(),
        severity: incident.severity,
        last: incident.last,
        agents: incident.agents.iter().cloned().collect(),
        body: serde_json::to_string(incident).ok()?,
    })
}
