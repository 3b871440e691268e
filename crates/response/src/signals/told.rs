//! What changes of the control plane are events for others.
//!
//! | change | event | subject |
//! | --- | --- | --- |
//! | a task is revoked | `session-revoked` | the task, a session of its agent |
//! | an agent is quarantined or retired, its tokens are revoked | `session-revoked` | the agent |
//! | an instance is enrolled or disabled | `credential-change`: its key was created or revoked | the agent |
//! | an agent's score passes 30 or 70 | `risk-level-change` | the agent |
//!
//! A task that was completed or expired ended as it should: that is no event.

use model::record::{Change, Event as Recorded, Record};
use model::{AgentName, TaskId};

use super::event::{CredentialChange, Event, EventKind, Level};
use super::subject::Subject;

/// The event that a record is for others, if it is one.
#[must_use]
pub fn event(record: &Record, trust_domain: &str) -> Option<Event> {
    let Recorded::Change(change) = &record.event else {
        return None;
    };
    let detail = |name: &str| change.details.get(name).and_then(serde_json::Value::as_str);
    let agent = |text: &str| AgentName::parse(text).ok();
    let (kind, subject) = match change.change.as_str() {
        "task.revoked" => {
            let task = TaskId::parse(&change.subject).ok()?;
            let agent = agent(detail("agent")?)?;
            (
                EventKind::SessionRevoked,
                Subject::task(trust_domain, &agent, task),
            )
        }
        "agent.quarantined" | "agent.retired" | "agent.tokens_revoked" => {
            let agent = agent(&change.subject)?;
            (
                EventKind::SessionRevoked,
                Subject::agent(trust_domain, &agent),
            )
        }
        "instance.enrolled" | "instance.disabled" => {
            let agent = agent(detail("agent")?)?;
            let create = change.change == "instance.enrolled";
            // No word of the profile says "a key of a workload"; others may be agreed on (CAEP §3.3.1).
            let kind = EventKind::CredentialChange(CredentialChange {
                credential_type: "jwk".to_owned(),
                change_type: if create { "create" } else { "revoke" }.to_owned(),
            });
            (kind, Subject::agent(trust_domain, &agent))
        }
        _ => return None,
    };
    Some(Event {
        kind,
        subject,
        at: Some(record.time),
        reason: reason(change, detail("because")),
    })
}

/// Never empty: the interoperability profile asks for a reason.
fn reason(change: &Change, because: Option<&str>) -> String {
    let because = because.filter(|because| !because.is_empty());
    let what = change.change.replace(['.', '_'], " ");
    because.map_or(what.clone(), |because| format!("{what}: {because}"))
}

/// The event that another level of risk is; none when nothing is different.
#[must_use]
pub fn risk(
    trust_domain: &str,
    agent: &AgentName,
    before: Level,
    now: Level,
    at: jiff::Timestamp,
) -> Option<Event> {
    (before != now).then(|| Event {
        kind: EventKind::RiskLevelChange {
            current: now,
            previous: Some(before),
        },
        subject: Subject::agent(trust_domain, agent),
        at: Some(at),
        reason: "incidents of the agent".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use serde_json::json;

    fn change(name: &str, subject: &str) -> Record {
        Record::change(Timestamp::UNIX_EPOCH, "operator", name, subject)
    }

    #[test]
    fn what_ends_before_its_time_is_told_and_nothing_else() {
        let told = |record: &Record| event(record, "example.org");
        let quarantined = change("agent.quarantined", "triage").with("because", "it read payroll");
        let event = told(&quarantined).unwrap();
        assert_eq!(event.kind, EventKind::SessionRevoked);
        assert_eq!(
            event.subject.to_json(),
            json!({ "format": "uri", "uri": "spiffe://example.org/agent/triage" })
        );
        assert_eq!(event.reason, "agent quarantined: it read payroll");
        let task = TaskId::new(Timestamp::UNIX_EPOCH, [7; 10]);
        let revoked = change("task.revoked", &task.to_string()).with("agent", "triage");
        let subject = told(&revoked).unwrap().subject;
        assert_eq!(subject.to_json()["session"]["id"], json!(task.to_string()));
        for other in [
            "task.completed",
            "task.expired",
            "task.opened",
            "agent.released",
            "keys.rotated",
        ] {
            let record = change(other, &task.to_string()).with("agent", "triage");
            assert_eq!(told(&record), None, "{other}");
        }
        assert_eq!(told(&change("agent.quarantined", "Not A Name")), None);
    }

    #[test]
    fn levels_are_told_when_they_differ() {
        let agent = AgentName::parse("triage").unwrap();
        let at = Timestamp::UNIX_EPOCH;
        assert!(risk("example.org", &agent, Level::Low, Level::Low, at).is_none());
        let event = risk("example.org", &agent, Level::of(29), Level::of(70), at).unwrap();
        assert_eq!(
            event.kind,
            EventKind::RiskLevelChange {
                current: Level::High,
                previous: Some(Level::Low)
            }
        );
    }
}
