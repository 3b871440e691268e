//! All incidents.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::{AgentName, ServerName};
use serde::{Deserialize, Serialize};

use super::incident::{Incident, IncidentStatus};
use super::risk::Risk;
use super::suppression::{Suppression, SuppressionError};
use crate::Capped;
use crate::finding::Finding;

/// A finding joins an incident whose last one is at most this many seconds ago.
pub const WINDOW_SECONDS: i64 = 1_800;
/// An incident with findings for longer than this many seconds gets no more: the next one begins.
const LONGEST_SECONDS: i64 = 86_400;
/// Most findings that an incident holds; more are counted.
pub const FINDINGS: usize = 64;
/// Most incidents that are kept.
pub const INCIDENTS: usize = 10_000;
/// Most suppressions at once.
const SUPPRESSIONS: usize = 1_000;
/// Most agents with a score.
const AGENTS: usize = 20_000;
/// Most rules, agents and servers with false alarms.
const FALSE_ALARMS: usize = 10_000;
/// False alarms after which a finding comes in one step lower.
const ALARMS_PER_STEP: u32 = 2;
/// Steps that false alarms can lower a finding by: it never disappears by them.
const STEPS: u32 = 2;

/// Where a finding went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It began an incident.
    Begun(u64),
    /// It joined one.
    Joined(u64),
    /// It was in one already, and was counted.
    Counted(u64),
    /// It is suppressed.
    Suppressed,
}

type AlarmKey = (String, Option<AgentName>, Option<ServerName>);

/// The incidents, suppressions and scores. It can be kept as JSON and read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incidents {
    next: u64,
    incidents: BTreeMap<u64, Incident>,
    suppressions: Vec<Suppression>,
    suppressed: u64,
    risks: Capped<AgentName, Risk>,
    alarms: Capped<AlarmKey, u32>,
}

impl Default for Incidents {
    fn default() -> Self {
        Self {
            next: 1,
            incidents: BTreeMap::new(),
            suppressions: Vec::new(),
            suppressed: 0,
            risks: Capped::new(AGENTS),
            alarms: Capped::new(FALSE_ALARMS),
        }
    }
}

impl Incidents {
    /// Takes in a finding.
    pub fn take(&mut self, mut finding: Finding, now: Timestamp) -> Taken {
        if self
            .suppressions
            .iter()
            .any(|one| one.covers(&finding, now))
        {
            self.suppressed = self.suppressed.saturating_add(1);
            return Taken::Suppressed;
        }
        let alarms = self.alarms.get(&alarm_key(&finding)).copied().unwrap_or(0);
        for _ in 0..(alarms / ALARMS_PER_STEP).min(STEPS) {
            finding.severity = finding.severity.lowered();
        }
        let (agent, points) = (finding.subject.agent.clone(), finding.severity.points());
        let taken = match self.belongs_to(&finding, now) {
            Some(id) => {
                let incident = self.incidents.get_mut(&id);
                let new = incident.is_some_and(|incident| incident.add(finding, now));
                if new {
                    Taken::Joined(id)
                } else {
                    Taken::Counted(id)
                }
            }
            None => {
                self.make_room();
                let id = self.next;
                self.next += 1;
                self.incidents.insert(id, Incident::begin(id, finding, now));
                Taken::Begun(id)
            }
        };
        // What is only counted adds nothing: repeating is no second deed.
        if let (Some(agent), Taken::Begun(_) | Taken::Joined(_)) = (agent, taken) {
            self.risks.at(agent, || Risk::new(now)).add(points, now);
        }
        taken
    }

    /// The open incident that a finding belongs to.
    fn belongs_to(&self, finding: &Finding, now: Timestamp) -> Option<u64> {
        let subject = &finding.subject;
        let recent = |incident: &&Incident| {
            let since = |then: Timestamp| now.as_second().saturating_sub(then.as_second());
            incident.status == IncidentStatus::Open
                && since(incident.last) <= WINDOW_SECONDS
                && since(incident.first) <= LONGEST_SECONDS
        };
        // Newest first; the incidents of the last half hour are few, whatever their number in all.
        let open = || self.incidents.values().rev().take(1_024).filter(recent);
        let with = |found: Option<&Incident>| found.map(|incident| incident.id);
        let by_task = || {
            let task = subject.task.as_ref()?;
            with(open().find(|incident| incident.tasks.contains(task)))
        };
        let by_agent = || {
            let agent = subject.agent.as_ref()?;
            with(open().find(|incident| incident.agents.contains(agent)))
        };
        let by_server = || {
            let server = subject
                .server
                .as_ref()
                .filter(|_| subject.agent.is_none())?;
            let of_server = |incident: &&Incident| {
                incident.agents.is_empty() && incident.servers.contains(server)
            };
            with(open().find(of_server))
        };
        let by_rule = || {
            let alone = subject.agent.is_none() && subject.server.is_none();
            let same = |incident: &&Incident| {
                incident.agents.is_empty()
                    && incident.servers.is_empty()
                    && incident
                        .findings
                        .iter()
                        .any(|seen| seen.finding.rule == finding.rule)
            };
            with(open().find(same).filter(|_| alone))
        };
        by_task()
            .or_else(by_agent)
            .or_else(by_server)
            .or_else(by_rule)
    }

    /// Makes room for one more: what is dealt with leaves first, then what matters least, then what is old.
    fn make_room(&mut self) {
        if self.incidents.len() < INCIDENTS {
            return;
        }
        let mut ranked: Vec<_> = self
            .incidents
            .values()
            .map(|one| {
                (
                    one.status == IncidentStatus::Open,
                    one.severity,
                    one.last,
                    one.id,
                )
            })
            .collect();
        let leave = INCIDENTS / 100;
        ranked.select_nth_unstable(leave);
        for (.., id) in ranked.into_iter().take(leave) {
            self.incidents.remove(&id);
        }
    }

    /// An incident.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Incident> {
        self.incidents.get(&id)
    }

    /// The incidents, the newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.values().rev()
    }

    /// How many findings were suppressed, ever.
    #[must_use]
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Closes an incident. False when there is none of that number.
    pub fn close(&mut self, id: u64, note: &str) -> bool {
        self.end(id, IncidentStatus::Closed, note)
    }

    /// Closes an incident that was nothing. Its kinds of findings about the same agent and server come in
    /// one step lower after two such alarms, and two steps after four. False when there is none.
    pub fn false_alarm(&mut self, id: u64, note: &str) -> bool {
        let fresh = self
            .get(id)
            .is_some_and(|one| one.status != IncidentStatus::FalseAlarm);
        let keys: Vec<AlarmKey> = self
            .get(id)
            .filter(|_| fresh)
            .map(|one| {
                one.findings
                    .iter()
                    .map(|seen| alarm_key(&seen.finding))
                    .collect()
            })
            .unwrap_or_default();
        for key in keys {
            let count = self.alarms.at(key, || 0);
            *count = count.saturating_add(1);
        }
        self.end(id, IncidentStatus::FalseAlarm, note)
    }

    fn end(&mut self, id: u64, status: IncidentStatus, note: &str) -> bool {
        let incident = self.incidents.get_mut(&id);
        incident.is_some_and(|incident| {
            incident.status = status;
            incident.note = note.chars().take(2_000).collect();
            true
        })
    }

    /// Suppresses findings for a time.
    ///
    /// # Errors
    /// [`SuppressionError`] when it has no end within 90 days, no reason, or there are too many.
    pub fn suppress(&mut self, what: Suppression, now: Timestamp) -> Result<(), SuppressionError> {
        what.check(now)?;
        self.suppressions.retain(|one| now < one.until);
        if self.suppressions.len() >= SUPPRESSIONS {
            return Err(SuppressionError::TooMany { most: SUPPRESSIONS });
        }
        self.suppressions.push(what);
        Ok(())
    }

    /// The suppressions that are in force.
    pub fn suppressions(&self, now: Timestamp) -> impl Iterator<Item = &Suppression> {
        self.suppressions.iter().filter(move |one| now < one.until)
    }

    /// How bad an agent looks at a time: 0 to 100.
    #[must_use]
    pub fn risk(&self, agent: &AgentName, now: Timestamp) -> f64 {
        self.risks.get(agent).map_or(0.0, |risk| risk.score(now))
    }
}

fn alarm_key(finding: &Finding) -> AlarmKey {
    let subject = &finding.subject;
    (
        finding.rule.clone(),
        subject.agent.clone(),
        subject.server.clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Severity, Subject};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn found(rule: &str, agent: &str, severity: Severity) -> Finding {
        Finding {
            rule: rule.into(),
            severity,
            asi: None,
            atlas: None,
            subject: Subject {
                agent: AgentName::parse(agent).ok(),
                ..Subject::default()
            },
            evidence: None,
            explanation: "x".into(),
        }
    }

    #[test]
    fn what_belongs_together_comes_together() {
        let mut incidents = Incidents::default();
        assert_eq!(
            incidents.take(found("a", "x", Severity::Low), at(0)),
            Taken::Begun(1)
        );
        assert_eq!(
            incidents.take(found("a", "x", Severity::Low), at(9)),
            Taken::Counted(1)
        );
        assert_eq!(
            incidents.take(found("b", "x", Severity::Low), at(9)),
            Taken::Joined(1)
        );
        assert_eq!(
            incidents.take(found("a", "y", Severity::Low), at(9)),
            Taken::Begun(2)
        );
        assert_eq!(
            incidents.take(found("a", "x", Severity::Low), at(10_000)),
            Taken::Begun(3)
        );
        assert_eq!(incidents.get(1).unwrap().findings[0].count, 2);
    }

    #[test]
    fn three_kinds_are_worse_than_one() {
        let mut incidents = Incidents::default();
        for rule in ["a", "b", "c"] {
            incidents.take(found(rule, "x", Severity::Medium), at(0));
        }
        assert_eq!(incidents.get(1).unwrap().severity, Severity::High);
    }

    #[test]
    fn what_is_suppressed_comes_back() {
        let mut incidents = Incidents::default();
        let mut what = Suppression {
            rule: "a".into(),
            agent: None,
            server: None,
            until: at(100),
            by: "ada".into(),
            reason: "migration".into(),
        };
        incidents.suppress(what.clone(), at(0)).unwrap();
        assert_eq!(
            incidents.take(found("a", "x", Severity::High), at(99)),
            Taken::Suppressed
        );
        assert_eq!(
            incidents.take(found("a", "x", Severity::Critical), at(99)),
            Taken::Begun(1)
        );
        assert_eq!(
            incidents.take(found("a", "y", Severity::High), at(100)),
            Taken::Begun(2)
        );
        what.until = at(91 * 86_400);
        assert_eq!(
            incidents.suppress(what.clone(), at(0)),
            Err(SuppressionError::Until)
        );
        what.until = at(50);
        what.reason = " ".into();
        assert_eq!(
            incidents.suppress(what, at(0)),
            Err(SuppressionError::NoReason)
        );
    }

    #[test]
    fn false_alarms_lower_and_never_silence() {
        let mut incidents = Incidents::default();
        let mut severities = Vec::new();
        for round in 0..12 {
            let Taken::Begun(id) =
                incidents.take(found("a", "x", Severity::High), at(round * 10_000))
            else {
                panic!("a new incident");
            };
            severities.push(incidents.get(id).unwrap().severity);
            assert!(incidents.false_alarm(id, "a test") && incidents.false_alarm(id, "again"));
        }
        use Severity::{High, Low, Medium};
        assert_eq!(severities[..5], [High, High, Medium, Medium, Low]);
        assert_eq!(severities[11], Low);
    }

    #[test]
    fn a_flood_is_one_incident_and_never_hides_the_worst() {
        let mut incidents = Incidents::default();
        for n in 0..50_000 {
            incidents.take(
                found(&format!("noise-{n}"), "x", Severity::Low),
                at(n / 100),
            );
        }
        incidents.take(found("theft", "x", Severity::Critical), at(500));
        assert_eq!(incidents.iter().count(), 1);
        let incident = incidents.get(1).unwrap();
        assert_eq!(incident.findings.len(), FINDINGS);
        assert_eq!(incident.severity, Severity::Critical);
        assert!(
            incident
                .findings
                .iter()
                .any(|seen| seen.finding.rule == "theft")
        );
        assert_eq!(incident.further, 50_001 - FINDINGS as u64);
    }

    #[test]
    fn a_flood_of_agents_pushes_out_the_flood() {
        let mut incidents = Incidents::default();
        incidents.take(found("theft", "victim", Severity::High), at(0));
        for n in 0..INCIDENTS + 500 {
            incidents.take(
                found("noise", &format!("a{n}"), Severity::Low),
                at(1 + n as i64),
            );
        }
        assert!(incidents.iter().count() <= INCIDENTS);
        assert!(
            incidents.get(1).is_some(),
            "the one that matters is still there"
        );
    }

    #[test]
    fn it_is_kept_and_read_back() {
        let mut incidents = Incidents::default();
        incidents.take(found("a", "x", Severity::Low), at(0));
        let text = serde_json::to_string(&incidents).unwrap();
        assert_eq!(serde_json::from_str::<Incidents>(&text).unwrap(), incidents);
        let agent = AgentName::parse("x").unwrap();
        assert!(incidents.risk(&agent, at(0)) > incidents.risk(&agent, at(86_400)));
    }
}
