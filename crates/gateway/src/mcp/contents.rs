//! The contents of a server's messages, looked at before the agent has them.

use model::DecisionId;
use serde_json::value::RawValue;

use super::exchange::{Call, Exchange};
use super::inspect::Seen;
use super::message::Id;
use super::raw::Members;
use super::refusal::Refusal;
use super::results::Looked;
use super::revision::Method;
use crate::inspection::{About, Verdict, What};
use crate::pipeline::{Denied, Permit};

/// Members of results that are the protocol's own: what stands there goes back to the server as it came,
/// or is no text for anybody.
const OPAQUE: [&str; 7] = [
    "requestState",
    "nextCursor",
    "taskId",
    "task",
    "protocolVersion",
    "progressToken",
    "requestId",
];

/// Whose contents they are.
#[derive(Debug, Clone, Default)]
pub(super) struct Whose {
    pub(super) target: String,
    pub(super) decision: Option<DecisionId>,
    /// For a listing of the tools from their beginning: up to which announcement it is good.
    pub(super) listing_since: Option<u64>,
}

impl Whose {
    /// Those of a call.
    pub(super) fn of(call: &Call) -> Self {
        Self {
            target: call.target.clone(),
            decision: call.permits.first().map(Permit::decision),
            listing_since: call.listing_since,
        }
    }
}

impl What {
    /// What the result of a method is; `None` when nobody reads it, or somebody else looks at it.
    fn of_result(method: Method) -> Option<Self> {
        match method {
            Method::CallTool | Method::GetTask | Method::TaskResult | Method::UpdateTask => {
                Some(Self::ToolResult)
            }
            Method::ReadResource => Some(Self::Resource),
            Method::GetPrompt
            | Method::Complete
            | Method::ListPrompts
            | Method::ListResources
            | Method::ListTemplates => Some(Self::Prompt),
            // With the instructions that a server has for the models of its users.
            Method::Initialize | Method::Discover => Some(Self::ToolDefinition),
            _ => None,
        }
    }
}

impl Exchange {
    /// Looks at what a result says, after the protocol's part of it was looked at.
    pub(super) fn contents(
        &self,
        method: Method,
        whose: &Whose,
        raw: &RawValue,
        looked: Looked,
    ) -> Looked {
        let Some(what) = What::of_result(method) else {
            return looked;
        };
        let text = match &looked {
            Looked::Keep => raw.get().as_bytes(),
            Looked::Changed(new) => new,
            Looked::Refused(_) => return looked,
        };
        let Ok(members) = Members::read(text) else {
            return looked;
        };
        match self.look(what, whose, &members) {
            Verdict::Pass => looked,
            Verdict::Redacted(new) => Looked::Changed(new),
            Verdict::Blocked(denial) => Looked::Refused(match whose.decision {
                Some(decision) => Refusal::denied(
                    &Denied {
                        decision,
                        denial,
                        requested: None,
                        retry_after: None,
                    },
                    None,
                ),
                None => Refusal::upstream(None, denial.reason),
            }),
        }
    }

    /// Looks at the texts of an object; what is the protocol's own stays as it is.
    pub(super) fn look(&self, what: What, whose: &Whose, object: &Members<'_>) -> Verdict<Vec<u8>> {
        let about = About {
            what,
            caller: &self.caller,
            server: &self.server,
            target: &whose.target,
            decision: whose.decision,
        };
        let read: Vec<(&str, &RawValue)> = object
            .iter()
            .filter(|(name, _)| !OPAQUE.contains(name))
            .collect();
        let documents: Vec<&[u8]> = read.iter().map(|(_, raw)| raw.get().as_bytes()).collect();
        match self
            .shared
            .pipeline
            .inspection()
            .documents(&about, &documents)
        {
            Verdict::Pass => Verdict::Pass,
            Verdict::Redacted(others) => {
                let changed: Vec<(&str, &[u8])> = read
                    .iter()
                    .zip(&others)
                    .filter_map(|((name, _), other)| Some((*name, other.as_deref()?)))
                    .collect();
                Verdict::Redacted(object.with(&changed))
            }
            Verdict::Blocked(denial) => Verdict::Blocked(denial),
        }
    }

    /// Looks at what a notification or a request of the server says in its parameters.
    pub(super) fn said(&self, message: &Members<'_>) -> Seen {
        let Some(params) = message.get("params").and_then(Members::of) else {
            return Seen::Pass;
        };
        match self.look(What::Prompt, &Whose::default(), &params) {
            Verdict::Pass => Seen::Pass,
            Verdict::Redacted(new) => Seen::Changed(message.with(&[("params", &new)])),
            Verdict::Blocked(_) => Seen::Withheld,
        }
    }

    /// Looks at what an error says: agents show it to their models.
    pub(super) fn error_contents(
        &self,
        id: &Id,
        whose: &Whose,
        message: &Members<'_>,
        error: &RawValue,
    ) -> Seen {
        let Some(error) = Members::of(error) else {
            return Seen::Pass;
        };
        match self.look(What::ToolResult, whose, &error) {
            Verdict::Pass => Seen::Pass,
            Verdict::Redacted(new) => Seen::Changed(message.with(&[("error", &new)])),
            Verdict::Blocked(denial) => {
                let refusal = match whose.decision {
                    Some(decision) => Refusal::denied(
                        &Denied {
                            decision,
                            denial,
                            requested: None,
                            retry_after: None,
                        },
                        Some(id),
                    ),
                    None => Refusal::upstream(Some(id), denial.reason),
                };
                Seen::Changed(refusal.to_bytes())
            }
        }
    }
}
