//! What a task has used of its budget.

use std::collections::BTreeMap;

use model::record::{ActionResult, Intent};
use model::{Action, Budget, Outcome, Spent};
use serde::{Deserialize, Serialize};

/// The note of a result's record that says how many results the task's ledger had taken in with it.
pub const NOTED: &str = "noted";

/// Counters of one task: actions in all and per call permission, and what they used up. They only
/// grow, but for what is held back while an action is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Usage {
    calls: u32,
    /// By position of the permission, and of the tool permission in it. Never more entries than
    /// the grant has tool permissions.
    tools: BTreeMap<(u32, u32), u32>,
    spent: Spent,
    /// Held back for actions that have not ended.
    held: Spent,
    /// How many results its ledger has taken in.
    noted: u32,
}

/// The form in the store: `[permission, tool, calls]` for each tool permission that was used.
#[derive(Serialize, Deserialize)]
struct Written {
    calls: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tools: Vec<(u32, u32, u32)>,
    /// With what was held back, so that a restart never gives a task more.
    #[serde(default, skip_serializing_if = "Spent::is_nothing")]
    spent: Spent,
    #[serde(default, skip_serializing_if = "is_none")]
    noted: u32,
}

// serde hands over references.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_none(count: &u32) -> bool {
    *count == 0
}

impl From<Written> for Usage {
    fn from(written: Written) -> Self {
        let mut tools = BTreeMap::new();
        for (permission, tool, calls) in written.tools {
            let count: &mut u32 = tools.entry((permission, tool)).or_default();
            *count = count.saturating_add(calls);
        }
        Self {
            calls: written.calls,
            tools,
            spent: written.spent,
            held: Spent::default(),
            noted: written.noted,
        }
    }
}

impl From<Usage> for Written {
    fn from(usage: Usage) -> Self {
        let tools = usage.tools.into_iter();
        Self {
            calls: usage.calls,
            tools: tools.map(|((p, t), calls)| (p, t, calls)).collect(),
            spent: usage.spent.plus(usage.held),
            noted: usage.noted,
        }
    }
}

impl Usage {
    /// Counts a decided action, if it was permitted and is one that is charged.
    pub fn charge(&mut self, action: &Action, outcome: &Outcome) {
        if let Outcome::Permit { permission, tool } = outcome
            && action.operation.is_charged()
        {
            self.count(*permission, *tool);
            self.held = self.held.plus(action.expected);
        }
    }

    /// Counts what an action under way has used up so far.
    pub fn spend(&mut self, amount: Spent) {
        self.spent = self.spent.plus(amount);
    }

    /// Gives back what was held back for an action that has ended.
    pub fn release(&mut self, expected: Spent) {
        self.held = self.held.minus(expected);
    }

    /// Counts what is held back as used up: of actions whose end nobody will tell of.
    pub fn keep_held(&mut self) {
        self.spent = self.spent.plus(std::mem::take(&mut self.held));
    }

    /// What was used up so far.
    #[must_use]
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// The first amount of a budget, with its limit, that is used up, or would be exceeded by an
    /// action that may use `expected`.
    #[must_use]
    pub fn exceeded(&self, budget: &Budget, expected: &Spent) -> Option<(&'static str, u64)> {
        let used = self.spent.plus(self.held);
        budget.amounts().find_map(|(name, limit, of)| {
            let over = of(&used) >= limit || of(&used).saturating_add(of(expected)) > limit;
            over.then_some((name, limit))
        })
    }

    /// Counts an action from its record, when the counters are rebuilt from the log. Intents that
    /// were not permitted, or are not charged, count for nothing.
    pub fn replay(&mut self, intent: &Intent) {
        // Everything that is charged has a target: `decide` refuses an empty name or URI.
        if let Some((permission, tool)) = intent.permission
            && intent.permitted
            && !intent.target.is_empty()
        {
            self.count(permission, tool);
            self.held = self.held.plus(intent.expected);
        }
    }

    /// Counts an action of a task that is a part of this one, from its record. `permission` is what
    /// covered it in this task's grant.
    pub fn replay_within(&mut self, intent: &Intent, permission: (usize, Option<usize>)) {
        if intent.permitted && !intent.target.is_empty() {
            self.count(permission.0, permission.1);
            self.held = self.held.plus(intent.expected);
        }
    }

    /// Counts what an action used up from the record of its end. `expected` is what its intent held
    /// back, as far as it was counted too.
    pub fn replay_end(&mut self, end: &ActionResult, expected: Spent) {
        self.release(expected);
        self.spend(end.spent);
    }

    /// Takes from the record of an action of this very task how many results its ledger had taken in.
    pub fn replay_noted(&mut self, end: &ActionResult) {
        let noted = end.notes.get(NOTED).and_then(serde_json::Value::as_u64);
        self.note_results(noted.map_or(0, |noted| u32::try_from(noted).unwrap_or(u32::MAX)));
    }

    /// Remembers how many results the task's ledger has taken in.
    pub fn note_results(&mut self, noted: u32) {
        self.noted = self.noted.max(noted);
    }

    /// How many results the task's ledger has taken in.
    #[must_use]
    pub fn noted(&self) -> u32 {
        self.noted
    }

    /// Charged actions in all.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// Calls under one call permission.
    pub(crate) fn of_call(&self, permission: usize, tool: usize) -> u32 {
        let key = (position(permission), position(tool));
        self.tools.get(&key).copied().unwrap_or(0)
    }

    fn count(&mut self, permission: usize, tool: Option<usize>) {
        self.calls = self.calls.saturating_add(1);
        if let Some(tool) = tool {
            let key = (position(permission), position(tool));
            let calls = self.tools.entry(key).or_default();
            *calls = calls.saturating_add(1);
        }
    }
}

/// Positions beyond what fits share one counter, so that they are counted too often, never too
/// rarely.
fn position(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use model::{AgentName, DecisionId, InstanceId, Operation, Proof, ServerName, TaskId};

    fn intent(target: &str, permission: Option<(usize, Option<usize>)>) -> Intent {
        Intent {
            decision: DecisionId::new(Timestamp::UNIX_EPOCH, [0; 10]),
            agent: AgentName::parse("a").unwrap(),
            instance: InstanceId::new(Timestamp::UNIX_EPOCH, [0; 10]),
            proof: Proof::Dpop,
            task: TaskId::new(Timestamp::UNIX_EPOCH, [0; 10]),
            server: ServerName::parse("s").unwrap(),
            method: String::new(),
            target: target.to_owned(),
            arguments: None,
            arguments_hash: None,
            permitted: permission.is_some(),
            denial: None,
            policies: Vec::new(),
            policy_version: String::new(),
            permission,
            within: Vec::new(),
            approval: None,
            approval_level: model::ApprovalLevel::Usual,
            provenance: None,
            expected: Spent::default(),
            risk: 0,
        }
    }

    #[test]
    fn replaying_counts_what_charging_counted() {
        let server = ServerName::parse("s").unwrap();
        let call = |operation| Action::new(server.clone(), "", operation);
        let tool = Operation::CallTool {
            tool: "t".to_owned(),
            arguments: serde_json::Map::new(),
        };
        let mut charged = Usage::default();
        let mut replayed = Usage::default();
        for (operation, tool) in [
            (tool, Some(2)),
            (
                Operation::ReadResource {
                    uri: "u".to_owned(),
                },
                None,
            ),
            (Operation::Converse, None),
        ] {
            let action = call(operation);
            charged.charge(
                &action,
                &Outcome::Permit {
                    permission: 1,
                    tool,
                },
            );
            replayed.replay(&intent(&action.operation.target(), Some((1, tool))));
        }
        replayed.replay(&intent("t", None));
        assert_eq!(charged, replayed);
        assert_eq!(charged.calls(), 2);
        assert_eq!(charged.of_call(1, 2), 1);
    }

    #[test]
    fn the_stored_form_round_trips() {
        let mut usage = Usage::default();
        usage.count(0, Some(3));
        usage.count(0, Some(3));
        usage.count(7, None);
        let text = serde_json::to_string(&usage).unwrap();
        assert_eq!(text, r#"{"calls":3,"tools":[[0,3,2]]}"#);
        assert_eq!(serde_json::from_str::<Usage>(&text).unwrap(), usage);
    }
}
