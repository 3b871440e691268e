//! `x-mcp-header`: arguments that clients repeat in `Mcp-Param-…` headers (2026-07-28
//! `basic/transports/streamable-http`, Custom Headers from Tool Parameters).

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderName;
use parking_lot::RwLock;
use serde_json::{Map, Value};

use super::agreement::PARAM_PREFIX;

/// The member of a schema that says so.
pub const ANNOTATION: &str = "x-mcp-header";
/// Most arguments of one tool that headers repeat.
const ARGUMENTS_LIMIT: usize = 64;
/// Most that is kept of one server's tools, in bytes.
const BYTES_LIMIT: usize = 1 << 20;
/// What a tool or an argument takes up beside its names.
const OVERHEAD: usize = 128;

/// One argument that a header repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotated {
    /// The header.
    pub header: HeaderName,
    path: Vec<String>,
}

impl Annotated {
    /// The argument's value in a call.
    #[must_use]
    pub fn value<'a>(&self, arguments: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, rest) = self.path.split_first()?;
        rest.iter()
            .try_fold(arguments.get(first)?, |value, step| value.get(step))
    }
}

/// What one server's tools repeat, as its listings last said.
#[derive(Debug, Default)]
pub struct Annotations {
    tools: RwLock<Tools>,
}

#[derive(Debug, Default)]
struct Tools {
    tools: HashMap<String, Arc<[Annotated]>>,
    bytes: usize,
}

impl Tools {
    fn forget(&mut self, tool: &str) {
        if let Some(known) = self.tools.remove(tool) {
            self.bytes -= weight(tool, &known);
        }
    }
}

/// What a tool takes up, in bytes.
fn weight(tool: &str, annotated: &[Annotated]) -> usize {
    let arguments = annotated.iter().map(|one| {
        let path: usize = one.path.iter().map(|step| step.len() + OVERHEAD).sum();
        one.header.as_str().len() + path
    });
    tool.len() + OVERHEAD + arguments.sum::<usize>()
}

impl Annotations {
    /// What is known of a tool.
    #[must_use]
    pub fn of(&self, tool: &str) -> Option<Arc<[Annotated]>> {
        self.tools.read().tools.get(tool).cloned()
    }

    /// Keeps what a listing said of a tool. Beyond the limit nothing more is kept: then only the
    /// upstream checks those headers, as it must anyway.
    pub fn learn(&self, tool: &str, annotated: Vec<Annotated>) {
        let known = self.of(tool);
        if known.as_deref().unwrap_or_default() == annotated {
            return;
        }
        let mut tools = self.tools.write();
        tools.forget(tool);
        let bytes = tools.bytes + weight(tool, &annotated);
        if !annotated.is_empty() && bytes <= BYTES_LIMIT {
            tools.bytes = bytes;
            tools.tools.insert(tool.to_owned(), annotated.into());
        }
    }
}

/// Reads the annotations of a tool's input schema.
///
/// # Errors
/// Why the tool's definition is invalid, in words; it must then not be shown to clients.
pub fn read(schema: &Value) -> Result<Vec<Annotated>, &'static str> {
    let mut found = Vec::new();
    let mut path = Vec::new();
    collect(schema, true, &mut path, &mut found)?;
    for (position, annotated) in found.iter().enumerate() {
        if found[..position]
            .iter()
            .any(|other: &Annotated| other.header == annotated.header)
        {
            return Err("two arguments with one header");
        }
    }
    Ok(found)
}

/// Walks a schema. `reachable` holds as long as only `properties` were passed; an annotation
/// anywhere else is invalid.
fn collect(
    schema: &Value,
    reachable: bool,
    path: &mut Vec<String>,
    found: &mut Vec<Annotated>,
) -> Result<(), &'static str> {
    let members = match schema {
        Value::Object(members) => members,
        Value::Array(items) => {
            return items
                .iter()
                .try_for_each(|item| collect(item, false, path, found));
        }
        _ => return Ok(()),
    };
    if let Some(annotation) = members.get(ANNOTATION) {
        if !reachable || path.is_empty() {
            return Err("an annotation that is not reached through `properties` alone");
        }
        if !matches!(
            members.get("type").and_then(Value::as_str),
            Some("string" | "integer" | "boolean")
        ) {
            return Err("an annotation on what is no string, integer or boolean");
        }
        let name = annotation.as_str().filter(|name| !name.is_empty());
        let header = name
            .and_then(|name| HeaderName::try_from(format!("{PARAM_PREFIX}{name}")).ok())
            .ok_or("an annotation that is no header name")?;
        if found.len() == ARGUMENTS_LIMIT {
            return Err("more annotations than any tool needs");
        }
        found.push(Annotated {
            header,
            path: path.clone(),
        });
    }
    for (name, value) in members {
        match name.as_str() {
            "properties" if reachable => {
                let Value::Object(properties) = value else {
                    continue;
                };
                for (property, schema) in properties {
                    path.push(property.clone());
                    collect(schema, true, path, found)?;
                    path.pop();
                }
            }
            // Data, not schemas: an annotation in there means nothing.
            ANNOTATION | "const" | "enum" | "default" | "examples" => {}
            _ => collect(value, false, path, found)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn annotations_are_found_where_they_may_stand() {
        let schema = json!({ "type": "object", "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
            "where": { "type": "object", "properties": {
                "zone": { "type": "integer", "x-mcp-header": "Zone" } } },
        }});
        let found = read(&schema).unwrap();
        assert_eq!(found.len(), 2);
        let arguments = json!({ "region": "eu", "where": { "zone": 3 } });
        let values: Vec<_> = found
            .iter()
            .map(|a| a.value(arguments.as_object().unwrap()).unwrap())
            .collect();
        assert_eq!(values, [&json!("eu"), &json!(3)]);
        assert_eq!(found[0].header, "mcp-param-region");
    }

    #[test]
    fn invalid_annotations_are_told() {
        let property = |p: Value| json!({ "properties": { "a": p } });
        for bad in [
            property(json!({ "type": "string", "x-mcp-header": "" })),
            property(json!({ "type": "string", "x-mcp-header": "a b" })),
            property(json!({ "type": "string", "x-mcp-header": "a\r\nb" })),
            property(json!({ "type": "string", "x-mcp-header": 7 })),
            property(json!({ "type": "number", "x-mcp-header": "A" })),
            property(json!({ "type": "object", "x-mcp-header": "A" })),
            property(json!({ "items": { "type": "string", "x-mcp-header": "A" } })),
            property(json!({ "oneOf": [{ "type": "string", "x-mcp-header": "A" }] })),
            json!({ "$defs": { "x": { "type": "string", "x-mcp-header": "A" } } }),
            json!({ "type": "string", "x-mcp-header": "A" }),
            json!({ "properties": (0..65).map(|n| {
                let property = json!({ "type": "string", "x-mcp-header": format!("A{n}") });
                (n.to_string(), property)
            }).collect::<Map<_, _>>() }),
            json!({ "properties": {
                "a": { "type": "string", "x-mcp-header": "A" },
                "b": { "type": "string", "x-mcp-header": "a" } } }),
        ] {
            assert!(read(&bad).is_err(), "{bad}");
        }
        let data = property(json!({ "type": "object", "default": { "x-mcp-header": "A" } }));
        assert_eq!(read(&data), Ok(Vec::new()));
    }

    #[test]
    fn a_server_cannot_fill_the_memory_with_its_tools() {
        let known = Annotations::default();
        let long = "n".repeat(100_000);
        let schema =
            json!({ "properties": { long.clone(): { "type": "string", "x-mcp-header": "A" } } });
        let annotated = read(&schema).unwrap();
        for n in 0..100 {
            known.learn(&format!("{n}{long}"), annotated.clone());
        }
        let kept: usize = known.tools.read().tools.keys().map(String::len).sum();
        assert!(kept > 0 && kept <= BYTES_LIMIT, "{kept}");
        for n in 0..100 {
            known.learn(&format!("{n}{long}"), Vec::new());
        }
        known.learn("small", annotated);
        assert!(known.of("small").is_some(), "there is room again");
    }
}
