//! What the events of streams carry: which texts go on from event to event, and which are all there.
//!
//! | surface | event | what goes on | what is whole |
//! | --- | --- | --- | --- |
//! | chat completions | `chat.completion.chunk` | all texts of `choices[].delta`: `content`, `refusal`, `reasoning_content`, `function_call`, `tool_calls[]`, `audio.transcript` | `choices[].message` of those who send it, `choices[].logprobs`, `delta.annotations[]`, `moderation`, `error` |
//! | completions | `text_completion` | `choices[].text` | `choices[].logprobs` |
//! | responses | `response.{output_text,refusal,reasoning_text,reasoning_summary_text}.delta`, `response.{function_call,mcp_call}_arguments.delta`, `response.custom_tool_call_input.delta`, `response.code_interpreter_call_code.delta`, `response.shell_call_command.delta`, `response.audio.transcript.delta`, any other `.delta` | `delta`, a text or an object of texts | `logprobs[]` |
//! | | `.done` of each of them | | `text`, `refusal`, `arguments`, `input`, `code`, `command`, `output[]` |
//! | | `response.{output_item,content_part,reasoning_summary_part,shell_call_command}.added` | | the first words of what goes on: `text`, `refusal`, `arguments`, `input`, `code`, `command` |
//! | | `response.{output_item,content_part,reasoning_summary_part}.done`, `response.output_text.annotation.added` | | `item`, `part`, `annotation` |
//! | | `response.{created,queued,in_progress,completed,incomplete,failed}` | | `response.output[]`, `response.error`, and the request once more |
//! | | `response.audio.delta`, `response.image_generation_call.partial_image` | | base64 |
//! | | `error` | | `message`, `code`, `param` |
//! | messages | `content_block_delta` | `delta.{text,thinking,partial_json,content}` | `delta.citation`; `delta.signature` is base64 |
//! | | `content_block_start` | | the first words of what goes on: `content_block.{text,thinking}`; `name`, `input`, results of the provider's tools |
//! | | `message_start`, `message_delta`, `error` | | `message.content[]`, `delta.stop_sequence`, `error.message` |
//! | embeddings | no events | | nothing: numbers, or base64 of them |
//!
//! The table says what is special; whatever it does not name, in events that it names and in all others,
//! is whole. So nothing has to be known to be looked at.

use std::hash::{BuildHasher as _, DefaultHasher, Hasher as _, RandomState};
use std::sync::LazyLock;

use gateway::inspection::{Role, Spot, is_binary};
use serde_json::Value;

use super::{array, text};
use crate::surface::Api;

/// Deepest nesting of an event that is looked at: no deeper one is read.
const DEEPEST: usize = 128;

/// Members whose text is base64 of something, by what the surfaces say.
const ENCODED: [&str; 9] = [
    "b64_json",
    "data",
    "embedding",
    "encrypted_content",
    "encrypted_index",
    "encrypted_stdout",
    "partial_image_b64",
    "result",
    "signature",
];

/// Members that say what something is, and not what the model wrote.
const LABELS: [&str; 24] = [
    "type",
    "role",
    "id",
    "call_id",
    "item_id",
    "file_id",
    "container_id",
    "tool_use_id",
    "status",
    "object",
    "model",
    "stop_reason",
    "stop_sequence",
    "finish_reason",
    "signature",
    "encrypted_content",
    "system_fingerprint",
    "service_tier",
    "obfuscation",
    "token",
    "tokens",
    "phase",
    "server_label",
    "event_id",
];

/// A text in an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// It goes on with what came at this spot.
    Piece(Spot, &'a str),
    /// It is the first words of what goes on at this spot.
    First(Spot, &'a str),
    /// It is whole.
    Whole {
        /// The spot of such texts in such events.
        spot: Spot,
        /// The text.
        text: &'a str,
        /// Whether the model wrote it, as far as can be told.
        wrote: bool,
    },
    /// The name of a member.
    Name(&'a str),
}

impl<'a> Heard<'a> {
    /// The text.
    #[must_use]
    pub fn text(&self) -> &'a str {
        match self {
            Self::Piece(_, text)
            | Self::First(_, text)
            | Self::Whole { text, .. }
            | Self::Name(text) => text,
        }
    }

    /// The text, if it is no name of a member.
    #[must_use]
    pub fn value(&self) -> Option<&'a str> {
        match self {
            Self::Name(_) => None,
            other => Some(other.text()),
        }
    }
}

/// The role of a text when an answer, or an event, is looked at: by the name of its member.
#[must_use]
pub fn role(name: &str, text: &str) -> Role {
    match text.split_once(";base64,") {
        // A picture, most likely; the model does not read it.
        Some((head, data)) if head.starts_with("data:") && is_binary(data) => Role::Known,
        _ if ENCODED.contains(&name) => Role::Base64,
        _ => Role::Own,
    }
}

/// Whether a member says what something is, and not what the model wrote.
pub(super) fn is_label(name: &str) -> bool {
    LABELS.contains(&name)
}

/// Hears all texts of an event, but for base64 of what is no text.
pub fn hear<'a>(api: Api, event: &'a Value, hear: &mut dyn FnMut(Heard<'a>)) {
    let kind = text(event, "type").unwrap_or_default();
    let number = |names: &[&str]| {
        let mut found = names.iter().filter_map(|name| event.get(*name)?.as_u64());
        found.next().unwrap_or(0)
    };
    let at = [
        number(&["output_index", "index"]),
        number(&["content_index", "summary_index", "command_index"]),
    ];
    let mut listener = Listener { api, kind, hear };
    let here = Here {
        name: "",
        of: kind,
        part: Part::Event,
        at,
        path: PATHS.build_hasher(),
    };
    listener.value(event, &here, DEEPEST);
}

/// Paths are hashed with a key that whoever makes up names does not know: two that differ stay apart.
static PATHS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What a part of an event is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The event itself.
    Event,
    /// The choices of a completion.
    Choices,
    /// A whole answer of responses.
    Response,
    /// Pieces of what goes on.
    Piece,
    /// The first words of what goes on.
    First,
    /// What the model wrote.
    Written,
    /// Something about it.
    About,
}

/// Where a listener is.
#[derive(Clone)]
struct Here<'a> {
    /// The member.
    name: &'a str,
    /// The type of the object that it is in.
    of: &'a str,
    part: Part,
    at: [u64; 2],
    path: DefaultHasher,
}

struct Listener<'a, 'h> {
    api: Api,
    kind: &'a str,
    hear: &'h mut dyn FnMut(Heard<'a>),
}

impl<'a> Listener<'a, '_> {
    fn value(&mut self, value: &'a Value, here: &Here<'a>, left: usize) {
        let Some(left) = left.checked_sub(1) else {
            return;
        };
        match value {
            Value::String(text) => self.text(text, here),
            Value::Array(items) => {
                for (position, item) in (0..).zip(items) {
                    let index = item.get("index").and_then(Value::as_u64);
                    let mut inside = here.clone();
                    let level = usize::from(here.part != Part::Choices);
                    inside.at[level] = index.unwrap_or(position);
                    self.value(item, &inside, left);
                }
            }
            Value::Object(members) => {
                let of = text(value, "type").unwrap_or_default();
                for (name, value) in members {
                    (self.hear)(Heard::Name(name));
                    let mut inside = self.inside(here, of, name);
                    if inside.part == Part::Piece && !value.is_string() && !goes_on_inside(name) {
                        inside.part = Part::Written;
                    }
                    self.value(value, &inside, left);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A member of what is here.
    fn inside(&self, here: &Here<'a>, of: &'a str, name: &'a str) -> Here<'a> {
        let is_delta = self.kind.ends_with(".delta");
        let is_added = self.kind.ends_with(".added");
        let mut path = here.path.clone();
        let part = match (self.api, here.part, name) {
            (Api::Chat | Api::Completions, Part::Event, "choices") => Part::Choices,
            (_, Part::Choices, "delta" | "text") => Part::Piece,
            (_, Part::Choices, _) => Part::Written,
            (Api::Responses, Part::Event, "response") => Part::Response,
            (_, Part::Response, "output" | "output_text") => Part::Written,
            (_, Part::Response, _) => Part::About,
            (Api::Responses, Part::Event, "delta") if is_delta => Part::Piece,
            (Api::Responses, Part::Event, "item" | "part" | "command") if is_added => Part::First,
            (Api::Messages, Part::Event, "delta") if self.kind == "content_block_delta" => {
                Part::Piece
            }
            (Api::Messages, Part::Event, "content_block") => Part::First,
            (_, Part::Event, _) => Part::Written,
            (_, part, _) => part,
        };
        // Pieces and first words meet at the same spot, whatever they are in.
        let named = match (part, here.part) {
            (Part::Piece, Part::Event) if self.api == Api::Responses => of_events(self.kind),
            (Part::First, Part::Event) if name == "command" => name,
            (Part::Piece | Part::First, Part::Event | Part::Choices) => "",
            (Part::First, _) => of_first(of, name),
            _ => name,
        };
        if part == Part::First && !named.is_empty() {
            path = PATHS.build_hasher();
        }
        if !named.is_empty() {
            path.write(named.as_bytes());
            path.write_u8(0xff);
        }
        Here {
            name,
            of,
            part,
            at: here.at,
            path,
        }
    }

    fn text(&mut self, text: &'a str, here: &Here<'a>) {
        let is_data = match role(here.name, text) {
            Role::Known => true,
            Role::Base64 => is_binary(text),
            Role::Own | Role::Piece => self.kind == "response.audio.delta" && is_binary(text),
        };
        if is_data {
            return;
        }
        let spot = Spot([here.at[0], here.at[1], here.path.finish()]);
        let is_label = is_label(here.name);
        (self.hear)(match here.part {
            Part::Piece if !is_label => Heard::Piece(spot, text),
            Part::First if begins(here.name) => Heard::First(spot, text),
            part => {
                let mut path = here.path.clone();
                path.write(here.of.as_bytes());
                path.write(self.kind.as_bytes());
                Heard::Whole {
                    spot: Spot([u64::MAX, 0, path.finish()]),
                    text,
                    wrote: part != Part::About && !is_label,
                }
            }
        });
    }
}

/// Whether what this member holds is made of pieces. Anything else inside of pieces, such as what is cited,
/// is there at once.
fn goes_on_inside(name: &str) -> bool {
    matches!(
        name,
        "delta" | "tool_calls" | "function_call" | "function" | "custom" | "audio" | "content"
    )
}

/// Whether texts that go on may begin in this member.
fn begins(name: &str) -> bool {
    matches!(
        name,
        "text" | "refusal" | "thinking" | "arguments" | "input" | "code" | "command" | "transcript"
    )
}

/// The member that what comes in such events of responses is for.
fn of_events(kind: &str) -> &str {
    match kind.strip_suffix(".delta").unwrap_or(kind) {
        "response.output_text" => "text",
        "response.refusal" => "refusal",
        "response.function_call_arguments" | "response.mcp_call_arguments" => "arguments",
        "response.custom_tool_call_input" => "input",
        "response.code_interpreter_call_code" => "code",
        "response.shell_call_command" => "command",
        "response.audio.transcript" => "transcript",
        "response.reasoning_text" => "reasoning_text",
        "response.reasoning_summary_text" => "summary_text",
        other => other,
    }
}

/// The same for a member of a part, an item or a block of this type.
fn of_first<'a>(of: &'a str, name: &'a str) -> &'a str {
    match (of, name) {
        ("reasoning_text" | "summary_text", "text") => of,
        _ => name,
    }
}

/// Whether an event says that the answer, or what the model writes, is over.
#[must_use]
pub fn ends(api: Api, event: &Value) -> bool {
    let kind = text(event, "type").unwrap_or_default();
    match api {
        Api::Responses => matches!(
            kind,
            "response.completed" | "response.incomplete" | "response.failed" | "error"
        ),
        Api::Messages => matches!(kind, "message_delta" | "message_stop" | "error"),
        _ => array(event.get("choices"))
            .iter()
            .any(|choice| choice.get("finish_reason").is_some_and(Value::is_string)),
    }
}

#[cfg(test)]
mod tests;
