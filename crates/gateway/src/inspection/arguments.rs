//! What agents ask for: watched for canary tokens and credentials that leave, at all enforcement points.

use model::{Action, DecisionId, Denial, Operation};
use serde_json::{Map, Value};

use super::{About, Inspection, Verdict, What};
use crate::caller::Caller;

/// Deepest nesting of arguments that is looked at; requests are read with a smaller limit than this.
const DEEPEST: usize = 128;

impl Inspection {
    /// Looks at what an action asks for. The denial when it must not go on.
    #[must_use]
    pub fn action(&self, caller: &Caller, action: &Action, decision: DecisionId) -> Option<Denial> {
        let target = action.operation.target();
        let text = said(&action.operation, &target);
        if text.is_empty() {
            return None;
        }
        let about = About {
            what: What::Arguments,
            caller,
            server: &action.server,
            target: &target,
            decision: Some(decision),
        };
        match self.text(&about, &text) {
            Verdict::Blocked(denial) => Some(denial),
            Verdict::Pass | Verdict::Redacted(_) => None,
        }
    }
}

/// The texts of an operation, each on a line; nothing for what says nothing.
fn said(operation: &Operation, target: &str) -> String {
    let mut text = String::new();
    match operation {
        Operation::Converse | Operation::Answer { .. } => {}
        Operation::CallTool { arguments, .. }
        | Operation::Request { arguments, .. }
        | Operation::Generate { arguments, .. }
        | Operation::Message { arguments, .. } => members(arguments, DEEPEST, &mut text),
        Operation::Query { statement } => text.push_str(&statement.text),
        Operation::ReadResource { .. }
        | Operation::GetPrompt { .. }
        | Operation::Connect { .. } => {
            text.push_str(target);
        }
    }
    text
}

fn members(members: &Map<String, Value>, left: usize, text: &mut String) {
    for (name, value) in members {
        text.push_str(name);
        text.push_str(": ");
        texts(value, left, text);
    }
}

fn texts(value: &Value, left: usize, text: &mut String) {
    let Some(left) = left.checked_sub(1) else {
        return;
    };
    match value {
        Value::String(one) => {
            text.push_str(one);
            text.push('\n');
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, left, text)),
        Value::Object(inner) => members(inner, left, text),
        Value::Number(number) => {
            text.push_str(&number.to_string());
            text.push('\n');
        }
        Value::Null | Value::Bool(_) => text.push('\n'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_text_of_arguments_is_read() {
        let arguments =
            json!({ "to": "a", "more": { "deep": ["b", { "c": "d" }], "n": 7 }, "no": null });
        let operation = Operation::CallTool {
            tool: "send".to_owned(),
            arguments: arguments.as_object().unwrap().clone(),
        };
        assert_eq!(
            said(&operation, "send"),
            "to: a\nmore: deep: b\nc: d\nn: 7\nno: \n"
        );
        assert_eq!(said(&Operation::Converse, ""), "");
        let read = Operation::ReadResource {
            uri: "file:///x".to_owned(),
        };
        assert_eq!(said(&read, "file:///x"), "file:///x");
    }
}
