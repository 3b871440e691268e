//! The answer to one action.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::DecisionId;

/// Permit, deny, or deny what a person could approve; with what determined it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// Names this decision in the record and in the answer to the agent.
    pub id: DecisionId,
    /// The answer.
    pub outcome: Outcome,
    /// The ids of the policies that determined it; empty when it did not come to policies.
    pub policies: Vec<String>,
    /// The version of the policy set that was asked.
    pub policy_version: String,
}

impl Decision {
    /// Whether the action may go on.
    #[must_use]
    pub fn is_permit(&self) -> bool {
        matches!(self.outcome, Outcome::Permit { .. })
    }
}

/// The three answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome")]
pub enum Outcome {
    /// The action may go on.
    Permit {
        /// The permission of the grant that covers it, by position.
        permission: usize,
        /// The tool permission within it, by position, when the action calls a tool.
        tool: Option<usize>,
    },
    /// The action is refused, but a person could approve it.
    Ask {
        /// The permission of the grant that covers it, by position.
        permission: usize,
        /// The tool permission within it, by position, when the action calls a tool.
        tool: Option<usize>,
        /// Why it needs a person.
        denial: Denial,
    },
    /// The action is refused.
    Deny(Denial),
}

impl Outcome {
    /// The permission that covers the action, whether or not a person must approve it.
    #[must_use]
    pub fn covered_by(&self) -> Option<(usize, Option<usize>)> {
        match self {
            Self::Permit { permission, tool }
            | Self::Ask {
                permission, tool, ..
            } => Some((*permission, *tool)),
            Self::Deny(_) => None,
        }
    }

    /// Why it is refused, if it is.
    #[must_use]
    pub fn denial(&self) -> Option<&Denial> {
        match self {
            Self::Permit { .. } => None,
            Self::Ask { denial, .. } | Self::Deny(denial) => Some(denial),
        }
    }
}

/// Why an action was refused, and what would lift that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct Denial {
    /// The rule that refused.
    pub rule: Rule,
    /// The reason, in words, telling nothing that the caller may not know.
    pub reason: String,
    /// What would lift it, in words.
    pub remedy: String,
}

/// The rules that refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The agent is not active.
    AgentNotActive,
    /// The instance is disabled or unknown.
    InstanceNotActive,
    /// The task is not open (any more), or not the caller's.
    TaskNotOpen,
    /// The proof of possession is weaker than the grant demands.
    ProofTooWeak,
    /// The server is not part of the grant, or not known.
    ServerNotGranted,
    /// The tool, resource, prompt or request is not part of the grant.
    NotGranted,
    /// An argument breaks its constraint.
    ArgumentRefused,
    /// The definition of the tool was not approved, or has changed since.
    ToolQuarantined,
    /// An inspection of the content does not let it pass.
    ContentBlocked,
    /// An argument cannot be derived from what the task is for, nor from a trusted source.
    Provenance,
    /// The template, a policy, or the level that an operator raised wants a person to approve it.
    ApprovalNeeded,
    /// The budget is used up.
    BudgetExhausted,
    /// It comes too soon after others.
    RateLimited,
    /// A policy forbids it.
    PolicyForbids,
    /// No policy permits it.
    NoPolicyPermits,
    /// A policy could not be evaluated.
    PolicyError,
    /// The protocol does not allow the message, or it is over a limit.
    ProtocolViolation,
    /// The log cannot be written.
    AuditUnavailable,
    /// The caller was not authenticated.
    Unauthenticated,
    /// A proof of possession was right but for the nonce that is demanded.
    NonceNeeded,
}

impl Rule {
    /// The word used in answers, records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AgentNotActive => "agent_not_active",
            Self::InstanceNotActive => "instance_not_active",
            Self::TaskNotOpen => "task_not_open",
            Self::ProofTooWeak => "proof_too_weak",
            Self::ServerNotGranted => "server_not_granted",
            Self::NotGranted => "not_granted",
            Self::ArgumentRefused => "argument_refused",
            Self::ToolQuarantined => "tool_quarantined",
            Self::ContentBlocked => "content_blocked",
            Self::Provenance => "provenance",
            Self::ApprovalNeeded => "approval_needed",
            Self::BudgetExhausted => "budget_exhausted",
            Self::RateLimited => "rate_limited",
            Self::PolicyForbids => "policy_forbids",
            Self::NoPolicyPermits => "no_policy_permits",
            Self::PolicyError => "policy_error",
            Self::ProtocolViolation => "protocol_violation",
            Self::AuditUnavailable => "audit_unavailable",
            Self::Unauthenticated => "unauthenticated",
            Self::NonceNeeded => "nonce_needed",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
