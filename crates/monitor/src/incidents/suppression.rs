//! Findings that somebody does not want to see for a time.

use jiff::Timestamp;
use model::{AgentName, ServerName};
use serde::{Deserialize, Serialize};

use crate::finding::{Finding, Severity};

/// Longest time that something can be suppressed for, in seconds: 90 days.
const LONGEST: i64 = 90 * 86_400;

/// Findings of a rule, perhaps only about an agent or a server, that are not to come in until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppression {
    /// The rule.
    pub rule: String,
    /// Only about this agent.
    #[serde(default)]
    pub agent: Option<AgentName>,
    /// Only about this server.
    #[serde(default)]
    pub server: Option<ServerName>,
    /// When it ends.
    pub until: Timestamp,
    /// Who wants it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Why something cannot be suppressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuppressionError {
    /// It has no end, or a far one.
    #[error(
        "a suppression ends after now, and within 90 days; renew it when it is still right then"
    )]
    Until,
    /// There is no reason.
    #[error("a suppression needs a reason: somebody will ask")]
    NoReason,
    /// There are too many.
    #[error("there are {most} suppressions already; end some")]
    TooMany {
        /// How many there may be.
        most: usize,
    },
}

impl Suppression {
    pub(super) fn check(&self, now: Timestamp) -> Result<(), SuppressionError> {
        let seconds = self.until.as_second().saturating_sub(now.as_second());
        if !(1..=LONGEST).contains(&seconds) {
            return Err(SuppressionError::Until);
        }
        if self.reason.trim().is_empty() {
            return Err(SuppressionError::NoReason);
        }
        Ok(())
    }

    /// Whether a finding is not to come in. Critical ones always do.
    pub(super) fn covers(&self, finding: &Finding, now: Timestamp) -> bool {
        let subject = &finding.subject;
        now < self.until
            && finding.severity < Severity::Critical
            && finding.rule == self.rule
            && (self.agent.is_none() || self.agent == subject.agent)
            && (self.server.is_none() || self.server == subject.server)
    }
}
