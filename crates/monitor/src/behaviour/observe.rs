//! The stream of records.

use std::collections::BTreeSet;

use jiff::Timestamp;
use model::record::{ActionResult, Change, Event, Intent, Record};
use model::{AgentName, DecisionId, ServerName, TaskId};
use serde::{Deserialize, Serialize};

use super::baseline::{Baseline, Target};
use super::explain::Who;
use super::flows::Labels;
use super::shape::{digest, shape};
use super::tasks::Watched;
use super::volume::{self, Odd};
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
/// The length of a window for volumes, in seconds.
pub(super) const WINDOW: i64 = 300;
/// Longest name of a target that is kept, in characters.
const TARGET_CHARS: usize = 256;

/// What is too much without a baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What servers are.
    pub labels: Labels,
    /// Denials of one agent within ten minutes that are pressure.
    pub denials: f64,
    /// Refused requests at one endpoint within ten minutes that are pressure.
    pub refusals: f64,
    /// Agents that begin with the same thing within ten minutes that are spreading.
    pub spreading: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            labels: Labels::default(),
            denials: 8.0,
            refusals: 60.0,
            spreading: 4,
        }
    }
}

/// How long denials, refusals and beginnings are remembered, in seconds.
const PRESSURE: f64 = 600.0;

/// What agents do, as far as it is known. It can be kept as JSON and read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Behaviour {
    settings: Settings,
    baselines: Capped<(AgentName, String), Baseline>,
    tasks: Capped<TaskId, Watched>,
    awaited: Capped<DecisionId, (AgentName, TaskId, ServerName)>,
    denials: Capped<AgentName, Pressure>,
    refusals: Capped<String, Pressure>,
    spreading: Capped<Target, Vec<(AgentName, Timestamp)>>,
}

/// A count that decays: by half in ten minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pressure {
    count: f64,
    all: f64,
    at: Timestamp,
    told: bool,
}

impl Pressure {
    fn new(at: Timestamp) -> Self {
        Self {
            count: 0.0,
            all: 0.0,
            at,
            told: false,
        }
    }

    fn add(&mut self, counts: bool, at: Timestamp) {
        let seconds = seconds_between(self.at, at);
        let left = 0.5f64.powf(seconds / PRESSURE);
        self.count = self.count * left + f64::from(u8::from(counts));
        self.all = self.all * left + 1.0;
        self.at = self.at.max(at);
    }

    /// Whether it is more than may be, and was not told yet. Told again when it had gone down.
    fn is_over(&mut self, most: f64, least_share: f64) -> bool {
        if self.count < most / 2.0 {
            self.told = false;
        }
        let over = self.count >= most && self.count >= self.all * least_share && !self.told;
        self.told |= over;
        over
    }
}

fn seconds_between(before: Timestamp, after: Timestamp) -> f64 {
    let seconds = after.as_second().saturating_sub(before.as_second());
    seconds.max(0) as f64
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
            refusals: Capped::new(AGENTS),
            spreading: Capped::new(SPREADING),
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

    /// How many entries left for want of room: baselines, tasks, results that were awaited.
    #[must_use]
    pub fn evicted(&self) -> [u64; 3] {
        [
            self.baselines.evicted(),
            self.tasks.evicted(),
            self.awaited.evicted(),
        ]
    }

    /// Takes in a record and says what is odd.
    pub fn observe(&mut self, record: &Record) -> Vec<Finding> {
        let mut findings = Vec::new();
        match &record.event {
            Event::Intent(intent) => self.intent(intent, record.time, &mut findings),
            Event::Result(result) => self.result(result, record.time, &mut findings),
            Event::Refusal(refusal) => self.refusal(&refusal.endpoint, record.time, &mut findings),
            Event::Change(change) => self.change(change, record.time, &mut findings),
        }
        findings
    }

    fn change(&mut self, change: &Change, time: Timestamp, findings: &mut Vec<Finding>) {
        let Ok(task) = TaskId::parse(&change.subject) else {
            return;
        };
        let detail = |name: &str| change.details.get(name).and_then(|value| value.as_str());
        match change.change.as_str() {
            "task.opened" => {
                let agent = detail("agent").and_then(|name| AgentName::parse(name).ok());
                let (Some(agent), Some(template)) = (agent, detail("template")) else {
                    return;
                };
                let template: String = template.chars().take(TARGET_CHARS).collect();
                self.baselines
                    .at((agent.clone(), template.clone()), Baseline::default)
                    .tasks += 1;
                self.tasks.at(task, || Watched::new(agent, template));
            }
            "task.completed" | "task.expired" | "task.revoked" => {
                let Some(watched) = self.tasks.remove(&task) else {
                    return;
                };
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

    fn intent(&mut self, intent: &Intent, time: Timestamp, findings: &mut Vec<Finding>) {
        let target: String = intent.target.chars().take(TARGET_CHARS).collect();
        let who = Who {
            agent: &intent.agent,
            task: Some(intent.task),
            server: Some(&intent.server),
            target: &target,
        };
        self.denied(intent, who, time, findings);
        if !intent.permitted {
            return;
        }
        let decided = (intent.agent.clone(), intent.task, intent.server.clone());
        self.awaited.at(intent.decision, || decided);
        if target.is_empty() {
            // Handshakes and listings touch nothing.
            return;
        }
        let key = (intent.server.clone(), target.clone());
        let number = digest(&format!("{}\n{target}", intent.server)) | 1;
        let agent = &intent.agent;
        let watched = self
            .tasks
            .at(intent.task, || Watched::new(agent.clone(), String::new()));
        let template = watched.template.clone();
        let baseline = self
            .baselines
            .at((agent.clone(), template.clone()), Baseline::default);
        close_window_before(baseline, agent, &template, time, findings);
        baseline.window.1 += 1.0;
        let actions = baseline.actions;
        let shape = intent.arguments.as_ref().map(shape);
        let (new, added) = baseline.learn(&key, number, watched.last, shape, time);
        watched.added += u32::from(added);
        watched.last = Some(number);
        for one in &new {
            let finding = who.new_thing(one, &template, actions);
            if watched.tell(&format!("{} {target}", finding.rule)) {
                findings.push(finding);
            }
        }
        let said = intent.arguments_hash.as_deref().unwrap_or_default();
        let step = digest(&format!("{number} {said}"));
        if let Some((length, rounds)) = watched.step(step)
            && !said.is_empty()
            && watched.tell("loop")
        {
            findings.push(who.finding(
                "loop",
                Severity::Medium,
                (Asi::Asi08, Atlas::DENIAL_OF_SERVICE),
                match length {
                    1 => format!(
                        "Agent {agent} made the same call of `{target}` {rounds} times in a row"
                    ),
                    _ => format!(
                        "Agent {agent} repeats the same {length} calls, {rounds} times so far"
                    ),
                },
            ));
        }
        flow(&self.settings.labels, watched, who, time, findings);
        self.spread(key, intent, who, time, added, findings);
    }

    /// Denials of one agent, as a share of what it tries.
    fn denied(
        &mut self,
        intent: &Intent,
        who: Who<'_>,
        time: Timestamp,
        findings: &mut Vec<Finding>,
    ) {
        let pressure = self
            .denials
            .at(intent.agent.clone(), || Pressure::new(time));
        pressure.add(!intent.permitted, time);
        if pressure.is_over(self.settings.denials, 0.2) {
            findings.push(who.finding(
                "denial-pressure",
                Severity::Medium,
                (Asi::Asi03, Atlas::DISCOVERY),
                format!(
                    "Agent {} was denied about {:.0} of its last {:.0} actions: it tries what it may not do",
                    intent.agent, pressure.count, pressure.all
                ),
            ));
        }
    }

    fn refusal(&mut self, endpoint: &str, time: Timestamp, findings: &mut Vec<Finding>) {
        let endpoint: String = endpoint.chars().take(TARGET_CHARS).collect();
        let pressure = self.refusals.at(endpoint.clone(), || Pressure::new(time));
        pressure.add(true, time);
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

    /// The same new thing at several agents within minutes: something goes from one to the next.
    fn spread(
        &mut self,
        target: Target,
        intent: &Intent,
        who: Who<'_>,
        time: Timestamp,
        new: bool,
        findings: &mut Vec<Finding>,
    ) {
        if !new {
            return;
        }
        let most = self.settings.spreading.max(2);
        let begun = self.spreading.at(target, Vec::new);
        begun.retain(|(_, at)| seconds_between(*at, time) <= PRESSURE);
        if begun.iter().any(|(agent, _)| *agent == intent.agent) {
            return;
        }
        begun.push((intent.agent.clone(), time));
        if begun.len() < most {
            return;
        }
        let agents: BTreeSet<String> = begun
            .drain(..)
            .map(|(agent, _)| agent.to_string())
            .collect();
        let names: Vec<&str> = agents.iter().map(String::as_str).take(8).collect();
        findings.push(who.finding(
            "fan-out",
            Severity::High,
            (Asi::Asi08, Atlas::TOOL_INVOCATION),
            format!(
                "{} agents began to use `{}` of {} within ten minutes, none of which had before: {}",
                agents.len(),
                crate::text::escaped(who.target, 80),
                intent.server,
                names.join(", ")
            ),
        ));
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

/// What was read where it must not leave goes where it has left.
fn flow(
    labels: &Labels,
    watched: &mut Watched,
    who: Who<'_>,
    time: Timestamp,
    findings: &mut Vec<Finding>,
) {
    let Some(server) = who.server else { return };
    let label = labels.of(server);
    if label.external
        && let Some((from, what, at)) = watched.read.clone()
        && from != *server
        && watched.tell(&format!("flow {from} {server}"))
    {
        findings.push(who.finding(
            "sensitive-data-leaves",
            Severity::High,
            (Asi::Asi02, Atlas::EXFILTRATION),
            format!(
                "Agent {} read `{}` of {from}, which is sensitive, and {:.0} seconds later in the same task \
                 called `{}` of {server}, which is external",
                who.agent,
                crate::text::escaped(&what, 80),
                seconds_between(at, time),
                crate::text::escaped(who.target, 80)
            ),
        ));
    }
    if label.sensitive {
        watched.read = Some((server.clone(), who.target.to_owned(), time));
    }
}

fn burst(who: Who<'_>, times: f64, what: &str, template: &str) -> Finding {
    let work = if template.is_empty() {
        String::new()
    } else {
        format!(" for `{}`", crate::text::escaped(template, 60))
    };
    who.finding(
        if what == "volume" {
            "volume-burst"
        } else {
            "rate-burst"
        },
        if times >= 10.0 {
            Severity::High
        } else {
            Severity::Medium
        },
        (Asi::Asi10, Atlas::EXFILTRATION),
        format!(
            "Agent {} has {times:.0} times its usual {what}{work} within five minutes",
            who.agent
        ),
    )
}

/// Closes the window if the time is in a later one.
fn close_window_before(
    baseline: &mut Baseline,
    agent: &AgentName,
    template: &str,
    time: Timestamp,
    findings: &mut Vec<Finding>,
) {
    if time.as_second().div_euclid(WINDOW) > baseline.window.0 {
        close_window(baseline, agent, template, time, findings);
    }
}

/// Takes what was counted into the averages. Windows without anything do not count: an agent that rests
/// does not become one that usually does nothing.
fn close_window(
    baseline: &mut Baseline,
    agent: &AgentName,
    template: &str,
    time: Timestamp,
    findings: &mut Vec<Finding>,
) {
    let (number, calls, bytes) = baseline.window;
    baseline.window = (time.as_second().div_euclid(WINDOW), 0.0, 0.0);
    if calls == 0.0 && bytes == 0.0 {
        return;
    }
    let second = number.saturating_mul(WINDOW);
    let odd = [
        ("rate", baseline.calls.add(calls, second)),
        ("volume", baseline.bytes.add(bytes, second)),
    ];
    if !baseline.is_warm() {
        return;
    }
    let who = Who {
        agent,
        task: None,
        server: None,
        target: "",
    };
    for (what, odd) in odd {
        match odd {
            Some(Odd::Burst(_)) if what == "volume" && baseline.burst_told == number => {}
            Some(Odd::Burst(times)) => findings.push(burst(who, times, what, template)),
            Some(Odd::Drift(times)) => findings.push(who.finding(
                "volume-drift",
                Severity::Medium,
                (Asi::Asi10, Atlas::EXFILTRATION),
                format!(
                    "What is usual for agent {agent} has grown to {times:.1} times its {what} within a week; \
                     a limit of {:.1} times a day holds it",
                    volume::GROWTH_PER_DAY
                ),
            )),
            None => {}
        }
    }
}
