//! What passes between an agent and a model besides prose: the tools that are offered, the calls that
//! the model asks for, and what they returned. Pure: bodies in, facts out, in words that both surfaces
//! share. Whoever looks for poisoned tools, injected results or odd calls reads these.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::surface::Api;

mod answer;
mod events;

pub use answer::{Calls, ToolCall, written};
pub use events::{Heard, ends, hear, role};

/// Most tools, results and references that are told apart in one request; the rest is counted.
const MOST: usize = 256;

/// Who carries a tool out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// The agent, which then sends the result.
    AtTheAgent,
    /// The provider, out of sight of the gateway.
    AtTheProvider,
}

/// A tool that a request offers to the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Its name; for tools that the provider defines, its type.
    pub name: String,
    /// SHA-256 of its whole definition as JSON, so that a changed description or schema shows.
    pub hash: [u8; 32],
    /// Who carries it out.
    pub runs: Runs,
}

/// What a tool returned, on its way to the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult {
    /// The call that it answers.
    pub call: String,
    /// The tool that was called, as far as the same request says so: its name is the result's label.
    pub tool: Option<String>,
    /// What it says, as JSON.
    pub content: String,
}

/// What a request carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The tools that it offers.
    pub tools: Vec<Offered>,
    /// The results of tools in it.
    pub results: Vec<ToolResult>,
    /// Content that the provider would fetch by itself: URLs, and files that are stored there. Each as
    /// the member that names it.
    pub remote: Vec<&'static str>,
    /// Pictures in it.
    pub pictures: usize,
    /// Bytes of the pictures, in base64.
    pub picture_bytes: usize,
    /// Bytes of text, as far as it certainly is text.
    pub text_bytes: usize,
    /// What was left out because there is too much of it.
    pub more: usize,
    /// The calls that the conversation so far has in it, with the tools that were called: while it is read.
    called: Vec<(String, String)>,
}

impl Traffic {
    /// Reads a request.
    #[must_use]
    pub fn of_request(api: Api, request: &Map<String, Value>) -> Self {
        let mut traffic = Self::default();
        for member in ["tools", "functions"] {
            for tool in array(request.get(member)) {
                traffic.offer(api, tool);
            }
        }
        for member in ["messages", "input", "system", "instructions"] {
            if let Some(content) = request.get(member) {
                traffic.walk(content);
            }
        }
        traffic.label();
        traffic
    }

    /// Says of each result which tool it comes from.
    fn label(&mut self) {
        for result in &mut self.results {
            let called = self.called.iter().rev();
            let mut called = called.filter(|(id, _)| *id == result.call);
            result.tool = called.next().map(|(_, tool)| tool.clone());
        }
        self.called.clear();
    }

    /// The first tool that the provider carries out, if one is offered.
    #[must_use]
    pub fn run_by_provider(&self) -> Option<&Offered> {
        self.tools
            .iter()
            .find(|tool| tool.runs == Runs::AtTheProvider)
    }

    fn offer(&mut self, api: Api, tool: &Value) {
        let kind = text(tool, "type");
        let name = [tool.get("function"), tool.get("custom"), Some(tool)]
            .into_iter()
            .flatten()
            .find_map(|tool| text(tool, "name"));
        let runs = match (api, kind) {
            // Legacy functions of OpenAI and the tools of Anthropic have no type.
            (_, None | Some("function" | "custom")) => Runs::AtTheAgent,
            (Api::Responses, Some("local_shell" | "apply_patch" | "computer_use_preview")) => {
                Runs::AtTheAgent
            }
            (Api::Messages | Api::CountTokens, Some(kind)) if is_client_tool(kind) => {
                Runs::AtTheAgent
            }
            _ => Runs::AtTheProvider,
        };
        let name = match runs {
            Runs::AtTheAgent => name.or(kind),
            Runs::AtTheProvider => kind,
        };
        // One that the provider runs is never left out: it decides.
        if self.tools.len() >= MOST && runs == Runs::AtTheAgent {
            self.more += 1;
            return;
        }
        let definition = serde_json::to_vec(tool).unwrap_or_default();
        self.tools.push(Offered {
            name: name.unwrap_or_default().to_owned(),
            hash: Sha256::digest(&definition).into(),
            runs,
        });
    }

    fn walk(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            Value::Object(part) => self.part(part),
            Value::String(text) => self.text_bytes += text.len(),
            _ => {}
        }
    }

    /// One message, item, block or part of content.
    fn part(&mut self, part: &Map<String, Value>) {
        let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
        let role = part.get("role").and_then(Value::as_str).unwrap_or_default();
        let result = if matches!(role, "tool" | "function") {
            Some(("tool_call_id", "content"))
        } else if kind == "tool_result" {
            Some(("tool_use_id", "content"))
        } else if kind.ends_with("_output") && part.contains_key("output") {
            Some(("call_id", "output"))
        } else {
            None
        };
        if let Some((call, content)) = result {
            self.result(part.get(call), part.get(content));
        }
        self.call(kind, part);
        if kind == "item_reference" {
            self.refers("item_reference");
        }
        for (name, value) in part {
            match name.as_str() {
                "file_id" if value.is_string() => self.refers("file_id"),
                "file_url" if value.is_string() => self.refers("file_url"),
                "image_url" | "video_url" | "audio_url" => {
                    let url = value.as_str().or_else(|| text(value, "url"));
                    self.media(url.unwrap_or_default());
                }
                "source" => self.source(value),
                // What a model asked of a tool is for the tool to read.
                "arguments" | "input" if kind != "message" => {}
                // Of texts, those that are certainly read.
                "text" | "content" | "output" => self.walk(value),
                _ if value.is_string() => {}
                _ => self.walk(value),
            }
        }
    }

    /// A call that a model asked for earlier, on either surface.
    fn call(&mut self, kind: &str, part: &Map<String, Value>) {
        let said = |name: &str| part.get(name).and_then(Value::as_str);
        let call = match kind {
            "function_call" | "custom_tool_call" => said("call_id").zip(said("name")),
            "tool_use" => said("id").zip(said("name")),
            _ => None,
        };
        let calls = array(part.get("tool_calls")).iter().filter_map(|call| {
            let function = call.get("function").or_else(|| call.get("custom"))?;
            text(call, "id").zip(text(function, "name"))
        });
        for (id, name) in call.into_iter().chain(calls) {
            if self.called.len() < MOST {
                self.called.push((id.to_owned(), name.to_owned()));
            }
        }
    }

    /// The `source` of an image or a document (Anthropic).
    fn source(&mut self, source: &Value) {
        let data = text(source, "data").unwrap_or_default();
        match text(source, "type") {
            Some("base64") => {
                if text(source, "media_type").is_some_and(|kind| kind.starts_with("image/")) {
                    self.picture(data.len());
                }
            }
            Some("text" | "content") => self.walk(source),
            _ => self.refers("source"),
        }
    }

    fn media(&mut self, url: &str) {
        if url.starts_with("data:image/") {
            self.picture(url.len());
        } else if !url.starts_with("data:") {
            self.refers("url");
        }
    }

    fn picture(&mut self, bytes: usize) {
        self.pictures += 1;
        self.picture_bytes += bytes;
    }

    fn refers(&mut self, to: &'static str) {
        if self.remote.len() < MOST {
            self.remote.push(to);
        }
    }

    fn result(&mut self, call: Option<&Value>, content: Option<&Value>) {
        if self.results.len() >= MOST {
            self.more += 1;
            return;
        }
        self.results.push(ToolResult {
            call: call.and_then(Value::as_str).unwrap_or_default().to_owned(),
            tool: None,
            content: content.map_or_else(String::new, Value::to_string),
        });
    }
}

/// Tools that Anthropic defines and the agent carries out. Their names end with a date.
fn is_client_tool(kind: &str) -> bool {
    const CLIENT: [&str; 4] = ["bash_", "text_editor_", "computer_", "memory_"];
    CLIENT.iter().any(|prefix| {
        kind.strip_prefix(prefix)
            .is_some_and(|date| date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn array(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, member: &str) -> Option<&'a str> {
    value.get(member).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn of(api: Api, request: Value) -> Traffic {
        Traffic::of_request(api, request.as_object().unwrap())
    }

    fn names(traffic: &Traffic) -> Vec<(&str, Runs)> {
        let tools = traffic.tools.iter();
        tools.map(|tool| (tool.name.as_str(), tool.runs)).collect()
    }

    #[test]
    fn tools_are_told_apart_by_who_runs_them() {
        let (agent, provider) = (Runs::AtTheAgent, Runs::AtTheProvider);
        let chat = json!({"tools": [
            {"type": "function", "function": {"name": "look_up", "parameters": {}}},
            {"type": "custom", "custom": {"name": "grammar"}},
        ], "functions": [{"name": "old"}]});
        let chat = of(Api::Chat, chat);
        assert_eq!(
            names(&chat),
            [("look_up", agent), ("grammar", agent), ("old", agent)]
        );
        let responses = json!({"tools": [
            {"type": "function", "name": "look_up"},
            {"type": "web_search"}, {"type": "mcp", "server_url": "https://x"},
            {"type": "something_new", "name": "look_up"},
        ]});
        let responses = of(Api::Responses, responses);
        assert_eq!(responses.run_by_provider().unwrap().name, "web_search");
        assert_eq!(names(&responses)[0], ("look_up", agent));
        assert_eq!(names(&responses)[3], ("something_new", provider));
        let messages = json!({"tools": [
            {"name": "look_up", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"},
            {"type": "web_search_20250305", "name": "web_search"}, {"type": "bash_evil", "name": "b"},
        ]});
        let messages = of(Api::Messages, messages);
        let runs: Vec<Runs> = messages.tools.iter().map(|tool| tool.runs).collect();
        assert_eq!(runs, [agent, agent, provider, provider]);
    }

    #[test]
    fn a_changed_definition_has_another_hash() {
        let tool = |text: &str| json!({"tools": [{"name": "a", "description": text}]});
        let hash = |text| of(Api::Messages, tool(text)).tools[0].hash;
        assert_eq!(hash("reads"), hash("reads"));
        assert_ne!(hash("reads"), hash("reads, and first sends all to me"));
    }

    #[test]
    fn results_are_found_in_every_form() {
        let chat = json!({"messages": [{"role": "tool", "tool_call_id": "c1", "content": "42"}]});
        let responses =
            json!({"input": [{"type": "function_call_output", "call_id": "c1", "output": "42"}]});
        let messages = json!({"messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": "42"}]}]});
        for (api, request) in [
            (Api::Chat, chat),
            (Api::Responses, responses),
            (Api::Messages, messages),
        ] {
            let found = of(api, request).results;
            let expected = ToolResult {
                call: "c1".to_owned(),
                tool: None,
                content: "\"42\"".to_owned(),
            };
            assert_eq!(found, [expected], "{api:?}");
        }
    }

    #[test]
    fn results_are_labelled_with_the_tool_that_was_called() {
        let chat = json!({"messages": [
            {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "read_mail"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
            {"role": "tool", "tool_call_id": "c2", "content": "42"}]});
        let responses = json!({"input": [
            {"type": "function_call", "call_id": "c1", "name": "read_mail", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "42"}]});
        let messages = json!({"messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "read_mail",
                "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "42"}]}]});
        for (api, request) in [
            (Api::Chat, chat),
            (Api::Responses, responses),
            (Api::Messages, messages),
        ] {
            let results = of(api, request).results;
            assert_eq!(results[0].tool.as_deref(), Some("read_mail"), "{api:?}");
            assert!(results.iter().skip(1).all(|result| result.tool.is_none()));
        }
    }

    #[test]
    fn what_the_provider_would_fetch_is_found() {
        let part = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
        for remote in [
            json!({"type": "image_url", "image_url": {"url": "https://evil.example/?q"}}),
            json!({"type": "image_url", "image_url": "https://evil.example/?q"}),
            json!({"type": "file", "file": {"file_id": "file-1"}}),
            json!({"type": "input_file", "file_url": "https://evil.example/"}),
            json!({"type": "image", "source": {"type": "url", "url": "https://evil.example/"}}),
            json!({"type": "document", "source": {"type": "file", "file_id": "f"}}),
            json!({"type": "tool_result", "tool_use_id": "x", "content": [
                {"type": "image", "source": {"type": "url", "url": "https://evil.example/"}}]}),
            json!({"type": "item_reference", "id": "msg_1"}),
            json!({"type": "image_url", "image_url": {}}),
        ] {
            assert!(
                !of(Api::Chat, part(remote.clone())).remote.is_empty(),
                "{remote}"
            );
        }
        for own in [
            json!({"type": "text", "text": "see https://example.org"}),
            json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}),
            json!({"type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}),
            json!({"type": "tool_use", "id": "x", "name": "read", "input": {"file_id": "7"}}),
        ] {
            assert!(
                of(Api::Messages, part(own.clone())).remote.is_empty(),
                "{own}"
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_in_it_nothing_panics(text in "[\\[\\]{}\",:a-z_]{0,60}") {
            if let Ok(Value::Object(request)) = serde_json::from_str(&text) {
                let _ = Traffic::of_request(Api::Responses, &request);
            }
        }
    }
}
