//! A request in the parts that are looked at one by one: what is new in a conversation is one of them, and
//! what was looked at before is known.

use serde_json::Value;

use super::Asked;

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The definition of a tool that is offered.
    Tool,
    /// What a tool returned.
    Result,
    /// Anything else that the model reads.
    Said,
}

/// Where a part stands: the member, and the position in it if it is one of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    member: String,
    position: Option<usize>,
}

/// One part of a request.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
    /// The tool that it is of, as far as it says so itself.
    pub tool: Option<&'a str>,
    /// The part.
    pub value: &'a Value,
}

impl Asked {
    /// Everything in it that a model may read, in parts.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let members = self.members.iter();
        let members = members
            .filter(|(_, value)| !matches!(value, Value::Null | Value::Bool(_) | Value::Number(_)));
        members.flat_map(|(name, value)| {
            let items = match (name.as_str(), value) {
                ("tools" | "functions" | "messages" | "input", Value::Array(items)) => Some(items),
                _ => None,
            };
            let whole = items.is_none().then_some((None, value));
            let each = items.into_iter().flatten().enumerate();
            let each = each.map(|(position, item)| (Some(position), item));
            each.chain(whole).map(move |(position, value)| Part {
                place: Place {
                    member: name.clone(),
                    position,
                },
                kind: kind(name, value),
                tool: tool(value),
                value,
            })
        })
    }

    /// Lets something else pass in place of a part.
    pub fn replace(&mut self, place: &Place, other: Value) {
        let Some(member) = self.members.get(&place.member) else {
            return;
        };
        let replaced = self
            .replaced
            .entry(place.member.clone())
            .or_insert_with(|| member.clone());
        match place.position {
            None => *replaced = other,
            Some(position) => {
                if let Some(item) = replaced.get_mut(position) {
                    *item = other;
                }
            }
        }
    }
}

fn kind(member: &str, value: &Value) -> Kind {
    if matches!(member, "tools" | "functions") {
        return Kind::Tool;
    }
    let said = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let blocks = value.get("content").and_then(Value::as_array);
    let is_result =
        |block: &Value| block.get("type").and_then(Value::as_str) == Some("tool_result");
    let of_tool = matches!(said("role"), "tool" | "function") || said("type").ends_with("_output");
    if of_tool || blocks.is_some_and(|blocks| blocks.iter().any(is_result)) {
        Kind::Result
    } else {
        Kind::Said
    }
}

fn tool(value: &Value) -> Option<&str> {
    let function = value.get("function").or_else(|| value.get("custom"));
    let name = function.unwrap_or(value).get("name");
    name.and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::super::tests::chat;
    use super::*;
    use serde_json::json;

    #[test]
    fn all_that_a_model_may_read_is_in_one_part() {
        let asked = chat(
            r#"{"model":"m","temperature":1,"stream":false,"stop":null,"metadata":{"a":"b"},
                "tools":[{"type":"function","function":{"name":"read"}}],
                "messages":[{"role":"user","content":"hi"},{"role":"tool","content":"42"},
                    {"role":"user","content":[{"type":"tool_result","content":"x"}]}]}"#,
        );
        let parts: Vec<_> = asked.parts().map(|part| (part.kind, part.tool)).collect();
        let expected = [
            (Kind::Said, None),
            (Kind::Tool, Some("read")),
            (Kind::Said, None),
            (Kind::Result, None),
            (Kind::Result, None),
        ];
        assert_eq!(parts, expected);
        let text = chat(r#"{"model":"m","input":"hi","prompt":["a","b"]}"#);
        assert_eq!(text.parts().count(), 2);
    }

    #[test]
    fn what_is_replaced_passes_in_its_place_and_nothing_else_changes() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"tool","content":"b"}],"user":"u","seed":18446744073709551616}"#;
        let mut asked = chat(body);
        let places: Vec<Place> = asked.parts().map(|part| part.place).collect();
        asked.replace(&places[1], json!({"role": "tool", "content": "-"}));
        asked.replace(&places[2], json!("v"));
        let sent = asked.body_for("m", None);
        assert_eq!(
            sent,
            r#"{"model":"m","seed":18446744073709551616,"messages":[{"role":"user","content":"a"},{"role":"tool","content":"-"}],"user":"v"}"#
        );
    }
}
