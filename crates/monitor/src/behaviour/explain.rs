//! Findings about behaviour, in words that a person understands.

use model::{AgentName, ServerName, TaskId};

use super::baseline::New;
use crate::finding::{Asi, Atlas, Finding, Severity, Subject};
use crate::text::escaped;

/// Whom a finding is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who<'a> {
    pub(super) agent: &'a AgentName,
    pub(super) task: Option<TaskId>,
    pub(super) server: Option<&'a ServerName>,
    pub(super) target: &'a str,
}

impl Who<'_> {
    pub(super) fn finding(
        &self,
        rule: &str,
        severity: Severity,
        (asi, atlas): (Asi, &'static str),
        explanation: String,
    ) -> Finding {
        Finding {
            rule: rule.to_owned(),
            severity,
            asi: Some(asi),
            atlas: Atlas::known(atlas),
            subject: Subject {
                agent: Some(self.agent.clone()),
                task: self.task,
                server: self.server.cloned(),
                target: (!self.target.is_empty()).then(|| escaped(self.target, 128)),
            },
            evidence: None,
            explanation,
        }
    }

    /// What is new about an action.
    pub(super) fn new_thing(&self, new: &New, template: &str, actions: u64) -> Finding {
        let (agent, target) = (self.agent, escaped(self.target, 80));
        let server = self.server.map_or_else(String::new, ToString::to_string);
        let work = if template.is_empty() {
            String::new()
        } else {
            format!(" for `{}`", escaped(template, 60))
        };
        match new {
            New::Server => self.finding(
                "first-seen-server",
                Severity::Medium,
                (Asi::Asi10, Atlas::DISCOVERY),
                format!("First time that agent {agent} reaches {server}{work}, after {actions} actions elsewhere"),
            ),
            New::Target => self.finding(
                "first-seen-target",
                Severity::Low,
                (Asi::Asi10, Atlas::DISCOVERY),
                format!("First time that agent {agent} uses `{target}` of {server}{work}, after {actions} other actions"),
            ),
            New::Shape => self.finding(
                "first-seen-arguments",
                Severity::Low,
                (Asi::Asi02, Atlas::TOOL_INVOCATION),
                format!("Agent {agent} calls `{target}` of {server} with arguments of a form that it never used"),
            ),
            New::Step(probability) => self.finding(
                "improbable-step",
                Severity::Low,
                (Asi::Asi01, Atlas::TOOL_INVOCATION),
                format!(
                    "Agent {agent} goes on to `{target}` of {server} from where it hardly ever does: \
                     about one step in {:.0}{work}",
                    1.0 / probability.max(1e-6)
                ),
            ),
            New::Hour(hour, share) => self.finding(
                "unusual-hour",
                Severity::Low,
                (Asi::Asi10, Atlas::VALID_ACCOUNTS),
                format!(
                    "Agent {agent} works at {hour:02} h UTC{work}, where {:.1} % of its work was done so far",
                    share * 100.0
                ),
            ),
        }
    }
}
