//! All incidents.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use model::config::Scoring;
use model::{AgentName, TaskId};
use serde::{Deserialize, Serialize};

use super::incident::{Incident, IncidentStatus};
use super::known::{Known, alarm_key};
use super::risk::{Floor, Origin, Weight, whole};
use super::suppression::{Suppression, SuppressionError};
use crate::finding::{Finding, Severity};

/// A finding joins an incident whose last one is at most this many seconds ago.
pub const WINDOW_SECONDS: i64 = 1_800;
/// An incident with findings for longer than this many seconds gets no more: the next one begins.
const LONGEST_SECONDS: i64 = 86_400;
/// Most findings that an incident holds; more are counted.
pub const FINDINGS: usize = 64;
/// Most incidents that are held in memory.
pub const INCIDENTS: usize = 2_000;
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

impl Taken {
    /// The incident that it is in.
    #[must_use]
    pub fn incident(self) -> Option<u64> {
        match self {
            Self::Begun(id) | Self::Joined(id) | Self::Counted(id) => Some(id),
            Self::Suppressed => None,
        }
    }

    /// Whether it added to the scores: what is only counted does not, since repeating is no second deed.
    #[must_use]
    pub fn is_scored(self) -> bool {
        matches!(self, Self::Begun(_) | Self::Joined(_))
    }
}

/// What came of a finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    /// Where it went.
    pub taken: Taken,
    /// Its severity, after what people said about such findings.
    pub severity: Severity,
    /// Whether it is the first of its rule in the incident.
    pub first_of_rule: bool,
    /// Whether the incident matters more than before.
    pub raised: bool,
}

/// The incidents, suppressions and scores. It can be kept as JSON and read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incidents {
    next: u64,
    #[serde(default)]
    revision: u64,
    incidents: BTreeMap<u64, Incident>,
    known: Known,
    #[serde(skip)]
    scoring: Scoring,
}

impl Default for Incidents {
    fn default() -> Self {
        Self {
            next: 1,
            revision: 0,
            incidents: BTreeMap::new(),
            known: Known::default(),
            scoring: Scoring::default(),
        }
    }
}

impl Incidents {
    /// Goes on from what was kept: everything but the incidents, and those that are still of interest.
    /// `last` is the highest number of an incident so far, `revision` that of a change.
    #[must_use]
    pub fn restored(last: u64, revision: u64, known: Known, incidents: Vec<Incident>) -> Self {
        let mut restored = Self {
            next: last.saturating_add(1),
            revision,
            known,
            ..Self::default()
        };
        for incident in incidents {
            restored.adopt(incident);
        }
        restored
    }

    /// Takes in an incident that was kept elsewhere.
    pub fn adopt(&mut self, incident: Incident) {
        self.make_room();
        self.next = self.next.max(incident.id.saturating_add(1));
        self.revision = self.revision.max(incident.revision);
        self.incidents.insert(incident.id, incident);
    }

    /// What there is to keep besides the incidents.
    #[must_use]
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Lets findings become scores in another way, from now on.
    pub fn set_scoring(&mut self, scoring: Scoring) {
        self.scoring = scoring;
    }

    /// Takes in a finding about what an agent did.
    pub fn take(&mut self, finding: Finding, now: Timestamp) -> Taken {
        self.receive(finding, Origin::Done, now).taken
    }

    /// Takes in a finding.
    pub fn receive(&mut self, mut finding: Finding, origin: Origin, now: Timestamp) -> Receipt {
        if self.known.suppresses(&finding, now) {
            return Receipt {
                taken: Taken::Suppressed,
                severity: finding.severity,
                first_of_rule: false,
                raised: false,
            };
        }
        let alarms = self.known.alarms(&finding);
        for _ in 0..(alarms / ALARMS_PER_STEP).min(STEPS) {
            finding.severity = finding.severity.lowered();
        }
        let severity = finding.severity;
        let subject = finding.subject.clone();
        let (taken, first_of_rule, raised) = match self.belongs_to(&finding, now) {
            Some(id) => match self.incidents.get_mut(&id) {
                Some(incident) => {
                    let before = incident.severity;
                    let first = !incident.rules.contains(&finding.rule);
                    let new = incident.add(finding, origin, now);
                    let taken = if new {
                        Taken::Joined(id)
                    } else {
                        Taken::Counted(id)
                    };
                    (taken, first, incident.severity > before)
                }
                None => (Taken::Suppressed, false, false),
            },
            None => {
                self.make_room();
                let id = self.next;
                self.next += 1;
                let incident = Incident::begin(id, finding, origin, now);
                self.incidents.insert(id, incident);
                (Taken::Begun(id), true, false)
            }
        };
        if (taken.is_scored() || raised)
            && let Some(id) = taken.incident()
        {
            self.revise(id);
        }
        if taken.is_scored() {
            let weight = Weight::of(&self.scoring, severity, origin);
            self.known
                .score(subject.agent, subject.task, weight, &self.scoring, now);
        }
        Receipt {
            taken,
            severity,
            first_of_rule,
            raised,
        }
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
        self.known.suppressed()
    }

    /// Closes an incident. False when there is none of that number.
    pub fn close(&mut self, id: u64, note: &str, now: Timestamp) -> bool {
        self.end(id, IncidentStatus::Closed, note, now)
    }

    /// Closes an incident that was nothing: what it added to the scores is taken back. Its kinds of
    /// findings about the same agent and server come in one step lower after two such alarms, and two
    /// steps after four. False when there is none.
    pub fn false_alarm(&mut self, id: u64, note: &str, now: Timestamp) -> bool {
        let Some(incident) = self.incidents.get(&id) else {
            return false;
        };
        if incident.status != IncidentStatus::FalseAlarm {
            // Once for each kind, however many things of a kind there were.
            let mut kinds = BTreeSet::new();
            for seen in &incident.findings {
                let key = alarm_key(&seen.finding);
                if kinds.insert(key.clone()) {
                    self.known.alarm(key);
                }
                let weight = Weight::of(&self.scoring, seen.finding.severity, seen.origin);
                self.known.take_back(
                    &seen.finding.subject,
                    weight,
                    &self.scoring,
                    seen.first,
                    now,
                );
            }
        }
        self.end(id, IncidentStatus::FalseAlarm, note, now)
    }

    /// What somebody says about one finding. A false alarm counts as in [`Self::false_alarm`], and what
    /// it added to the scores is taken back when it is `scored`; one that was right makes such findings
    /// count in full again.
    pub fn feedback(
        &mut self,
        finding: &Finding,
        scored: Option<(Origin, Timestamp)>,
        right: bool,
        now: Timestamp,
    ) {
        let key = alarm_key(finding);
        if right {
            self.known.no_alarm(&key);
            return;
        }
        self.known.alarm(key);
        if let Some((origin, seen)) = scored {
            let weight = Weight::of(&self.scoring, finding.severity, origin);
            self.known
                .take_back(&finding.subject, weight, &self.scoring, seen, now);
        }
    }

    /// Writes a note on an incident, below what stands there. False when there is none.
    pub fn note(&mut self, id: u64, note: &str) -> bool {
        let Some(incident) = self.incidents.get_mut(&id) else {
            return false;
        };
        incident.write(note);
        self.revise(id);
        true
    }

    fn end(&mut self, id: u64, status: IncidentStatus, note: &str, now: Timestamp) -> bool {
        let Some(incident) = self.incidents.get_mut(&id) else {
            return false;
        };
        incident.status = status;
        incident.ended = Some(now);
        incident.write(note);
        self.revise(id);
        true
    }

    /// Counts a change that is worth telling.
    fn revise(&mut self, id: u64) {
        self.revision = self.revision.saturating_add(1);
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.revision = self.revision;
        }
    }

    /// Whether something may be suppressed.
    ///
    /// # Errors
    /// [`SuppressionError`] as for [`Self::suppress`].
    pub fn may_suppress(&self, what: &Suppression, now: Timestamp) -> Result<(), SuppressionError> {
        self.known.may_suppress(what, now)
    }

    /// Suppresses findings for a time.
    ///
    /// # Errors
    /// [`SuppressionError`] when it has no end within 90 days, no reason, or there are too many.
    pub fn suppress(&mut self, what: Suppression, now: Timestamp) -> Result<(), SuppressionError> {
        self.known.suppress(what, now)
    }

    /// Ends the suppressions of exactly this rule, agent and server; how many there were.
    pub fn unsuppress(&mut self, what: &Suppression, now: Timestamp) -> usize {
        self.known.unsuppress(what, now)
    }

    /// The suppressions that are in force.
    pub fn suppressions(&self, now: Timestamp) -> impl Iterator<Item = &Suppression> {
        self.known.suppressions(now)
    }

    /// How bad an agent looks at a time: 0 to 100.
    #[must_use]
    pub fn risk(&self, agent: &AgentName, now: Timestamp) -> f64 {
        let risk = self.known.agent(agent);
        risk.map_or(0.0, |risk| risk.score(&self.scoring, now))
    }

    /// The same as decisions take it.
    #[must_use]
    pub fn agent_score(&self, agent: &AgentName, now: Timestamp) -> u8 {
        whole(self.risk(agent, now))
    }

    /// How bad a task looks, as decisions take it.
    #[must_use]
    pub fn task_score(&self, task: &TaskId) -> u8 {
        whole(
            self.known
                .task(task)
                .map_or(0.0, |risk| risk.score(&self.scoring)),
        )
    }

    /// The tasks of an agent that have a score.
    pub fn tasks_of(&self, agent: &AgentName) -> impl Iterator<Item = (TaskId, u8)> {
        let tasks = self.known.tasks();
        tasks
            .filter(move |(_, risk)| risk.agent.as_ref() == Some(agent))
            .map(|(id, risk)| (*id, whole(risk.score(&self.scoring))))
    }

    /// What an operator set for an agent, while it holds.
    #[must_use]
    pub fn floor(&self, agent: &AgentName, now: Timestamp) -> Option<&Floor> {
        self.known.agent(agent).and_then(|risk| risk.floor(now))
    }

    /// Sets the least score of an agent, until it is cleared.
    pub fn set_floor(&mut self, agent: AgentName, floor: Floor, now: Timestamp) {
        self.known.set_floor(agent, floor, now);
    }

    /// Forgets what an agent and its tasks did, and what an operator set for it. Their scores are 0 then.
    pub fn clear_risk(&mut self, agent: &AgentName) {
        self.known.clear(agent);
    }

    /// A task is over: its score is of no interest any more.
    pub fn forget_task(&mut self, task: &TaskId) {
        self.known.forget_task(task);
    }

    /// The scores of all agents that have one, as decisions take them. Those that have faded are
    /// forgotten after this.
    pub fn agent_scores(&mut self, now: Timestamp) -> Vec<(AgentName, u8)> {
        let scoring = &self.scoring;
        self.known
            .fade(scoring, now)
            .map(|(agent, risk)| (agent.clone(), whole(risk.score(scoring, now))))
            .collect()
    }

    /// The scores of all tasks that have one, as decisions take them.
    pub fn task_scores(&self) -> Vec<(TaskId, u8)> {
        let tasks = self.known.tasks();
        tasks
            .map(|(id, risk)| (*id, whole(risk.score(&self.scoring))))
            .collect()
    }
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
            assert!(
                incidents.false_alarm(id, "a test", at(round * 10_000))
                    && incidents.false_alarm(id, "again", at(round * 10_000))
            );
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
