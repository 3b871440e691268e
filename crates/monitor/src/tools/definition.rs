//! One definition, in one form.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::text;

/// Largest definition, as canonical JSON, in bytes.
const DEFINITION_BYTES: usize = 256 << 10;
/// The members that a definition is usually made of, in the order in which they are shown.
const MEMBERS: [&str; 6] = [
    "name",
    "title",
    "description",
    "inputSchema",
    "outputSchema",
    "annotations",
];

/// Members that are no part of it: no model sees them.
const OTHERS: [&str; 2] = ["_meta", "icons"];

/// The definition of a tool, as a server lists it (MCP `tools/list`): its name, title, description, schemas
/// and annotations, and whatever else a client might show to a model: all of it but `_meta` and `icons`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Definition {
    name: String,
    members: Map<String, Value>,
    canonical: String,
}

/// SHA-256 of a definition's canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

/// Why a value is not the definition of a tool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotADefinition {
    /// It is no object with a name.
    #[error("it has no name")]
    NoName,
    /// It is larger than definitions may be.
    #[error("it is larger than {DEFINITION_BYTES} bytes")]
    TooLarge,
    /// It has no canonical form.
    #[error("it has no canonical form: {0}")]
    NotCanonical(String),
    /// A text is no hash.
    #[error("a hash is 64 lower-case hexadecimal digits")]
    NotAHash,
}

impl Definition {
    /// Takes what makes up the definition out of an item of a listing.
    ///
    /// # Errors
    /// [`NotADefinition`] when it has no name, is too large, or cannot be brought into canonical form.
    pub fn of(item: &Value) -> Result<Self, NotADefinition> {
        let object = item.as_object().ok_or(NotADefinition::NoName)?;
        let name = object.get("name").and_then(Value::as_str);
        let name = name.ok_or(NotADefinition::NoName)?.to_owned();
        let mut members = object.clone();
        members.retain(|member, _| !OTHERS.contains(&member.as_str()));
        let canonical = serde_json_canonicalizer::to_string(&members)
            .map_err(|error| NotADefinition::NotCanonical(error.to_string()))?;
        if canonical.len() > DEFINITION_BYTES {
            return Err(NotADefinition::TooLarge);
        }
        Ok(Self {
            name,
            members,
            canonical,
        })
    }

    /// The tool's name, exactly as the server gives it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The description, if there is one.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.member("description")?.as_str()
    }

    /// A member of it.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }

    /// The canonical form (RFC 8785). Numbers are doubles there: schemas that differ only in integers
    /// beyond 2^53 have one form.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// The hash of the canonical form.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash(Sha256::digest(self.canonical.as_bytes()).into())
    }

    /// Lines for people: everything in it, in one order, with nothing in them that acts or hides.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let usual = MEMBERS
            .iter()
            .filter_map(|member| Some((*member, self.member(member)?)));
        let mut unusual: Vec<(&str, &Value)> = self
            .members
            .iter()
            .map(|(member, value)| (member.as_str(), value))
            .filter(|(member, _)| !MEMBERS.contains(member))
            .collect();
        unusual.sort_unstable_by_key(|(member, _)| *member);
        for (member, value) in usual.chain(unusual) {
            let member = text::escaped(member, 80);
            match value {
                Value::String(text) => {
                    lines.push(format!("{member}:"));
                    let of_text = text.split('\n');
                    lines.extend(of_text.map(|line| format!("  {}", text::escaped(line, 2_000))));
                }
                other => {
                    lines.push(format!("{member}:"));
                    pretty(other, None, 1, &mut lines);
                }
            }
        }
        lines
    }

    /// Every text in it with where it is: names of members are texts too. At most 4,096 of them.
    pub(crate) fn texts(&self) -> Vec<(String, &str)> {
        let mut out = Vec::new();
        for (member, value) in &self.members {
            collect(member, value, &mut out);
        }
        out
    }
}

/// Most texts of one definition that are read.
const TEXTS: usize = 4_096;

fn collect<'a>(path: &str, value: &'a Value, out: &mut Vec<(String, &'a str)>) {
    if out.len() >= TEXTS {
        return;
    }
    match value {
        Value::String(text) => out.push((path.to_owned(), text)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(at, item)| collect(&format!("{path}[{at}]"), item, out)),
        Value::Object(members) => {
            for (name, value) in members {
                let path = format!("{path}.{}", text::escaped(name, 40));
                out.push((path.clone(), name));
                collect(&path, value, out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// JSON on lines, members sorted, texts escaped.
fn pretty(value: &Value, name: Option<&str>, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth.min(40));
    let label = name.map_or(String::new(), |name| {
        format!("{}: ", text::escaped(name, 200))
    });
    match value {
        Value::Object(members) if !members.is_empty() => {
            lines.push(format!("{indent}{label}{{"));
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in sorted {
                pretty(value, Some(name), depth + 1, lines);
            }
            lines.push(format!("{indent}}}"));
        }
        Value::Array(items) if !items.is_empty() => {
            lines.push(format!("{indent}{label}["));
            for item in items {
                pretty(item, None, depth + 1, lines);
            }
            lines.push(format!("{indent}]"));
        }
        Value::String(text) => {
            lines.push(format!("{indent}{label}\"{}\"", text::escaped(text, 2_000)));
        }
        other => lines.push(format!("{indent}{label}{other}")),
    }
}

impl TryFrom<Value> for Definition {
    type Error = NotADefinition;
    fn try_from(value: Value) -> Result<Self, NotADefinition> {
        Self::of(&value)
    }
}

impl From<Definition> for Value {
    fn from(definition: Definition) -> Value {
        Value::Object(definition.members)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl TryFrom<String> for Hash {
    type Error = NotADefinition;
    fn try_from(text: String) -> Result<Self, NotADefinition> {
        let sound =
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !sound {
            return Err(NotADefinition::NotAHash);
        }
        let mut bytes = [0u8; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16)
                .map_err(|_| NotADefinition::NotAHash)?;
        }
        Ok(Self(bytes))
    }
}

impl From<Hash> for [u8; 32] {
    fn from(hash: Hash) -> Self {
        hash.0
    }
}

impl From<[u8; 32]> for Hash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> String {
        hash.to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn order_spelling_and_other_members_do_not_matter() {
        let a = Definition::of(&json!({
            "name": "t", "description": "d",
            "inputSchema": {"type": "object", "properties": {"b": {"minimum": 1.0}, "a": {}}},
        }));
        let text = r#"{"_meta":{"x":1},"inputSchema":{"properties":{"a":{},"b":{"minimum":1}},
            "type":"obj\u0065ct"},"description":"d","name":"t"}"#;
        let b = Definition::of(&serde_json::from_str(text).unwrap());
        assert_eq!(a.unwrap().hash(), b.unwrap().hash());
    }

    #[test]
    fn everything_that_a_model_sees_matters() {
        let base = json!({"name": "t", "title": "T", "description": "d", "inputSchema": {"type": "object"},
            "outputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true}});
        let hash = Definition::of(&base).unwrap().hash();
        for member in MEMBERS.into_iter().chain(["instructions", "Description"]) {
            let mut other = base.clone();
            other[member] = json!("other");
            assert_ne!(Definition::of(&other).unwrap().hash(), hash, "{member}");
        }
    }

    #[test]
    fn the_form_is_that_of_rfc_8785() {
        let definition =
            Definition::of(&json!({"name": "é\u{1}", "annotations": {"n": 1e21, "m": 0.1}}));
        assert_eq!(
            definition.unwrap().canonical(),
            "{\"annotations\":{\"m\":0.1,\"n\":1e+21},\"name\":\"é\\u0001\"}"
        );
    }

    #[test]
    fn it_is_kept_and_read_back() {
        let definition = Definition::of(&json!({"name": "t", "description": "d"})).unwrap();
        let text = serde_json::to_string(&definition).unwrap();
        assert_eq!(
            serde_json::from_str::<Definition>(&text).unwrap(),
            definition
        );
        let hash = serde_json::to_string(&definition.hash()).unwrap();
        assert_eq!(
            serde_json::from_str::<Hash>(&hash).unwrap(),
            definition.hash()
        );
        assert!(serde_json::from_str::<Hash>("\"é\"").is_err());
    }

    #[test]
    fn what_is_too_large_is_no_definition() {
        let large = json!({"name": "t", "description": "x".repeat(DEFINITION_BYTES)});
        assert_eq!(
            Definition::of(&large).unwrap_err(),
            NotADefinition::TooLarge
        );
        assert_eq!(
            Definition::of(&json!([])).unwrap_err(),
            NotADefinition::NoName
        );
    }
}
