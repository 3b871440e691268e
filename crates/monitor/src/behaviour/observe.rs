//! The stream of records.

use jiff::Timestamp;
use model::config::Monitor;
use model::record::{ActionResult, Change, Event, Record, Refusal};
use model::{AgentName, DecisionId, Rule, ServerName, TaskId};
use serde::{Deserialize, Serialize};

use super::baseline::{Baseline, Target};
use super::explain::Who;
use super::flows::{Labels, Read};
use super::keeping::Changed;
use super::pressure::Pressure;
use super::tasks::Watched;
use super::windows::{burst, close_window, close_window_before};
use crate::Capped;
use crate::finding::{Asi, Atlas, Finding, Severity};

/// Most baselines: agents times templates.
const BASELINES: usize = 10_000;
/// Most tasks that are watched at once.
const TASKS: usize = 50_000;
/// Most decisions whose results are awaited.
const AWAITED: usize = 100_000;
/// Most agents whose denials are counted, and endpoints whose refusals are.
const AGENTS: usize = 20_000;
/// Most targets that are watched for spreading.
const SPREADING: usize = 10_000;
/// Longest name of a target that is kept, in characters.
pub(super) const TARGET_CHARS: usize = 256;
/// The change of a record that says that an agent asks a person for leave.
const APPROVAL_REQUESTED: &str = "approval.requested";

/// What is too much without a baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What servers are.
    pub labels: Labels,
    /// Denials of one agent within ten minutes that are pressure.
    pub denials: f64,
    /// Requests for approval of one agent within ten minutes that are pressure.
    pub approvals: f64,
    /// Refused requests at one endpoint within ten minutes that are pressure.
    pub refusals: f64,
    /// Agents that begin with the same thing within ten minutes that are spreading.
    pub spreading: usize,
}

impl Settings {
    /// What the configuration says.
    #[must_use]
    pub fn of(config: &Monitor) -> Self {
        Self {
            labels: Labels(config.servers.clone()),
            denials: f64::from(config.denials),
            approvals: f64::from(config.approvals),
            refusals: f64::from(config.refusals),
            spreading: usize::try_from(config.spreading).unwrap_or(usize::MAX),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::of(&Monitor::default())
    }
}

/// What agents do, as far as it is known. It can be kept as JSON and read back, as a whole or in
/// pieces ([`Self::changed`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Behaviour {
    pub(super) settings: Settings,
    pub(super) baselines: Capped<(AgentName, String), Baseline>,
    pub(super) tasks: Capped<TaskId, Watched>,
    pub(super) awaited: Capped<DecisionId, (AgentName, TaskId, ServerName)>,
    pub(super) denials: Capped<AgentName, Pressure>,
    #[serde(default = "no_pressure")]
    pub(super) approvals: Capped<AgentName, Pressure>,
    pub(super) refusals: Capped<String, Pressure>,
    #[serde(default = "no_pressure")]
    pub(super) too_fast: Capped<AgentName, Pressure>,
    pub(super) spreading: Capped<Target, Vec<(AgentName, Timestamp)>>,
    #[serde(default = "no_reads")]
    pub(super) reads: Capped<AgentName, Read>,
    #[serde(skip)]
    pub(super) changed: Changed,
}

pub(super) fn no_pressure() -> Capped<AgentName, Pressure> {
    Capped::new(AGENTS)
}

fn no_reads() -> Capped<AgentName, Read> {
    Capped::new(AGENTS)
}

impl Behaviour {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            baselines: Capped::new(BASELINES),
            tasks: Capped::new(TASKS),
            awaited: Capped::new(AWAITED),
            denials: Capped::new(AGENTS),
            approvals: no_pressure(),
            refusals: Capped::new(AGENTS),
            too_fast: no_pressure(),
            spreading: Capped::new(SPREADING),
            reads: no_reads(),
            changed: Changed::default(),
        }
    }

    /// Takes other settings into use; what is known stays.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// What is usual for an agent and a template, if anything is known.
    #[must_use]
    pub fn baseline(&self, agent: &AgentName, template: &str) -> Option<&Baseline> {
        self.baselines.get(&(agent.clone(), template.to_owned()))
    }

    /// How many baselines there are, and how many of them know enough to say anything.
    #[must_use]
    pub fn baselines(&self) -> (usize, usize) {
        let warm = self.baselines.iter().filter(|(_, one)| one.is_warm());
        (self.baselines.len(), warm.count())
    }

    /// How many entries left for want of room: baselines, tasks, results that were awaited.
    #[must_use]
    pub fn evicted(&self) -> [u64; 3] {
        [
            self.baselines.evicted(),
            self.tasks.evicted(),
            self.awaited.evicted(),
        ]
    }

    /// Takes in a record and says what is odd. What detectors themselves have written is of no interest
    /// here: findings lead to no findings.
    pub fn observe(&mut self, record: &Record) -> Vec<Finding> {
        let mut findings = Vec::new();
        match &record.event {
            Event::Intent(intent) => self.intent(intent, record.time, &mut findings),
            Event::Result(result) => self.result(result, record.time, &mut findings),
            Event::Refusal(refusal) => self.refused(refusal, record.time, &mut findings),
            Event::Change(change) => self.change(change, record.time, &mut findings),
            Event::Finding(_) | Event::Incident(_) => {}
        }
        findings
    }

    fn change(&mut self, change: &Change, time: Timestamp, findings: &mut Vec<Finding>) {
        let detail = |name: &str| change.details.get(name).and_then(|value| value.as_str());
        if change.change == APPROVAL_REQUESTED {
            let agent = detail("agent").and_then(|name| AgentName::parse(name).ok());
            if let Some(agent) = agent {
                self.approval(&agent, detail("task"), time, findings);
            }
            return;
        }
        let Ok(task) = TaskId::parse(&change.subject) else {
            return;
        };
        match change.change.as_str() {
            "task.opened" => {
                let agent = detail("agent").and_then(|name| AgentName::parse(name).ok());
                let (Some(agent), Some(template)) = (agent, detail("template")) else {
                    return;
                };
                let template: String = template.chars().take(TARGET_CHARS).collect();
                self.changed.baseline(&agent, &template);
                self.changed.task(task);
                self.baselines
                    .at((agent.clone(), template.clone()), Baseline::default)
                    .tasks += 1;
                self.tasks.at(task, || Watched::new(agent, template));
            }
            "task.completed" | "task.expired" | "task.revoked" => {
                let Some(watched) = self.tasks.remove(&task) else {
                    return;
                };
                self.changed.task(task);
                self.changed.baseline(&watched.agent, &watched.template);
                let key = (watched.agent.clone(), watched.template.clone());
                let Some(baseline) = self.baselines.get_mut(&key) else {
                    return;
                };
                close_window(baseline, &watched.agent, &watched.template, time, findings);
                if let Some((growing, of, added)) = baseline.task_ended(watched.added) {
                    let who = Who {
                        agent: &watched.agent,
                        task: Some(task),
                        server: None,
                        target: "",
                    };
                    findings.push(who.finding(
                        "scope-creep",
                        Severity::Medium,
                        (Asi::Asi10, Atlas::DISCOVERY),
                        format!(
                            "{growing} of the last {of} tasks of agent {} touched something that none before \
                             had touched, {added} things in all: what it does keeps growing",
                            watched.agent
                        ),
                    ));
                }
            }
            _ => {}
        }
    }

    /// An agent asks people for leave again and again: one of them will be tired.
    fn approval(
        &mut self,
        agent: &AgentName,
        task: Option<&str>,
        time: Timestamp,
        findings: &mut Vec<Finding>,
    ) {
        self.changed.rest = true;
        let pressure = self.approvals.at(agent.clone(), || Pressure::new(time));
        pressure.add(true, time);
        if pressure.is_over(self.settings.approvals, 0.0) {
            let who = Who {
                agent,
                task: task.and_then(|id| TaskId::parse(id).ok()),
                server: None,
                target: "",
            };
            findings.push(who.finding(
                "approval-pressure",
                Severity::Medium,
                (Asi::Asi09, Atlas::TOOL_INVOCATION),
                format!(
                    "Agent {agent} asked for approval about {:.0} times within minutes: whoever is asked \
                     so often stops to read",
                    pressure.count
                ),
            ));
        }
    }

    /// A request that was refused, or as many as its record says.
    fn refused(&mut self, refusal: &Refusal, time: Timestamp, findings: &mut Vec<Finding>) {
        self.changed.rest = true;
        match (&refusal.agent, refusal.denial.rule) {
            (Some(agent), Rule::RateLimited) => {
                self.too_fast(agent, refusal, time, findings);
            }
            // The first request of a client that is who it says: the next one has what it lacks.
            (_, Rule::NonceNeeded) => {}
            _ => self.refusal(&refusal.endpoint, refusal.times, time, findings),
        }
    }

    /// An agent calls faster than it may, again and again: something in it does not stop.
    fn too_fast(
        &mut self,
        agent: &AgentName,
        refusal: &Refusal,
        time: Timestamp,
        findings: &mut Vec<Finding>,
    ) {
        let pressure = self.too_fast.at(agent.clone(), || Pressure::new(time));
        pressure.add_many(refusal.times, time);
        if pressure.is_over(self.settings.refusals, 0.0) {
            let who = Who {
                agent,
                task: refusal.task,
                server: None,
                target: &refusal.endpoint,
            };
            findings.push(who.finding(
                "rate-pressure",
                Severity::Medium,
                (Asi::Asi08, Atlas::DENIAL_OF_SERVICE),
                format!(
                    "About {:.0} calls of agent {agent} were refused within minutes because they came faster \
                     than they may: it does not slow down",
                    pressure.count
                ),
            ));
        }
    }

    fn refusal(
        &mut self,
        endpoint: &str,
        times: u64,
        time: Timestamp,
        findings: &mut Vec<Finding>,
    ) {
        let endpoint: String = endpoint.chars().take(TARGET_CHARS).collect();
        let pressure = self.refusals.at(endpoint.clone(), || Pressure::new(time));
        pressure.add_many(times, time);
        if pressure.is_over(self.settings.refusals, 0.0) {
            findings.push(Finding {
                rule: "refusal-pressure".to_owned(),
                severity: Severity::Medium,
                asi: Some(Asi::Asi03),
                atlas: Atlas::known(Atlas::VALID_ACCOUNTS),
                subject: crate::Subject {
                    target: Some(crate::text::escaped(&endpoint, 128)),
                    ..crate::Subject::default()
                },
                evidence: None,
                explanation: format!(
                    "About {:.0} requests were refused at {} within minutes: somebody without valid \
                     credentials is trying",
                    pressure.count,
                    crate::text::escaped(&endpoint, 80)
                ),
            });
        }
    }

    fn result(&mut self, result: &ActionResult, time: Timestamp, findings: &mut Vec<Finding>) {
        let Some((agent, task, server)) = self.awaited.remove(&result.decision) else {
            return;
        };
        let template = self
            .tasks
            .get(&task)
            .map(|watched| watched.template.clone());
        let template = template.unwrap_or_default();
        let Some(baseline) = self.baselines.get_mut(&(agent.clone(), template.clone())) else {
            return;
        };
        self.changed.baseline(&agent, &template);
        close_window_before(baseline, &agent, &template, time, findings);
        let bytes = result.bytes.max(result.spent.bytes) as f64;
        baseline.window.2 += bytes;
        // A burst is told while it goes on, once for each window.
        let (number, _, sum) = baseline.window;
        if let Some(times) = baseline.bytes.burst(sum)
            && baseline.is_warm()
            && baseline.burst_told != number
        {
            baseline.burst_told = number;
            let who = Who {
                agent: &agent,
                task: Some(task),
                server: Some(&server),
                target: "",
            };
            findings.push(burst(who, times, "volume", &template));
        }
    }
}
