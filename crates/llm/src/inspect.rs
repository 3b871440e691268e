//! Step 7 in both directions: what models are asked and what they answer is looked at, in the parts that
//! mean something, and a conversation only where it is new.

use std::time::Duration;

use bytes::Bytes;
use gateway::inspection::{About, Verdict, What};
use gateway::pipeline::Permit;
use model::{Denial, TaskId};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::exchange::Exchange;
use crate::refusal::Refusal;
use crate::request::{Asked, Kind, Part};
use crate::traffic::role;
use crate::visit::Visit;

/// Most parts that are known to have passed, at about 100 bytes each.
const MOST_KNOWN: u64 = 65_536;
/// How long they are known: canaries, for one, come and go.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// What of conversations has passed before. Agents send all of a conversation each time.
pub(crate) struct Passed(moka::sync::Cache<[u8; 32], ()>);

impl Default for Passed {
    fn default() -> Self {
        let known = moka::sync::Cache::builder().max_capacity(MOST_KNOWN);
        Self(known.time_to_live(KNOWN_FOR).build())
    }
}

impl Passed {
    /// Other rules hold from now on.
    pub(crate) fn forget(&self) {
        self.0.invalidate_all();
    }

    /// What passed for one task says nothing of another, whose template may be stricter.
    fn key(task: &TaskId, kind: Kind, text: &[u8]) -> [u8; 32] {
        let kind = match kind {
            Kind::Tool => b't',
            Kind::Result => b'r',
            Kind::Said => b's',
        };
        let hash = Sha256::new()
            .chain_update(task.to_string())
            .chain_update([kind])
            .chain_update(text);
        hash.finalize().into()
    }
}

impl Visit {
    /// Looks at what a request carries: the definitions of tools, what tools returned, and what is said
    /// besides. What is taken out does not reach the provider.
    ///
    /// # Errors
    /// [`Refusal`] when it must not pass.
    pub(crate) fn inspect(&self, permit: &mut Permit, asked: &mut Asked) -> Result<(), Refusal> {
        let decision = permit.decision();
        let mut others = Vec::new();
        for part in asked.parts() {
            let text = part.value.to_string();
            let known = Passed::key(&self.caller.task.task().id, part.kind, text.as_bytes());
            if self.shared.passed.0.contains_key(&known) {
                continue;
            }
            let tool = tool_of(asked, &part);
            let about = About {
                what: match part.kind {
                    Kind::Tool => What::ToolDefinition,
                    Kind::Result => What::ToolResult,
                    Kind::Said => What::ModelRequest,
                },
                caller: &self.caller,
                server: &self.route.server,
                target: tool.unwrap_or(&asked.model),
                decision: Some(decision),
            };
            match self
                .shared
                .pipeline
                .inspection()
                .json(&about, text.as_bytes())
            {
                Verdict::Pass => self.shared.passed.0.insert(known, ()),
                Verdict::Redacted(other) => {
                    let other = serde_json::from_slice::<Value>(&other).unwrap_or_default();
                    others.push((part.place, other));
                }
                Verdict::Blocked(denial) => {
                    permit.note("blocked", about.what.as_str());
                    // What must not pass is what is looked for later.
                    let hash = permit.hash(asked.body());
                    permit.keep("request", asked.body(), hash);
                    return Err(Refusal::blocked(Some(decision), denial));
                }
            }
        }
        if !others.is_empty() {
            permit.note("redacted", others.len());
        }
        for (place, other) in others {
            asked.replace(&place, other);
        }
        Ok(())
    }
}

/// The tool that a part is of: named by itself, or by the call that it answers.
fn tool_of<'a>(asked: &'a Asked, part: &Part<'a>) -> Option<&'a str> {
    let said = |name: &str| part.value.get(name).and_then(Value::as_str);
    match part.kind {
        Kind::Tool => part.tool,
        Kind::Result => {
            let call = said("tool_call_id").or_else(|| said("call_id"));
            let results = asked.traffic.results.iter();
            let mut results = results.filter(|result| Some(result.call.as_str()) == call);
            results.next().and_then(|result| result.tool.as_deref())
        }
        Kind::Said => None,
    }
}

impl Exchange {
    /// What the model's answer is looked at as.
    pub(crate) fn about_answer(&self) -> About<'_> {
        About {
            what: What::ModelAnswer,
            caller: &self.visit.caller,
            server: &self.visit.route.server,
            target: &self.asked.model,
            decision: self.account.decision(),
        }
    }

    /// Looks at a whole answer, or an error: what passes in its place, if something does. What does not
    /// pass is on record as such.
    ///
    /// # Errors
    /// The denial when it must not pass.
    pub(crate) fn inspect_answer(&mut self, text: &[u8]) -> Result<Option<Bytes>, Denial> {
        let inspection = self.visit.shared.pipeline.inspection();
        let verdict = inspection.sorted(&self.about_answer(), text, &role);
        match verdict.taken() {
            Ok(other) => {
                self.account.redacted += u64::from(other.is_some());
                Ok(other.map(Bytes::from))
            }
            Err(denial) => {
                self.note_blocked();
                Err(denial)
            }
        }
    }

    /// That the answer was blocked is on record.
    pub(crate) fn note_blocked(&mut self) {
        let what = What::ModelAnswer.as_str();
        self.account.permit().note("blocked", what);
    }
}
