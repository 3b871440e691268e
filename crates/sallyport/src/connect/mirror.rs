//! The headers that a stateless request repeats from its body (2026-07-28,
//! `basic/transports/streamable-http`, Request Metadata), and what `tools/list` answers say about
//! them. Over stdio a client writes none of them, so they are made here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway::mcp::agreement::{METHOD, NAME, VERSION};
use gateway::mcp::annotations::{self, Annotations};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};

/// Learns which parameters headers repeat from the result of `tools/list`.
pub(super) fn learn(annotations: &Annotations, result: &Value) {
    for tool in result
        .get("tools")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let Some(name) = tool.get("name").and_then(Value::as_str) else {
            continue;
        };
        // The gateway drops tools whose annotations are invalid, so there is nothing to say here.
        let found = tool.get("inputSchema").map(annotations::read);
        annotations.learn(name, found.and_then(Result::ok).unwrap_or_default());
    }
}

/// The headers of a request with this method and these parameters, in this revision. What no
/// header can carry is left out; the gateway then refuses the request.
pub(super) fn headers(
    annotations: &Annotations,
    revision: &str,
    method: &str,
    params: Option<&Map<String, Value>>,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(name, value);
        }
    };
    set(VERSION, revision);
    set(METHOD, method);
    let text = |name: &str| params.and_then(|p| p.get(name)).and_then(Value::as_str);
    let named_by = match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        method if method.starts_with("tasks/") => "taskId",
        _ => return headers,
    };
    let name = text(named_by);
    if let Some(name) = name {
        set(NAME, &encode(name));
    }
    let arguments = params
        .and_then(|p| p.get("arguments"))
        .and_then(Value::as_object);
    if method == "tools/call"
        && let (Some(annotated), Some(arguments)) =
            (name.and_then(|n| annotations.of(n)), arguments)
    {
        for parameter in annotated.iter() {
            if let Some(value) = parameter.value(arguments).and_then(as_text) {
                set(parameter.header.clone(), &encode(&value));
            }
        }
    }
    headers
}

/// A value as it stands in a header; none for what has no header.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

/// A value in the encoding of the protocol: as it is where a header can carry that, else in the
/// Base64 form; also when it looks like that form itself.
fn encode(value: &str) -> String {
    let visible = value
        .bytes()
        .all(|b| matches!(b, b' ' | b'\t' | 0x21..=0x7e));
    let padded = value.starts_with([' ', '\t']) || value.ends_with([' ', '\t']);
    let sentinel = value.starts_with("=?base64?") && value.ends_with("?=");
    if visible && !padded && !sentinel {
        value.to_owned()
    } else {
        format!("=?base64?{}?=", STANDARD.encode(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn more_headers(
        annotations: &Annotations,
        method: &str,
        params: Value,
    ) -> Vec<(String, String)> {
        let map = headers(annotations, "2026-07-28", method, params.as_object());
        let mut all: Vec<_> = map
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .filter(|(name, _)| VERSION != *name.as_str() && METHOD != *name.as_str())
            .collect();
        all.sort();
        all
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn values_are_encoded_as_the_protocol_says() {
        for (plain, encoded) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ] {
            assert_eq!(encode(plain), encoded);
        }
    }

    #[test]
    fn each_method_has_its_name() {
        let none = Annotations::default();
        assert_eq!(
            more_headers(&none, "tools/call", json!({"name": "a"})),
            [pair("mcp-name", "a")]
        );
        assert_eq!(
            more_headers(&none, "resources/read", json!({"uri": "file:///ä"})),
            [pair("mcp-name", "=?base64?ZmlsZTovLy/DpA==?=")]
        );
        assert_eq!(
            more_headers(&none, "tasks/get", json!({"taskId": "t"})),
            [pair("mcp-name", "t")]
        );
        assert_eq!(more_headers(&none, "tools/list", json!({"name": "a"})), []);
    }

    #[test]
    fn annotated_parameters_become_headers() {
        let annotations = Annotations::default();
        learn(
            &annotations,
            &json!({ "tools": [{ "name": "sql", "inputSchema": { "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
            "limits": { "type": "object", "properties": {
                "rows": { "type": "integer", "x-mcp-header": "Rows" } } },
            "dry": { "type": "boolean", "x-mcp-header": "Dry" },
            "note": { "type": "string", "x-mcp-header": "Note" },
        } } }] }),
        );
        let arguments = json!({ "region": "eu", "limits": { "rows": 42 }, "dry": true,
            "note": null, "other": 1 });
        let call = json!({ "name": "sql", "arguments": arguments });
        assert_eq!(
            more_headers(&annotations, "tools/call", call),
            [
                pair("mcp-name", "sql"),
                pair("mcp-param-dry", "true"),
                pair("mcp-param-region", "eu"),
                pair("mcp-param-rows", "42"),
            ]
        );
        learn(
            &annotations,
            &json!({ "tools": [{ "name": "sql", "inputSchema": {} }] }),
        );
        let call = json!({ "name": "sql", "arguments": { "region": "eu" } });
        assert_eq!(
            more_headers(&annotations, "tools/call", call),
            [pair("mcp-name", "sql")]
        );
    }
}
