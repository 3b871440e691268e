//! What of an answer the agent must not see.

use serde_json::Value;
use serde_json_path::JsonPath;

/// What stands in the place of what was taken out.
const REDACTED: &str = "(redacted)";

/// The expressions of one endpoint (JSONPath, RFC 9535).
#[derive(Debug, Clone)]
pub struct Redaction(Vec<JsonPath>);

impl Redaction {
    /// Reads expressions.
    ///
    /// # Errors
    /// Which one is wrong, and why.
    pub fn parse(expressions: &[String]) -> Result<Self, String> {
        let read = |text: &String| {
            JsonPath::parse(text).map_err(|error| format!("`{text}` is not a JSONPath: {error}"))
        };
        expressions
            .iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Takes out of a document what the expressions find in it.
    pub fn apply(&self, document: &mut Value) {
        for path in &self.0 {
            let found: Vec<String> = path
                .query_located(document)
                .locations()
                .map(|location| location.to_json_pointer())
                .collect();
            for pointer in found {
                // Gone already, when a whole was taken out before its part.
                if let Some(value) = document.pointer_mut(&pointer) {
                    *value = Value::String(REDACTED.to_owned());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_found_is_taken_out() {
        let expressions = ["$..ssn", "$.accounts[*].number", "$['a/b~c']"].map(str::to_owned);
        let redaction = Redaction::parse(&expressions).unwrap();
        let mut document = json!({
            "name": "Ada", "ssn": 1, "child": [{"ssn": {"deep": {"ssn": "2"}}}],
            "accounts": [{"number": "3", "kind": "x"}], "a/b~c": true,
        });
        redaction.apply(&mut document);
        assert_eq!(
            document,
            json!({
                "name": "Ada", "ssn": REDACTED, "child": [{"ssn": REDACTED}],
                "accounts": [{"number": REDACTED, "kind": "x"}], "a/b~c": REDACTED,
            })
        );
        assert!(Redaction::parse(&["ssn".to_owned()]).is_err());
    }
}
