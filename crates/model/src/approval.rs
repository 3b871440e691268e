//! Approvals: what a person is asked to let through, and what they allowed.
//!
//! An action that is denied but requestable leaves an [`Approval`] that waits for a person. What the
//! person allows is data too: [`Allowance`]. It never widens a grant: everything else of a decision is
//! asked again on each call.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::decision::Rule;
use crate::grant::Constraint;
use crate::id::{ApprovalId, DecisionId, TaskId};
use crate::name::{AgentName, ServerName, TemplateName};
use crate::provenance::Asked;

/// Something that a person is asked to approve, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// Its id.
    pub id: ApprovalId,
    /// The task that it is for, and for no other.
    pub task: TaskId,
    /// The agent whose task that is.
    pub agent: AgentName,
    /// The task's template.
    pub template: TemplateName,
    /// What the task is for, in words; whoever opened it wrote them.
    pub purpose: String,
    /// The refusal that it was filed for.
    pub decision: DecisionId,
    /// Where the action goes.
    pub server: ServerName,
    /// The protocol's method, such as `tools/call`.
    pub method: String,
    /// What the target is: `tool`, `endpoint`, `model`, `skill`, `statement` and so on.
    pub kind: String,
    /// The tool, endpoint, model, skill or tables, with nothing that a terminal would act on.
    pub target: String,
    /// The rule that refused.
    pub rule: Rule,
    /// Why, in words.
    pub reason: String,
    /// The values that nobody vouches for, each with where it was seen.
    pub asked: Vec<Asked>,
    /// The arguments as a person may see them: complete but for secrets and for the middle of long texts.
    pub arguments: Value,
    /// HMAC-SHA-256 over what the action is, keyed with the task's salt, in hexadecimal.
    pub call: String,
    /// When it was filed.
    pub asked_at: Timestamp,
    /// Until when a person can decide it.
    pub expires_at: Timestamp,
    /// What became of it.
    pub status: ApprovalStatus,
    /// Who decided, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided: Option<Decided>,
    /// How often it was used.
    #[serde(default)]
    pub used: u32,
}

impl Approval {
    /// The status at a moment: one that nobody decided in time has expired, whoever noticed or not.
    #[must_use]
    pub fn status_at(&self, now: Timestamp) -> ApprovalStatus {
        let until = match (&self.status, &self.decided) {
            (ApprovalStatus::Pending, _) => Some(self.expires_at),
            (ApprovalStatus::Approved, Some(decided)) => {
                decided.allows.as_ref().map(|allows| allows.until)
            }
            _ => None,
        };
        match until {
            Some(until) if now >= until => ApprovalStatus::Expired,
            _ => self.status,
        }
    }

    /// How often it may still be used.
    #[must_use]
    pub fn uses_left(&self) -> u32 {
        let allowed = self.decided.as_ref().and_then(|it| it.allows.as_ref());
        allowed.map_or(0, |allows| allows.uses.saturating_sub(self.used))
    }
}

/// What became of a request for approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalStatus {
    /// It waits for a person.
    Pending,
    /// A person allowed it, as often as they said.
    Approved,
    /// A person refused it, or took back what they had allowed.
    Denied,
    /// Nobody decided in time, or what was allowed is over.
    Expired,
    /// It ended with its task.
    Cancelled,
}

impl ApprovalStatus {
    /// The word in the API, the store and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the word back; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Approved,
            Self::Denied,
            Self::Expired,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|status| status.as_str() == text)
    }
}

impl fmt::Display for ApprovalStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who decided a request for approval, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// When.
    pub at: Timestamp,
    /// By which credential: `operator`.
    pub actor: String,
    /// The person, as they named themselves; the credential does not prove it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// What was allowed; nothing when it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allows: Option<Allowance>,
}

/// What a person allowed: for one task, so often, so long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// How often it may be used; at least once.
    pub uses: u32,
    /// Until when; never beyond the end of the task.
    pub until: Timestamp,
    /// What it covers.
    pub covers: Covers,
}

/// What an allowance covers, of one operation at one server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Covers {
    /// The very call that was asked about, argument by argument.
    Call,
    /// Calls of the same tool, endpoint, model or skill in which each value that nobody vouches for is
    /// in the set for its argument. Without sets: calls in which there is no such value.
    Values(BTreeMap<String, ValueSet>),
}

/// A set of values, described. All parts that are given must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueSet {
    /// What a value must satisfy.
    #[serde(default, skip_serializing_if = "is_open")]
    pub is: Constraint,
    /// The domain of a mail address, or the host of a URL over HTTPS: exactly this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

fn is_open(constraint: &Constraint) -> bool {
    *constraint == Constraint::default()
}

/// How much of what an agent or a task does needs a person.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalLevel {
    /// What templates, policies and provenance ask for.
    #[default]
    Usual,
    /// Besides, everything that changes something.
    Changes,
    /// Everything that counts against the budget.
    All,
}

impl ApprovalLevel {
    /// The word in the API, the store and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Changes => "changes",
            Self::All => "all",
        }
    }

    /// Reads the word back; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Usual, Self::Changes, Self::All]
            .into_iter()
            .find(|level| level.as_str() == text)
    }

    /// Whether nothing was raised.
    // serde hands over references.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    #[must_use]
    pub fn is_usual(&self) -> bool {
        *self == Self::Usual
    }
}

impl fmt::Display for ApprovalLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for ApprovalLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| "write `usual`, `changes` or `all`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_are_read_back() {
        for status in ["pending", "approved", "denied", "expired", "cancelled"] {
            assert_eq!(ApprovalStatus::parse(status).unwrap().as_str(), status);
        }
        for level in ["usual", "changes", "all"] {
            assert_eq!(level.parse::<ApprovalLevel>().unwrap().as_str(), level);
        }
        assert!("none".parse::<ApprovalLevel>().is_err());
        assert!(ApprovalLevel::Usual < ApprovalLevel::Changes);
        assert!(ApprovalLevel::Changes < ApprovalLevel::All);
    }

    #[test]
    fn what_is_covered_is_readable_and_unknown_parts_are_refused() {
        let covers = |value: Value| serde_json::from_value::<Covers>(value);
        assert_eq!(covers(json!("call")).unwrap(), Covers::Call);
        let values = covers(json!({"values": {"to": {"domain": "corp.example"}}})).unwrap();
        let Covers::Values(sets) = values else {
            panic!("not values");
        };
        assert_eq!(sets["to"].domain.as_deref(), Some("corp.example"));
        for bad in [
            json!("everything"),
            json!({"values": {"to": {"suffix": "x"}}}),
            json!({}),
        ] {
            assert!(covers(bad.clone()).is_err(), "{bad}");
        }
    }
}
