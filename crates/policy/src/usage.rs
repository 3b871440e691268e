//! What a task has used of its budget.

use std::collections::BTreeMap;

use model::record::Intent;
use model::{Action, Outcome};
use serde::{Deserialize, Serialize};

/// Counters of one task: calls in all, and per tool permission. They only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Usage {
    calls: u32,
    /// By position of the permission, and of the tool permission in it. Never more entries than
    /// the grant has tool permissions.
    tools: BTreeMap<(u32, u32), u32>,
}

/// The form in the store: `[permission, tool, calls]` for each tool permission that was used.
#[derive(Serialize, Deserialize)]
struct Written {
    calls: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tools: Vec<(u32, u32, u32)>,
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
        }
    }
}

impl From<Usage> for Written {
    fn from(usage: Usage) -> Self {
        let tools = usage.tools.into_iter();
        Self {
            calls: usage.calls,
            tools: tools.map(|((p, t), calls)| (p, t, calls)).collect(),
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
        }
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
        }
    }

    /// Charged actions in all.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// Calls under one tool permission.
    pub(crate) fn of_tool(&self, permission: usize, tool: usize) -> u32 {
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
        }
    }

    #[test]
    fn replaying_counts_what_charging_counted() {
        let server = ServerName::parse("s").unwrap();
        let call = |operation| Action {
            server: server.clone(),
            method: String::new(),
            operation,
        };
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
            replayed.replay(&intent(action.operation.target(), Some((1, tool))));
        }
        replayed.replay(&intent("t", None));
        assert_eq!(charged, replayed);
        assert_eq!(charged.calls(), 2);
        assert_eq!(charged.of_tool(1, 2), 1);
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
