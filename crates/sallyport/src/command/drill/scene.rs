//! One drill under way: what is tried, what came through, and what was seen of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use jiff::Timestamp;
use model::config::ServerKind;
use serde_json::{Map, Value};

use super::agent::{Agent, Answer};
use super::attacks::Drill;
use super::cast::{self, Part};
use super::errand::Call;
use super::report::{Attempt, Missed, Outcome, Verdict};
use super::stand_in::{Came, StandIn};
use super::twin::Twin;
use crate::failure::Failure;
use crate::setup::Setup;

/// How long a finding may take until it counts as missed.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// How long what follows from a finding may take: an incident, a score, a playbook.
const SETTLE: Duration = Duration::from_millis(300);
/// Most findings that are looked at.
const FINDINGS: &str = "500";

/// Why a drill could not go on.
pub(super) enum Stop {
    /// The ordinary work was refused: the rule, and the reason.
    Refused(String, String),
    /// It is broken.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A drill under way.
pub(super) struct Scene<'a> {
    /// The twin that it is rehearsed at.
    pub(super) twin: &'a Twin,
    /// The servers behind it.
    pub(super) stand_in: &'a StandIn,
    /// The configuration that the twin is in the likeness of.
    pub(super) setup: &'a Setup,
    /// The work that the agent does, and as whom.
    pub(super) part: &'a Part,
    /// The agent.
    pub(super) agent: Agent,
    begun: Option<(Instant, Timestamp)>,
    /// How many calls had reached the stand-in when the attack began.
    before: usize,
    held_after: Option<f64>,
    attempts: Vec<Attempt>,
    controls: Vec<String>,
    through: Vec<Missed>,
}

impl<'a> Scene<'a> {
    /// Enrols the agent, and opens its task.
    ///
    /// # Errors
    /// [`Failure`] when the twin does not let it.
    pub(super) async fn set(
        twin: &'a Twin,
        stand_in: &'a StandIn,
        setup: &'a Setup,
        part: &'a Part,
    ) -> Result<Self, Failure> {
        let instance = twin.enrol(&part.role).await?;
        let task = cast::open(twin, &part.errand, &part.role).await?;
        for call in part
            .calls
            .iter()
            .filter(|call| call.kind == ServerKind::Mcp)
        {
            stand_in.has(&call.server, &call.name);
        }
        Ok(Self {
            twin,
            stand_in,
            setup,
            part,
            agent: Agent::new(&instance, &twin.gateway, task)?,
            begun: None,
            before: 0,
            held_after: None,
            attempts: Vec::new(),
            controls: Vec::new(),
            through: Vec::new(),
        })
    }

    /// Does each part of the template's usual work once, in a task of its own, so that limits are whole when
    /// the attack begins; it must be possible, or an attack that is refused says nothing.
    ///
    /// # Errors
    /// [`Stop::Refused`] when it is not.
    pub(super) async fn usual_work(&mut self) -> Result<(), Stop> {
        let part = self.part;
        cast::meet(
            self.twin,
            self.stand_in,
            self.setup,
            &mut self.agent,
            &part.calls,
        )
        .await?;
        for call in &part.calls {
            self.ordinary(call).await?;
        }
        let next = cast::open(self.twin, &part.errand, &part.role).await?;
        self.agent.turn_to(next);
        Ok(())
    }

    /// A call that any agent of such a task makes.
    ///
    /// # Errors
    /// [`Stop::Refused`] when it is not possible.
    pub(super) async fn ordinary(&mut self, call: &Call) -> Result<(), Stop> {
        match self.agent.make(call, &call.arguments).await? {
            Answer::Passed(_) => Ok(()),
            Answer::Refused(rule, reason) => Err(Stop::Refused(rule, reason)),
        }
    }

    /// Says that the attack begins with the next attempt.
    pub(super) fn begin(&mut self) {
        self.begun = Some((Instant::now(), Timestamp::now()));
        self.before = self.stand_in.count();
    }

    /// What reached the stand-in since the attack began, with the server that it was for.
    pub(super) fn came_through(&self) -> Vec<(String, Came)> {
        self.stand_in.since(self.before)
    }

    /// The agent makes a call for the attacker.
    ///
    /// # Errors
    /// [`Stop::Failed`] when there is no answer at all.
    pub(super) async fn attack(
        &mut self,
        what: &str,
        call: &Call,
        arguments: &Map<String, Value>,
    ) -> Result<Answer, Stop> {
        let sent = Instant::now();
        let answer = self.agent.make(call, arguments).await?;
        self.came(what, &answer, sent);
        Ok(answer)
    }

    /// Somebody sends a request as it is.
    ///
    /// # Errors
    /// [`Stop::Failed`] when there is no answer at all.
    pub(super) async fn send(
        &mut self,
        what: &str,
        request: Request<Bytes>,
    ) -> Result<Answer, Stop> {
        let sent = Instant::now();
        let answer = self.agent.send(request).await?;
        self.came(what, &answer, sent);
        Ok(answer)
    }

    /// Something held the attack up.
    pub(super) fn held(&mut self, control: &str) {
        if let (None, Some((begun, _))) = (self.held_after, self.begun) {
            self.held_after = Some(millis(begun));
        }
        if !self.controls.iter().any(|known| known == control) {
            self.controls.push(control.to_owned());
        }
    }

    /// Something got through, and what would have to be changed.
    pub(super) fn through(&mut self, what: impl Into<String>, change: impl Into<String>) {
        let missed = Missed {
            what: what.into(),
            change: Some(change.into()),
        };
        if !self.through.contains(&missed) {
            self.through.push(missed);
        }
    }

    fn came(&mut self, what: &str, answer: &Answer, sent: Instant) {
        let (refused_by, reason) = match answer {
            Answer::Passed(_) => (None, String::new()),
            Answer::Refused(rule, reason) => {
                self.held(rule);
                (Some(rule.clone()), reason.clone())
            }
        };
        // The same again and again is told once.
        let known = |known: &Attempt| known.what == what && known.refused_by == refused_by;
        if self.attempts.iter().any(known) {
            return;
        }
        self.attempts.push(Attempt {
            what: what.to_owned(),
            refused_by,
            reason,
            ms: millis(sent),
        });
    }

    /// Waits for findings, and says what came of it.
    ///
    /// # Errors
    /// [`Failure`] when the twin does not say what it saw.
    pub(super) async fn outcome(mut self, drill: &Drill) -> Result<Outcome, Failure> {
        let begun = self.begun;
        let mut seen = self.seen(drill).await?;
        let waiting = Instant::now();
        while seen.is_empty() && waiting.elapsed() < PATIENCE {
            tokio::time::sleep(LOOK).await;
            seen = self.seen(drill).await?;
        }
        tokio::time::sleep(SETTLE).await;
        let mut missed = std::mem::take(&mut self.through);
        let verdict = if missed.is_empty() {
            Verdict::Contained
        } else {
            Verdict::NotContained
        };
        if seen.is_empty() {
            missed.push(Missed {
                what: format!(
                    "no detector saw it; expected: {}",
                    drill.expected.join(", ")
                ),
                change: None,
            });
        }
        let first = seen.iter().filter_map(|(_, at)| *at).min();
        let detected_ms = begun.zip(first).map(|((_, begun), first)| {
            // The finding may be of the very millisecond in which the attack began.
            first.duration_since(begun).as_secs_f64().max(0.0) * 1000.0
        });
        let mut detected_by: Vec<String> = Vec::new();
        for (rule, _) in &seen {
            if !detected_by.contains(rule) {
                detected_by.push(rule.clone());
            }
        }
        let incidents = self.list(&["incidents", "list", "--json"]).await?;
        let runs = self.list(&["playbook", "runs", "--json"]).await?;
        let risk = self
            .twin
            .run(&["agent", "risk", &self.part.role.name, "--json"], &[])
            .await?;
        Ok(Outcome {
            drill: drill.name,
            template: self.part.errand.template.name.to_string(),
            agent: self.part.role.shown(),
            verdict,
            contained_ms: self.held_after,
            contained_by: self.controls,
            detected: !seen.is_empty(),
            detected_ms,
            detected_by,
            incidents: incidents
                .iter()
                .filter_map(|incident| incident["id"].as_u64())
                .collect(),
            playbooks: runs.iter().map(run).collect(),
            risk: risk["score"].as_u64(),
            missed,
            attempts: self.attempts,
        })
    }

    /// The findings that this attack should lead to, the first first.
    async fn seen(&self, drill: &Drill) -> Result<Vec<(String, Option<Timestamp>)>, Failure> {
        let all = self
            .list(&["findings", "list", "--limit", FINDINGS, "--json"])
            .await?;
        let expected = |rule: &str| {
            drill.expected.iter().any(|wanted| {
                wanted
                    .strip_suffix('*')
                    .map_or(rule == *wanted, |beginning| rule.starts_with(beginning))
            })
        };
        Ok(all
            .iter()
            .rev()
            .filter_map(|finding| {
                let rule = finding["rule"].as_str()?;
                let at = finding["at"].as_str().and_then(|at| at.parse().ok());
                expected(rule).then(|| (rule.to_owned(), at))
            })
            .collect())
    }

    async fn list(&self, arguments: &[&str]) -> Result<Vec<Value>, Failure> {
        match self.twin.run(arguments, &[]).await? {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }
}

/// A playbook and how far it came.
fn run(run: &Value) -> String {
    let text = |name: &str| run[name].as_str().unwrap_or("unknown");
    format!("{} ({})", text("playbook"), text("state"))
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
