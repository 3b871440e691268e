//! What is decided: the actions themselves.

use std::collections::BTreeSet;

use jiff::Timestamp;
use model::Rule;
use model::record::Intent;

use super::baseline::{Baseline, Target};
use super::explain::Who;
use super::observe::{Behaviour, TARGET_CHARS};
use super::pressure::{MEMORY, Pressure, seconds_between};
use super::shape::{digest, shape};
use super::tasks::Watched;
use super::windows::close_window_before;
use crate::finding::{Asi, Atlas, Finding, Severity};

impl Behaviour {
    pub(super) fn intent(&mut self, intent: &Intent, time: Timestamp, findings: &mut Vec<Finding>) {
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
        let source = self.source(intent);
        let key = (intent.server.clone(), target.clone());
        let number = digest(&format!("{}\n{target}", intent.server)) | 1;
        let agent = &intent.agent;
        let watched = self
            .tasks
            .at(intent.task, || Watched::new(agent.clone(), String::new()));
        let template = watched.template.clone();
        self.changed.task(intent.task);
        self.changed.baseline(agent, &template);
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
            && watched.tell_bad("loop")
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
        self.flow(intent, source, who, time, findings);
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
        // What waits for a person is asked again and again, and has a pressure of its own.
        let denial = intent.denial.as_ref();
        let counts = denial.is_some_and(|denial| denial.rule != Rule::ApprovalNeeded);
        self.changed.rest |= counts;
        let pressure = self
            .denials
            .at(intent.agent.clone(), || Pressure::new(time));
        pressure.add(counts, time);
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
        self.changed.rest = true;
        let most = self.settings.spreading.max(2);
        let begun = self.spreading.at(target, Vec::new);
        begun.retain(|(_, at)| seconds_between(*at, time) <= MEMORY);
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
}
