//! The endpoints that an OpenAPI 3 document declares.

use serde_json::Value;

use crate::routes::Route;

/// Longest document, in bytes.
pub(crate) const LONGEST: u64 = 16 << 20;

/// The methods of a path item (OpenAPI 3.1 §4.8.9) that can be granted.
const METHODS: [&str; 7] = ["get", "head", "post", "put", "patch", "delete", "options"];

/// One operation of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// The endpoint.
    pub route: Route,
    /// What it is for; may be empty.
    pub summary: String,
    /// Its arguments as templates call them, with their schemas: parameters, and the members of a body that is
    /// a JSON object.
    pub arguments: Vec<(String, Value)>,
    /// Whether a request may have more than these.
    pub open: bool,
}

/// The endpoints of a document, in JSON or YAML.
///
/// # Errors
/// Why it cannot be used, in words.
pub fn routes(text: &str) -> Result<Vec<Route>, String> {
    let all = operations(text)?.into_iter();
    Ok(all.map(|operation| operation.route).collect())
}

/// The operations of a document, in JSON or YAML.
///
/// # Errors
/// Why it cannot be used, in words.
pub fn operations(text: &str) -> Result<Vec<Operation>, String> {
    let document: Value = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else {
        serde_norway::from_str(text).map_err(|error| error.to_string())?
    };
    let version = document.get("openapi").and_then(Value::as_str);
    if !version.is_some_and(|version| version.starts_with("3.")) {
        return Err("it is not an OpenAPI 3 document".to_owned());
    }
    let empty = serde_json::Map::new();
    let paths = document
        .get("paths")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let mut operations = Vec::new();
    for (path, item) in paths {
        for method in METHODS {
            let Some(operation) = item.get(method) else {
                continue;
            };
            let written = format!("{} {path}", method.to_uppercase());
            let route = Route::parse(&written).map_err(|error| error.to_string())?;
            operations.push(read(&document, route, item, operation));
        }
    }
    Ok(operations)
}

fn read(document: &Value, mut route: Route, item: &Value, operation: &Value) -> Operation {
    let mut arguments: Vec<(String, Value)> = Vec::new();
    let parameters = [item, operation]
        .into_iter()
        .filter_map(|of| of.get("parameters").and_then(Value::as_array))
        .flatten()
        .map(|parameter| resolved(document, parameter));
    for parameter in parameters {
        let text = |name: &str| parameter.get(name).and_then(Value::as_str);
        let (Some(place @ ("path" | "query")), Some(name)) = (text("in"), text("name")) else {
            continue;
        };
        let schema = parameter
            .get("schema")
            .map(|schema| resolved(document, schema));
        let kind = schema.and_then(|schema| schema.get("type")?.as_str());
        let name = format!("{place}.{name}");
        if matches!(kind, Some("integer" | "number")) {
            route.numbers.push(name.clone());
        }
        // What an operation says of a parameter counts for more than what its path does.
        arguments.retain(|(known, _)| *known != name);
        arguments.push((name, schema.cloned().unwrap_or_default()));
    }
    let (members, open) = body(document, operation);
    arguments.extend(members);
    let said = |name: &str| operation.get(name).and_then(Value::as_str);
    let summary = said("summary").or_else(|| said("description"));
    Operation {
        route,
        summary: summary.unwrap_or_default().to_owned(),
        arguments,
        open,
    }
}

/// The members of a body, and whether there may be others.
fn body(document: &Value, operation: &Value) -> (Vec<(String, Value)>, bool) {
    let Some(body) = operation.get("requestBody") else {
        return (Vec::new(), false);
    };
    let content = resolved(document, body)
        .get("content")
        .and_then(Value::as_object);
    let schema = content
        .into_iter()
        .flatten()
        .find(|(kind, _)| kind.starts_with("application/json") || kind.ends_with("+json"))
        .and_then(|(_, media)| media.get("schema"))
        .map(|schema| resolved(document, schema));
    let Some(schema) = schema else {
        return (Vec::new(), true);
    };
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    match schema.get("properties").and_then(Value::as_object) {
        Some(properties) => {
            let member = |(name, schema): (&String, &Value)| {
                (format!("body.{name}"), resolved(document, schema).clone())
            };
            (properties.iter().map(member).collect(), !closed)
        }
        None => (vec![("body".to_owned(), schema.clone())], true),
    }
}

/// What a local reference leads to (one step: references to references are not followed).
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|reference| reference.strip_prefix('#'));
    pointer
        .and_then(|pointer| document.pointer(pointer))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r##"
openapi: 3.1.0
info: { title: Billing, version: "1" }
paths:
  /invoices/{id}:
    parameters:
      - $ref: "#/components/parameters/Id"
    get:
      parameters:
        - { name: page, in: query, schema: { type: integer } }
    delete: {}
  /invoices:
    post: {}
components:
  parameters:
    Id: { name: id, in: path, required: true, schema: { type: integer } }
"##;

    #[test]
    fn operations_are_endpoints() {
        let routes = routes(DOCUMENT).unwrap();
        let mut names: Vec<String> = routes.iter().map(Route::name).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "DELETE /invoices/{id}",
                "GET /invoices/{id}",
                "POST /invoices"
            ]
        );
        let get = routes
            .iter()
            .find(|route| route.name().starts_with("GET"))
            .unwrap();
        assert_eq!(get.numbers, ["path.id", "query.page"]);
    }

    #[test]
    fn json_is_read_too_and_other_documents_are_refused() {
        let json = r#"{"openapi": "3.0.3", "paths": {"/a": {"get": {}}}}"#;
        assert_eq!(routes(json).unwrap().len(), 1);
        for bad in ["swagger: '2.0'", "{}", "a: [", "{\"openapi\": \"3.0.0\""] {
            assert!(routes(bad).is_err(), "{bad}");
        }
        let partial = r#"{"openapi": "3.0.3", "paths": {"/{a}.json": {"get": {}}}}"#;
        assert!(routes(partial).unwrap_err().contains("whole segment"));
    }
}
