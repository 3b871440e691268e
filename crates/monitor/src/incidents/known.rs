//! What is known besides the incidents: what is suppressed, what was a false alarm, and scores.

use jiff::Timestamp;
use model::config::Scoring;
use model::{AgentName, ServerName, TaskId};
use serde::{Deserialize, Serialize};

use super::risk::{Floor, Risk, TaskRisk, Weight};
use super::suppression::{Suppression, SuppressionError};
use crate::Capped;
use crate::finding::{Finding, Subject};

/// Most suppressions at once.
const SUPPRESSIONS: usize = 1_000;
/// Most agents with a score.
const AGENTS: usize = 20_000;
/// Most tasks with a score.
const TASKS: usize = 50_000;
/// Most rules, agents and servers with false alarms.
const FALSE_ALARMS: usize = 10_000;

/// What people call the same kind of finding: a rule, an agent and a server.
pub(super) type AlarmKey = (String, Option<AgentName>, Option<ServerName>);

/// The kind of a finding.
pub(super) fn alarm_key(finding: &Finding) -> AlarmKey {
    let subject = &finding.subject;
    (
        finding.rule.clone(),
        subject.agent.clone(),
        subject.server.clone(),
    )
}

/// What is known besides the incidents. It can be kept as JSON and read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Known {
    suppressions: Vec<Suppression>,
    suppressed: u64,
    agents: Capped<AgentName, Risk>,
    tasks: Capped<TaskId, TaskRisk>,
    alarms: Capped<AlarmKey, u32>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            suppressions: Vec::new(),
            suppressed: 0,
            agents: Capped::new(AGENTS),
            tasks: Capped::new(TASKS),
            alarms: Capped::new(FALSE_ALARMS),
        }
    }
}

impl Known {
    /// Whether a finding is not to come in; it is counted then.
    pub(super) fn suppresses(&mut self, finding: &Finding, now: Timestamp) -> bool {
        let suppressed = self.suppressions.iter().any(|one| one.covers(finding, now));
        self.suppressed = self.suppressed.saturating_add(u64::from(suppressed));
        suppressed
    }

    pub(super) fn suppressed(&self) -> u64 {
        self.suppressed
    }

    pub(super) fn may_suppress(
        &self,
        what: &Suppression,
        now: Timestamp,
    ) -> Result<(), SuppressionError> {
        what.check(now)?;
        if self.suppressions(now).count() >= SUPPRESSIONS {
            return Err(SuppressionError::TooMany { most: SUPPRESSIONS });
        }
        Ok(())
    }

    pub(super) fn suppress(
        &mut self,
        what: Suppression,
        now: Timestamp,
    ) -> Result<(), SuppressionError> {
        self.may_suppress(&what, now)?;
        self.suppressions.retain(|one| now < one.until);
        self.suppressions.push(what);
        Ok(())
    }

    pub(super) fn unsuppress(&mut self, what: &Suppression, now: Timestamp) -> usize {
        let same = |one: &Suppression| {
            one.rule == what.rule && one.agent == what.agent && one.server == what.server
        };
        let in_force = |one: &&Suppression| now < one.until && same(one);
        let count = self.suppressions.iter().filter(in_force).count();
        self.suppressions.retain(|one| !same(one));
        count
    }

    pub(super) fn suppressions(&self, now: Timestamp) -> impl Iterator<Item = &Suppression> {
        self.suppressions.iter().filter(move |one| now < one.until)
    }

    /// How often people called such a finding a false alarm.
    pub(super) fn alarms(&self, finding: &Finding) -> u32 {
        self.alarms.get(&alarm_key(finding)).copied().unwrap_or(0)
    }

    pub(super) fn alarm(&mut self, key: AlarmKey) {
        let count = self.alarms.at(key, || 0);
        *count = count.saturating_add(1);
    }

    pub(super) fn no_alarm(&mut self, key: &AlarmKey) {
        self.alarms.remove(key);
    }

    /// Adds what a finding weighs.
    pub(super) fn score(
        &mut self,
        agent: Option<AgentName>,
        task: Option<TaskId>,
        weight: Weight,
        scoring: &Scoring,
        now: Timestamp,
    ) {
        if weight.is_nothing() {
            return;
        }
        if let Some(task) = task {
            let whose = agent.clone();
            self.tasks
                .at(task, || TaskRisk::of(whose))
                .add(weight, scoring);
        }
        if let Some(agent) = agent {
            self.agents
                .at(agent, || Risk::new(now))
                .add(weight, scoring, now);
        }
    }

    /// Takes back what a finding weighed that was nothing, as far as it has not faded.
    pub(super) fn take_back(
        &mut self,
        subject: &Subject,
        weight: Weight,
        scoring: &Scoring,
        seen: Timestamp,
        now: Timestamp,
    ) {
        if let Some(task) = subject.task.as_ref().and_then(|id| self.tasks.get_mut(id)) {
            task.take_back(weight, scoring);
        }
        if let Some(risk) = subject
            .agent
            .as_ref()
            .and_then(|agent| self.agents.get_mut(agent))
        {
            risk.take_back(weight, scoring, seen, now);
        }
    }

    pub(super) fn agent(&self, agent: &AgentName) -> Option<&Risk> {
        self.agents.get(agent)
    }

    pub(super) fn task(&self, task: &TaskId) -> Option<&TaskRisk> {
        self.tasks.get(task)
    }

    pub(super) fn tasks(&self) -> impl Iterator<Item = (&TaskId, &TaskRisk)> {
        self.tasks.iter()
    }

    pub(super) fn set_floor(&mut self, agent: AgentName, floor: Floor, now: Timestamp) {
        self.agents
            .at(agent, || Risk::new(now))
            .set_floor(Some(floor));
    }

    pub(super) fn clear(&mut self, agent: &AgentName) {
        self.agents.remove(agent);
        self.tasks
            .retain(|_, risk| risk.agent.as_ref() != Some(agent));
    }

    pub(super) fn forget_task(&mut self, task: &TaskId) {
        self.tasks.remove(task);
    }

    /// Forgets agents whose score has faded; the others.
    pub(super) fn fade(
        &mut self,
        scoring: &Scoring,
        now: Timestamp,
    ) -> impl Iterator<Item = (&AgentName, &Risk)> {
        self.agents.retain(|_, risk| !risk.is_over(scoring, now));
        self.agents.iter()
    }
}
