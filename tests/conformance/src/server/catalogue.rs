//! The tools as clients see them: names that the suite looks for, and schemas that it judges.

use rmcp::model::{JsonObject, Tool};
use serde_json::{Value, json};

/// Tools without arguments, and what they are for.
const PLAIN: [(&str, &str); 28] = [
    ("test_simple_text", "Answers with one text"),
    ("test_image_content", "Answers with a picture"),
    ("test_audio_content", "Answers with a sound"),
    (
        "test_embedded_resource",
        "Answers with a resource inside the result",
    ),
    (
        "test_multiple_content_types",
        "Answers with a text, a picture and a resource",
    ),
    ("test_tool_with_logging", "Logs three lines while it works"),
    (
        "test_tool_with_progress",
        "Reports its progress three times while it works",
    ),
    ("test_error_handling", "Always fails"),
    (
        "test_elicitation_sep1034_defaults",
        "Asks the user for values that have defaults",
    ),
    (
        "test_elicitation_sep1330_enums",
        "Asks the user to choose, in every way a choice is written",
    ),
    (
        "test_reconnection",
        "Takes a moment, so that a client can come back for the answer",
    ),
    (
        "test_logging_tool",
        "Logs one line if the request names a log level",
    ),
    ("test_missing_capability", "Needs a client that can sample"),
    (
        "test_streaming_elicitation",
        "Needs an answer of the user before it can go on",
    ),
    (
        "test_trigger_tool_change",
        "Tells listeners that the list of tools changed",
    ),
    (
        "test_trigger_prompt_change",
        "Tells listeners that the list of prompts changed",
    ),
    (
        "test_input_required_result_elicitation",
        "Needs the user's name",
    ),
    (
        "test_input_required_result_sampling",
        "Needs a model's answer",
    ),
    (
        "test_input_required_result_list_roots",
        "Needs the client's roots",
    ),
    (
        "test_input_required_result_request_state",
        "Needs its sealed state back",
    ),
    (
        "test_input_required_result_tampered_state",
        "Refuses a state that it did not seal",
    ),
    (
        "test_input_required_result_multiple_inputs",
        "Needs three inputs of three kinds",
    ),
    (
        "test_input_required_result_multi_round",
        "Needs one input after the other",
    ),
    (
        "test_input_required_result_capabilities",
        "Needs what the client says it can give",
    ),
    ("failing_job", "Works in a task and fails"),
    (
        "protocol_error_job",
        "Works in a task and ends with a protocol error",
    ),
    ("multi_input", "Works in a task that needs two inputs"),
    (
        "test_tool_with_task",
        "Needs the user's name, then works in a task",
    ),
];

/// Every tool.
pub(super) fn tools() -> Vec<Tool> {
    let text = || json!({ "type": "string" });
    let mut tools: Vec<Tool> = PLAIN
        .iter()
        .map(|&(name, about)| tool(name, about, json!({}), json!([])))
        .collect();
    tools.extend([
        tool(
            "test_sampling",
            "Has the client's model answer a prompt",
            json!({ "prompt": text() }),
            json!(["prompt"]),
        ),
        tool(
            "test_elicitation",
            "Has the user answer a question",
            json!({ "message": text() }),
            json!(["message"]),
        ),
        tool(
            "test_custom_header",
            "Takes an argument that also travels as a header (SEP-2243)",
            json!({ "value": { "type": "string", "x-mcp-header": "Value" } }),
            json!(["value"]),
        ),
        tool(
            "greet",
            "Greets, at once",
            json!({ "name": text() }),
            json!(["name"]),
        ),
        tool(
            "slow_compute",
            "Takes as many seconds as it is told, in a task",
            json!({ "seconds": { "type": "number" }, "label": text() }),
            json!([]),
        ),
        tool(
            "confirm_delete",
            "Works in a task that needs a confirmation",
            json!({ "filename": text() }),
            json!([]),
        ),
        Tool::new(
            "json_schema_2020_12_tool",
            "Has a rich schema",
            object(rich_schema()),
        ),
    ]);
    tools
}

fn tool(name: &'static str, about: &'static str, properties: Value, required: Value) -> Tool {
    let schema = json!({ "type": "object", "properties": properties, "required": required });
    Tool::new(name, about, object(schema))
}

/// Keywords of JSON Schema 2020-12 that must survive the way to the client (SEP-1613, SEP-2106).
fn rich_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "address",
                "type": "object",
                "properties": { "road": { "type": "string" }, "town": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "home": { "$ref": "#/$defs/address" },
            "channel": { "enum": ["letter", "call"] },
            "number": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["name"] }, { "required": ["home"] }] }],
        "if": { "properties": { "channel": { "const": "call" } }, "required": ["channel"] },
        "then": { "required": ["number"] },
        "else": { "required": ["name"] },
        "additionalProperties": false,
    })
}

/// The members of a JSON object that is written in this source.
pub(super) fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(members) => members,
        other => unreachable!("written as an object: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_tool_has_a_name_of_its_own() {
        let tools = tools();
        let names: BTreeSet<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        assert_eq!(names.len(), tools.len());
        assert!(names.contains("test_simple_text") && names.contains("slow_compute"));
    }

    #[test]
    fn exactly_one_argument_travels_as_a_header() {
        let schemas: Vec<_> = tools()
            .iter()
            .map(|tool| Value::Object((*tool.input_schema).clone()))
            .collect();
        let marked = schemas
            .iter()
            .filter(|schema| schema.to_string().contains("x-mcp-header"));
        assert_eq!(marked.count(), 1);
    }
}
