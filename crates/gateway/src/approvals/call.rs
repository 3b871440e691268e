//! What makes one call the same as another.

use aws_lc_rs::hmac;
use model::{Action, Approval, Operation, ServerName, TableOperation};
use serde_json::{Map, Value, json};

use crate::hex;
use crate::live::LiveTask;
use crate::provenance::Annotated;

/// One attempted call, as approvals know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// What is called, arguments aside.
    pub(crate) of: Of,
    /// HMAC-SHA-256 over all that it says, keyed with the task's salt, in hexadecimal.
    pub(crate) tag: String,
}

/// What is called: a tool, an endpoint, a model, a skill and so on of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Of {
    server: ServerName,
    kind: String,
    target: String,
}

impl Of {
    pub(crate) fn new(action: &Action) -> Self {
        Self {
            server: action.server.clone(),
            kind: kind(&action.operation).to_owned(),
            target: action.operation.target().into_owned(),
        }
    }

    /// What a request was about that was filed before a restart.
    pub(crate) fn restored(approval: &Approval) -> Self {
        Self {
            server: approval.server.clone(),
            kind: approval.kind.clone(),
            // Where something had to be escaped, it is equal to nothing that can be called.
            target: approval.target.clone(),
        }
    }

    /// The kind: `tool`, `endpoint` and so on.
    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }
}

impl Call {
    pub(crate) fn new(task: &LiveTask, action: &Action) -> Self {
        let of = Of::new(action);
        let says = match &action.operation {
            Operation::CallTool { arguments, .. }
            | Operation::Request { arguments, .. }
            | Operation::Generate { arguments, .. }
            | Operation::Message { arguments, .. } => sorted(&Value::Object(arguments.clone())),
            Operation::Query { statement } => Value::String(statement.text.clone()),
            _ => Value::Null,
        };
        let whole = json!([of.server, of.kind, of.target, says]).to_string();
        let tag = hex(hmac::sign(task.salt(), whole.as_bytes()).as_ref());
        Self { of, tag }
    }
}

fn kind(operation: &Operation) -> &'static str {
    match operation {
        Operation::CallTool { .. } => "tool",
        Operation::ReadResource { .. } => "resource",
        Operation::GetPrompt { .. } => "prompt",
        Operation::Converse => "converse",
        Operation::Answer { .. } => "answer",
        Operation::Request { .. } => "endpoint",
        Operation::Generate { .. } => "model",
        Operation::Message { .. } => "skill",
        Operation::Query { .. } => "statement",
        Operation::Connect { .. } => "tunnel",
    }
}

/// The same with members of objects in one order, so that a call is the same however it is written.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_unstable();
            let members = names
                .into_iter()
                .map(|name| (name.clone(), sorted(&members[name])));
            Value::Object(Map::from_iter(members))
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// Whether an action changes something, as far as anybody said. What nobody said anything about does.
pub(crate) fn changes(annotated: &Annotated, action: &Action) -> bool {
    let reads = |name: &str| {
        let annotations = annotated.get(&action.server);
        annotations.is_some_and(|annotations| annotations.reads(name))
    };
    match &action.operation {
        Operation::CallTool { tool, .. } => !reads(tool),
        Operation::Request { endpoint, .. } => {
            let method = endpoint.split(' ').next().unwrap_or_default();
            !matches!(method, "GET" | "HEAD" | "OPTIONS") && !reads(endpoint)
        }
        Operation::Query { statement } => statement
            .accesses
            .iter()
            .any(|access| access.operation != TableOperation::Select),
        Operation::Message { .. } | Operation::Connect { .. } => true,
        Operation::ReadResource { .. }
        | Operation::GetPrompt { .. }
        | Operation::Converse
        | Operation::Answer { .. }
        | Operation::Generate { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_everything_else_does() {
        let a = sorted(&json!({"b": [{"y": 1, "x": 2}], "a": null}));
        let b = sorted(&json!({"a": null, "b": [{"x": 2, "y": 1}]}));
        assert_eq!(a.to_string(), b.to_string());
        assert_ne!(
            a.to_string(),
            sorted(&json!({"a": null, "b": [{"x": 2}]})).to_string()
        );
        assert_ne!(sorted(&json!(["x", "y"])), sorted(&json!(["y", "x"])));
    }
}
