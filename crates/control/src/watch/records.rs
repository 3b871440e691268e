//! Findings and incidents as records of the audit log, and back.

use jiff::Timestamp;
use model::record::{Event, Found, IncidentChanged, Record};
use monitor::incidents::{Incident, Origin, What};
use monitor::{Asi, Atlas, Finding, Subject};

use crate::api;

/// Longest explanation in a record, in characters.
const EXPLANATION: usize = 1_024;
/// Most agents and rules in a record of an incident.
const NAMED: usize = 32;

/// The record of a finding. What it quotes stays out of the log.
pub(super) fn found(finding: &api::Finding, unrecorded: u64) -> Record {
    let found = Found {
        finding: finding.id,
        rule: finding.rule.clone(),
        severity: finding.severity,
        asi: finding.asi.map(tag),
        atlas: finding
            .atlas
            .as_ref()
            .map(|atlas| atlas.as_str().to_owned()),
        agent: finding.agent.clone(),
        task: finding.task,
        server: finding.server.clone(),
        target: finding.target.clone(),
        place: finding
            .evidence
            .as_ref()
            .map(|evidence| evidence.place.clone()),
        explanation: finding.explanation.chars().take(EXPLANATION).collect(),
        origin: finding.origin.as_str().to_owned(),
        decision: finding.decision,
        about: finding.about,
        incident: finding.incident,
        unrecorded,
    };
    Record::new(finding.at, Event::Finding(Box::new(found)))
}

/// A finding as it was before it was recorded, without what it quoted.
pub(super) fn finding(found: &Found) -> (Finding, Origin) {
    let finding = Finding {
        rule: found.rule.clone(),
        severity: found.severity,
        asi: found.asi.as_deref().and_then(untag),
        atlas: found
            .atlas
            .as_deref()
            .and_then(|text| Atlas::parse(text).ok()),
        subject: Subject {
            agent: found.agent.clone(),
            task: found.task,
            server: found.server.clone(),
            target: found.target.clone(),
        },
        evidence: None,
        explanation: found.explanation.clone(),
    };
    (finding, Origin::parse(&found.origin).unwrap_or_default())
}

/// The record of a change of an incident.
pub(super) fn incident_changed(
    at: Timestamp,
    what: What,
    incident: &Incident,
    by: Option<&str>,
    note: Option<&str>,
) -> Record {
    let changed = IncidentChanged {
        incident: incident.id,
        change: what.as_str().to_owned(),
        severity: incident.severity,
        agents: incident.agents.iter().take(NAMED).cloned().collect(),
        rules: incident.rules.iter().take(NAMED).cloned().collect(),
        findings: incident.count(),
        by: by.map(ToOwned::to_owned),
        note: note.filter(|note| !note.is_empty()).map(ToOwned::to_owned),
    };
    Record::new(at, Event::Incident(Box::new(changed)))
}

fn tag(asi: Asi) -> String {
    match serde_json::to_value(asi) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

fn untag(text: &str) -> Option<Asi> {
    serde_json::from_value(text.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_survive_the_log() {
        for asi in [Asi::Asi01, Asi::Asi10] {
            assert_eq!(untag(&tag(asi)), Some(asi));
        }
        assert_eq!(tag(Asi::Asi02), "ASI02");
    }
}
