//! What a decision sees of a request ([`Asked::arguments`]):
//! - `max_tokens`: the longest answer that is asked for, whichever of `max_tokens`,
//!   `max_completion_tokens` and `max_output_tokens` said it (the largest, if several did);
//! - `messages`, `input`, `prompt`, `system` and `instructions` as `{ "items": n, "bytes": n }`, and
//!   `stream` and `stream_options` as they are: but only where the grant names them, so that a grant
//!   that constrains something else need not;
//! - `anthropic-beta`: the names in that header, as an array;
//! - every other member but `model` as it is.

use model::{Grant, ServerName};
use serde_json::{Map, Value, json};

use super::{Asked, LONGEST_ANSWER};

/// Members that hold content, and of which a decision sees the size.
const CONTENT: [&str; 5] = ["messages", "input", "prompt", "system", "instructions"];
/// Members that are about how the answer travels.
const TRANSPORT: [&str; 2] = ["stream", "stream_options"];

impl Asked {
    /// What a decision sees of it.
    #[must_use]
    pub fn arguments(&self, names: &Names<'_>, betas: &[String]) -> Map<String, Value> {
        let mut arguments = Map::new();
        if let Some(longest) = self.longest {
            arguments.insert("max_tokens".to_owned(), longest.into());
        }
        for (name, value) in &self.members {
            let name = name.as_str();
            if LONGEST_ANSWER.contains(&name) {
                continue;
            }
            let unnamed = !names.name(name);
            if (CONTENT.contains(&name) || TRANSPORT.contains(&name)) && unnamed {
                continue;
            }
            let value = if CONTENT.contains(&name) {
                size(value)
            } else {
                value.clone()
            };
            arguments.insert(name.to_owned(), value);
        }
        if !betas.is_empty() {
            arguments.insert("anthropic-beta".to_owned(), json!(betas));
        }
        arguments
    }
}

/// How much content is in a value.
fn size(value: &Value) -> Value {
    let items = value.as_array().map_or(1, Vec::len);
    let bytes = value
        .as_str()
        .map_or_else(|| value.to_string().len(), str::len);
    json!({ "items": items, "bytes": bytes })
}

/// Which arguments the constraints of a grant name for a model.
pub struct Names<'a> {
    keys: Vec<&'a str>,
}

impl<'a> Names<'a> {
    /// What a grant names for a model of a server.
    #[must_use]
    pub fn of(grant: &'a Grant, server: &ServerName, model: &str) -> Self {
        let permissions = grant.permissions.iter().filter(|p| p.server == *server);
        let models = permissions.flat_map(|permission| permission.models.iter());
        let covering = models.filter(|call| call.name.matches(model));
        let keys = covering.flat_map(|call| call.arguments.keys().map(String::as_str));
        Self {
            keys: keys.collect(),
        }
    }

    /// Whether a constraint is about this argument, or a part of it.
    #[must_use]
    pub fn name(&self, argument: &str) -> bool {
        self.keys.iter().any(|key| {
            let first = match key.strip_prefix('/') {
                Some(pointer) => pointer.split('/').next().unwrap_or_default(),
                None => key,
            };
            first == argument
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::chat;
    use super::*;

    fn names(arguments: Value) -> Grant {
        serde_json::from_value(json!({
            "permissions": [{"type": "sallyport_llm", "server": "ai",
                "models": [{"name": "small*", "arguments": arguments}]}],
            "budget": {"calls": 1}, "proof": "dpop",
        }))
        .unwrap()
    }

    fn arguments(asked: &Asked, grant: &Grant) -> Value {
        let server = ServerName::parse("ai").unwrap();
        let names = Names::of(grant, &server, &asked.model);
        asked.arguments(&names, &[]).into()
    }

    #[test]
    fn content_is_seen_by_size_and_only_where_it_is_named() {
        let asked = chat(
            r#"{"model":"small-1","messages":[{"role":"user","content":"secret"}],"stream":true,
                "temperature":0.5,"max_tokens":7,"max_completion_tokens":9,"tools":[]}"#,
        );
        let plain = arguments(&asked, &names(json!({})));
        assert_eq!(
            plain,
            json!({"max_tokens": 9, "temperature": 0.5, "tools": []})
        );
        let grant = names(json!({"/messages/bytes": {"max": 100}, "stream": {"equals": true}}));
        let named = arguments(&asked, &grant);
        assert_eq!(named["messages"], json!({"items": 1, "bytes": 36}));
        assert_eq!(named["stream"], true);
        assert!(!named.to_string().contains("secret"));
    }
}
