//! What a model wrote: how much, and the calls of tools that it asks for.

use serde_json::Value;

use super::events::is_label;
use super::{array, text};
use crate::surface::Api;

/// Most calls that are told apart in one answer.
const MOST_CALLS: usize = 64;
/// Most bytes of arguments that are kept of all calls of one answer together.
const MOST_BYTES: usize = 256 << 10;

/// A call of a tool that the model asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// The id that its result will name.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments, as the text that the model wrote.
    pub arguments: String,
}

/// The calls of one answer, gathered from a body or from the events of a stream.
#[derive(Debug, Default)]
pub struct Calls {
    calls: Vec<(Place, ToolCall)>,
    bytes: usize,
    /// Whether something was left out because there was too much of it.
    cut: bool,
}

/// Where in an answer a call stands: the choice, and the position in it.
type Place = (u64, u64);

impl Calls {
    /// The calls, in the order in which they began.
    pub fn iter(&self) -> impl Iterator<Item = &ToolCall> {
        self.calls.iter().map(|(_, call)| call)
    }

    /// Whether all that there was is here.
    #[must_use]
    pub fn are_complete(&self) -> bool {
        !self.cut
    }

    /// Takes in a whole answer.
    pub fn answer(&mut self, api: Api, answer: &Value) {
        match api {
            Api::Chat => {
                for (at, choice) in (0..).zip(array(answer.get("choices"))) {
                    let message = choice.get("message").unwrap_or(&Value::Null);
                    self.chat(at, message);
                }
            }
            Api::Responses => {
                for (at, item) in (0..).zip(array(answer.get("output"))) {
                    self.item((0, at), item);
                }
            }
            Api::Messages => {
                for (at, block) in (0..).zip(array(answer.get("content"))) {
                    self.block((0, at), block);
                }
            }
            _ => {}
        }
    }

    /// Takes in the data of one event of a stream.
    pub fn event(&mut self, api: Api, event: &Value) {
        let at = |name: &str| event.get(name).and_then(Value::as_u64).unwrap_or(0);
        match (api, text(event, "type")) {
            (Api::Chat, _) => {
                for choice in array(event.get("choices")) {
                    let index = choice.get("index").and_then(Value::as_u64);
                    let delta = choice.get("delta").unwrap_or(&Value::Null);
                    self.chat(index.unwrap_or(0), delta);
                }
            }
            (Api::Responses, Some("response.output_item.added" | "response.output_item.done")) => {
                let item = event.get("item").unwrap_or(&Value::Null);
                self.item((0, at("output_index")), item);
            }
            (
                Api::Responses,
                Some(
                    "response.function_call_arguments.delta"
                    | "response.mcp_call_arguments.delta"
                    | "response.custom_tool_call_input.delta",
                ),
            ) => {
                let piece = text(event, "delta").unwrap_or_default();
                self.add((0, at("output_index")), None, None, piece);
            }
            // All items once more, at the end; of some providers they are nowhere else.
            (
                Api::Responses,
                Some("response.completed" | "response.incomplete" | "response.failed"),
            ) => {
                if let Some(response) = event.get("response") {
                    self.answer(api, response);
                }
            }
            (Api::Messages, Some("content_block_start")) => {
                let block = event.get("content_block").unwrap_or(&Value::Null);
                self.block((0, at("index")), block);
            }
            (Api::Messages, Some("content_block_delta")) => {
                let delta = event.get("delta").unwrap_or(&Value::Null);
                if let Some(json) = text(delta, "partial_json") {
                    self.add((0, at("index")), None, None, json);
                }
            }
            _ => {}
        }
    }

    fn chat(&mut self, choice: u64, message: &Value) {
        for (position, call) in (0..).zip(array(message.get("tool_calls"))) {
            let index = call.get("index").and_then(Value::as_u64);
            let function = call.get("function").or_else(|| call.get("custom"));
            let function = function.unwrap_or(&Value::Null);
            let arguments = text(function, "arguments").or_else(|| text(function, "input"));
            self.add(
                (choice, index.unwrap_or(position)),
                text(call, "id"),
                text(function, "name"),
                arguments.unwrap_or_default(),
            );
        }
        if let Some(call) = message.get("function_call").filter(|call| call.is_object()) {
            let arguments = text(call, "arguments").unwrap_or_default();
            self.add((choice, u64::MAX), None, text(call, "name"), arguments);
        }
    }

    /// An item as it stands. What it says of a call takes the place of what came of it before.
    fn item(&mut self, place: Place, item: &Value) {
        if text(item, "type").is_some_and(|kind| kind.ends_with("_call")) {
            if let Some((_, call)) = self.calls.iter_mut().find(|(at, _)| *at == place) {
                self.bytes -= call.id.len() + call.name.len() + call.arguments.len();
                *call = ToolCall::default();
            }
            let name = text(item, "name").or_else(|| text(item, "type"));
            let arguments = text(item, "arguments").or_else(|| text(item, "input"));
            let id = text(item, "call_id").or_else(|| text(item, "id"));
            self.add(place, id, name, arguments.unwrap_or_default());
        }
    }

    fn block(&mut self, place: Place, block: &Value) {
        if text(block, "type").is_some_and(|kind| kind.ends_with("tool_use")) {
            // Streams begin with an empty object, and send the text of the real one in parts.
            let input = block
                .get("input")
                .filter(|input| **input != Value::Object(Default::default()));
            let input = input.map_or_else(String::new, Value::to_string);
            self.add(place, text(block, "id"), text(block, "name"), &input);
        }
    }

    /// Adds a part of a call, which is a new one when there is none at this place.
    fn add(&mut self, place: Place, id: Option<&str>, name: Option<&str>, arguments: &str) {
        let length = id.map_or(0, str::len) + name.map_or(0, str::len) + arguments.len();
        if self.bytes + length > MOST_BYTES {
            self.cut = true;
            return;
        }
        let position = self.calls.iter().position(|(at, _)| *at == place);
        let position = match position {
            Some(position) => position,
            None if self.calls.len() >= MOST_CALLS => {
                self.cut = true;
                return;
            }
            None => {
                self.calls.push((place, ToolCall::default()));
                self.calls.len() - 1
            }
        };
        self.bytes += length;
        let call = &mut self.calls[position].1;
        call.id.push_str(id.unwrap_or_default());
        call.name.push_str(name.unwrap_or_default());
        call.arguments.push_str(arguments);
    }
}

/// Bytes of what a model wrote in a whole answer.
#[must_use]
pub fn written(api: Api, answer: &Value) -> usize {
    match api {
        Api::Chat | Api::Completions => {
            let choices = array(answer.get("choices")).iter();
            let of_choice = |choice: &Value| {
                let text = text(choice, "text").map_or(0, str::len);
                text + choice.get("message").map_or(0, texts)
            };
            choices.map(of_choice).sum()
        }
        Api::Responses => answer.get("output").map_or(0, texts),
        Api::Messages => answer.get("content").map_or(0, texts),
        Api::Embeddings | Api::CountTokens | Api::Models => 0,
    }
}

/// Bytes of all texts in a value, but for those that are labels.
fn texts(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(texts).sum(),
        Value::Object(members) => {
            let members = members.iter().filter(|(name, _)| !is_label(name));
            members.map(|(_, value)| texts(value)).sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
        ToolCall {
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        }
    }

    fn gathered(api: Api, events: &[Value]) -> Vec<ToolCall> {
        let mut calls = Calls::default();
        for event in events {
            calls.event(api, event);
        }
        calls.iter().cloned().collect()
    }

    #[test]
    fn calls_are_gathered_from_the_parts_of_a_stream() {
        let delta =
            |call: Value| json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]});
        let chat = [
            delta(
                json!({"index": 0, "id": "c1", "function": {"name": "look_up", "arguments": ""}}),
            ),
            delta(json!({"index": 1, "id": "c2", "function": {"name": "send", "arguments": "{"}})),
            delta(json!({"index": 0, "function": {"arguments": "{\"a\":1}"}})),
            delta(json!({"index": 1, "function": {"arguments": "}"}})),
        ];
        assert_eq!(
            gathered(Api::Chat, &chat),
            [call("c1", "look_up", "{\"a\":1}"), call("c2", "send", "{}")]
        );
        let messages = [
            json!({"type": "content_block_start", "index": 1,
                "content_block": {"type": "tool_use", "id": "t1", "name": "look_up", "input": {}}}),
            json!({"type": "content_block_delta", "index": 1,
                "delta": {"type": "input_json_delta", "partial_json": "{\"a\":"}}),
            json!({"type": "content_block_delta", "index": 1,
                "delta": {"type": "input_json_delta", "partial_json": "1}"}}),
        ];
        assert_eq!(
            gathered(Api::Messages, &messages),
            [call("t1", "look_up", "{\"a\":1}")]
        );
        let item = json!({"type": "function_call", "id": "fc_1", "call_id": "c1",
            "name": "look_up", "arguments": "{}"});
        let mut begun = item.clone();
        begun["arguments"] = "".into();
        let added = json!({"type": "response.output_item.added", "output_index": 0, "item": begun});
        let delta = json!({"type": "response.function_call_arguments.delta", "output_index": 0,
            "delta": "{}"});
        let done = json!({"type": "response.output_item.done", "output_index": 0, "item": item});
        let all = json!({"type": "response.completed", "response": {"output": [item]}});
        for responses in [
            vec![&added, &delta],
            vec![&done],
            vec![&all],
            vec![&added, &delta, &done, &all],
        ] {
            let responses: Vec<Value> = responses.into_iter().cloned().collect();
            assert_eq!(
                gathered(Api::Responses, &responses),
                [call("c1", "look_up", "{}")]
            );
        }
    }

    #[test]
    fn endless_calls_are_bounded() {
        let mut calls = Calls::default();
        for index in 0..1_000 {
            let call =
                json!({"index": index, "function": {"name": "x", "arguments": "y".repeat(9_000)}});
            calls.event(
                Api::Chat,
                &json!({"choices": [{"delta": {"tool_calls": [call]}}]}),
            );
        }
        assert!(calls.iter().count() <= MOST_CALLS && !calls.are_complete());
        let kept: usize = calls.iter().map(|call| call.arguments.len()).sum();
        assert!(kept <= MOST_BYTES);
    }

    #[test]
    fn what_was_written_is_counted_and_labels_are_not() {
        let chat = json!({"choices": [{"index": 0,
            "message": {"role": "assistant", "content": "four", "reasoning_content": "hm"}}]});
        assert_eq!(written(Api::Chat, &chat), 6);
        let completion = json!({"choices": [{"text": "abc"}]});
        assert_eq!(written(Api::Completions, &completion), 3);
        let response = json!({"instructions": "not its own", "output": [
            {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "ab"}]}]});
        assert_eq!(written(Api::Responses, &response), 2);
        let whole = json!({"content": [{"type": "text", "text": "abc"}], "role": "assistant"});
        assert_eq!(written(Api::Messages, &whole), 3);
    }
}
