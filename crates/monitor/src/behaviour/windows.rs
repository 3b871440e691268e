//! Windows of time: how much is done in each, and what is a burst.

use jiff::Timestamp;
use model::AgentName;

use super::baseline::Baseline;
use super::explain::Who;
use super::volume::{self, Odd};
use crate::finding::{Asi, Atlas, Finding, Severity};

/// The length of a window for volumes, in seconds.
pub(super) const WINDOW: i64 = 300;

pub(super) fn burst(who: Who<'_>, times: f64, what: &str, template: &str) -> Finding {
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
pub(super) fn close_window_before(
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
pub(super) fn close_window(
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
