//! The answer to one action.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::DecisionId;

/// Permit or deny, with what determined it.
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

/// The two answers.
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
    /// The action is refused.
    Deny(Denial),
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
    /// An argument cannot be derived from what the task is for, nor from a trusted source.
    Provenance,
    /// The budget is used up.
    BudgetExhausted,
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
            Self::Provenance => "provenance",
            Self::BudgetExhausted => "budget_exhausted",
            Self::PolicyForbids => "policy_forbids",
            Self::NoPolicyPermits => "no_policy_permits",
            Self::PolicyError => "policy_error",
            Self::ProtocolViolation => "protocol_violation",
            Self::AuditUnavailable => "audit_unavailable",
            Self::Unauthenticated => "unauthenticated",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
