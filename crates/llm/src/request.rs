//! A request's body: read strictly, turned into what is attempted, and written again for the provider
//! with as few changes as can be.
//!
//! What a decision sees of it ([`Asked::arguments`]):
//! - `max_tokens`: the longest answer that is asked for, whichever of `max_tokens`,
//!   `max_completion_tokens` and `max_output_tokens` said it (the largest, if several did);
//! - `messages`, `input`, `prompt`, `system` and `instructions` as `{ "items": n, "bytes": n }`, and
//!   `stream` and `stream_options` as they are: but only where the grant names them, so that a grant
//!   that constrains something else need not;
//! - `anthropic-beta`: the names in that header, as an array;
//! - every other member but `model` as it is.

use std::fmt;

use bytes::Bytes;
use http::StatusCode;
use model::json::{self, StrictJsonError};
use model::{Grant, ServerName};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::meter::Bound;
use crate::refusal::Refusal;
use crate::surface::Api;
use crate::traffic::Traffic;

/// The members that say how long an answer may be.
const LONGEST_ANSWER: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
/// Members that hold content, and of which a decision sees the size.
const CONTENT: [&str; 5] = ["messages", "input", "prompt", "system", "instructions"];
/// Members that are about how the answer travels.
const TRANSPORT: [&str; 2] = ["stream", "stream_options"];
/// Longest name of a model, in bytes.
const MODEL_BYTES: usize = 256;
/// Longest name of a member, in bytes.
const MEMBER_BYTES: usize = 64;
/// Most answers to one request.
const MOST_ANSWERS: u64 = 128;
/// Tokens that a picture is at most, or what a provider fetches is taken for.
const PICTURE_TOKENS: u64 = 8_192;
const REMOTE_TOKENS: u64 = 65_536;

/// A request for a model, read.
#[derive(Debug)]
pub struct Asked {
    /// What is asked for.
    pub api: Api,
    /// The model, in the agent's words.
    pub model: String,
    /// Whether the answer shall come as a stream.
    pub stream: bool,
    /// The tools and results in it.
    pub traffic: Traffic,
    /// All members but the model.
    members: Map<String, Value>,
    /// The longest answer that it asks for, in tokens.
    longest: Option<u64>,
    /// How many answers it asks for.
    answers: u64,
    body: Bytes,
}

impl Asked {
    /// Reads a body.
    ///
    /// # Errors
    /// [`Refusal`] when it is not JSON that every reader takes the same, or has a member that is not
    /// what the API says.
    pub fn read(api: Api, body: Bytes, limits: json::Limits) -> Result<Self, Refusal> {
        let value = json::parse(&body, limits).map_err(|error| match error {
            StrictJsonError::TooLong { .. } => Refusal::protocol(
                StatusCode::PAYLOAD_TOO_LARGE,
                error.to_string(),
                "send less at once",
            ),
            StrictJsonError::Malformed(_) => Refusal::protocol(
                StatusCode::BAD_REQUEST,
                error.to_string(),
                "send one JSON object",
            ),
        })?;
        let Value::Object(mut members) = value else {
            let reason = "the body is not a JSON object";
            return Err(Refusal::protocol(
                StatusCode::BAD_REQUEST,
                reason,
                "send one",
            ));
        };
        // Some servers read names whatever their case, and would see another request than this one.
        if let Some(name) = members.keys().find(|name| !is_member(name)) {
            let shown: String = name.chars().take(40).flat_map(char::escape_debug).collect();
            let reason = format!("`{shown}` is not a name of a parameter");
            return Err(Refusal::malformed("", reason));
        }
        let model = match members.shift_remove("model") {
            Some(Value::String(model)) if is_model(&model) => model,
            _ => {
                return Err(Refusal::malformed(
                    "model",
                    "`model` is not the name of a model",
                ));
            }
        };
        let stream = match members.get("stream") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(stream)) => *stream,
            Some(_) => return Err(Refusal::malformed("stream", "`stream` is not a boolean")),
        };
        if stream && !api.generates() {
            return Err(Refusal::malformed("stream", "there are no streams of this"));
        }
        let mut longest = None;
        for name in LONGEST_ANSWER {
            longest = longest.max(count(&members, name, u64::from(u32::MAX))?);
        }
        // Of several answers, or the best of them, each is written.
        let answers =
            count(&members, "n", MOST_ANSWERS)?.max(count(&members, "best_of", MOST_ANSWERS)?);
        let prompts = match members.get("prompt") {
            Some(Value::Array(prompts))
                if prompts.iter().any(|p| p.is_string() || p.is_array()) =>
            {
                prompts.len() as u64
            }
            _ => 1,
        };
        Ok(Self {
            api,
            model,
            stream,
            traffic: Traffic::of_request(api, &members),
            members,
            longest,
            answers: answers.unwrap_or(1).max(1).saturating_mul(prompts.max(1)),
            body,
        })
    }

    /// The body as it was sent.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// A member as it was sent; absent and null are the same.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    /// What a decision sees of it.
    #[must_use]
    pub fn arguments(&self, names: &Names<'_>, betas: &[String]) -> Map<String, Value> {
        let mut arguments = Map::new();
        if let Some(longest) = self.longest {
            arguments.insert("max_tokens".to_owned(), longest.into());
        }
        for (name, value) in &self.members {
            let name = name.as_str();
            if LONGEST_ANSWER.contains(&name) {
                continue;
            }
            let unnamed = !names.name(name);
            if (CONTENT.contains(&name) || TRANSPORT.contains(&name)) && unnamed {
                continue;
            }
            let value = if CONTENT.contains(&name) {
                size(value)
            } else {
                value.clone()
            };
            arguments.insert(name.to_owned(), value);
        }
        if !betas.is_empty() {
            arguments.insert("anthropic-beta".to_owned(), json!(betas));
        }
        arguments
    }

    /// What it may use up at most. `default` is the longest answer when it does not say.
    #[must_use]
    pub fn bound(&self, default: u64) -> Bound {
        if self.api == Api::CountTokens {
            return Bound {
                input: 0,
                output: 0,
            };
        }
        let text = self.body.len().saturating_sub(self.traffic.picture_bytes) as u64;
        let pictures = (self.traffic.pictures as u64).saturating_mul(PICTURE_TOKENS);
        let remote = (self.traffic.remote.len() as u64).saturating_mul(REMOTE_TOKENS);
        let output = if self.api.generates() {
            let each = self.longest.unwrap_or(default);
            each.saturating_mul(self.answers)
        } else {
            0
        };
        Bound {
            input: text.saturating_add(pictures).saturating_add(remote),
            output,
        }
    }

    /// The body for a provider that calls the model `model`: with the length of the answer limited to
    /// `longest` if the request does not say how long it may be, and with the usage at the end of a
    /// stream. If nothing has to change, these are the bytes that came.
    #[must_use]
    pub fn body_for(&self, model: &str, longest: Option<u64>) -> Bytes {
        let longest = longest.filter(|_| self.longest.is_none());
        let limit = match self.api {
            Api::Chat => Some("max_completion_tokens"),
            Api::Responses => Some("max_output_tokens"),
            Api::Completions => Some("max_tokens"),
            _ => None,
        };
        let usage = self.stream && matches!(self.api, Api::Chat | Api::Completions);
        let reported = self.members.get("stream_options");
        let reports = |options: &Value| options.get("include_usage") == Some(&Value::Bool(true));
        let mut changes: Vec<(&str, Value)> = Vec::new();
        if model != self.model {
            changes.push(("model", model.into()));
        }
        if usage && !reported.is_some_and(reports) {
            let options = reported.and_then(Value::as_object).cloned();
            let mut options = options.unwrap_or_default();
            options.insert("include_usage".to_owned(), true.into());
            changes.push(("stream_options", options.into()));
        }
        if let Some((name, longest)) = limit.zip(longest) {
            changes.push((name, longest.into()));
        }
        if changes.is_empty() {
            return self.body.clone();
        }
        // It was read before, so it is read again; should it not be, the copy says the same.
        let written = match serde_json::from_slice::<Written<'_>>(&self.body) {
            Ok(written) => written.with(&changes),
            Err(_) => {
                let mut members = self.members.clone();
                members.insert("model".to_owned(), self.model.clone().into());
                members.extend(
                    changes
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value)),
                );
                Value::Object(members).to_string()
            }
        };
        written.into()
    }
}

/// The names that are in use for parameters of both surfaces: in lower case, and with underscores.
fn is_member(name: &str) -> bool {
    (1..=MEMBER_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b))
}

fn is_model(name: &str) -> bool {
    (1..=MODEL_BYTES).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}

fn count(members: &Map<String, Value>, name: &str, most: u64) -> Result<Option<u64>, Refusal> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|count| *count <= most) {
            Some(count) => Ok(Some(count)),
            None => {
                let reason = format!("`{name}` is not a whole number from 0 to {most}");
                Err(Refusal::malformed(name, reason))
            }
        },
    }
}

/// How much content is in a value.
fn size(value: &Value) -> Value {
    let items = value.as_array().map_or(1, Vec::len);
    let bytes = value
        .as_str()
        .map_or_else(|| value.to_string().len(), str::len);
    json!({ "items": items, "bytes": bytes })
}

/// Which arguments the constraints of a grant name for a model.
pub struct Names<'a> {
    keys: Vec<&'a str>,
}

impl<'a> Names<'a> {
    /// What a grant names for a model of a server.
    #[must_use]
    pub fn of(grant: &'a Grant, server: &ServerName, model: &str) -> Self {
        let permissions = grant.permissions.iter().filter(|p| p.server == *server);
        let models = permissions.flat_map(|permission| permission.models.iter());
        let covering = models.filter(|call| call.name.matches(model));
        let keys = covering.flat_map(|call| call.arguments.keys().map(String::as_str));
        Self {
            keys: keys.collect(),
        }
    }

    /// Whether a constraint is about this argument, or a part of it.
    #[must_use]
    pub fn name(&self, argument: &str) -> bool {
        self.keys.iter().any(|key| {
            let first = match key.strip_prefix('/') {
                Some(pointer) => pointer.split('/').next().unwrap_or_default(),
                None => key,
            };
            first == argument
        })
    }
}

/// The members of a body, each with the text of its value.
struct Written<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Written<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Written<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = access.next_entry()? {
                    members.push(member);
                }
                Ok(Written(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl Written<'_> {
    /// The object with some members replaced or added; the others keep their text.
    fn with(&self, changes: &[(&str, Value)]) -> String {
        let changed = |name: &str| changes.iter().any(|(new, _)| *new == name);
        let kept = self.0.iter().filter(|(name, _)| !changed(name));
        let kept = kept.map(|(name, value)| (name.as_str(), value.get().to_owned()));
        let changes = changes
            .iter()
            .map(|(name, value)| (*name, value.to_string()));
        let mut text = String::from("{");
        for (name, value) in kept.chain(changes) {
            if text.len() > 1 {
                text.push(',');
            }
            // Names are plain: they were checked when the body was read.
            text.push('"');
            text.push_str(name);
            text.push_str("\":");
            text.push_str(&value);
        }
        text.push('}');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: json::Limits = json::Limits {
        bytes: 1 << 20,
        depth: 32,
    };

    fn read(api: Api, text: &str) -> Result<Asked, Refusal> {
        Asked::read(api, Bytes::copy_from_slice(text.as_bytes()), LIMITS)
    }

    fn chat(text: &str) -> Asked {
        read(Api::Chat, text).unwrap()
    }

    fn names(arguments: Value) -> Grant {
        serde_json::from_value(json!({
            "permissions": [{"type": "sallyport_llm", "server": "ai",
                "models": [{"name": "small*", "arguments": arguments}]}],
            "budget": {"calls": 1}, "proof": "dpop",
        }))
        .unwrap()
    }

    fn arguments(asked: &Asked, grant: &Grant) -> Value {
        let server = ServerName::parse("ai").unwrap();
        let names = Names::of(grant, &server, &asked.model);
        asked.arguments(&names, &[]).into()
    }

    #[test]
    fn what_readers_may_take_differently_is_refused() {
        for bad in [
            r#"{"model":"small","Model":"large"}"#,
            r#"{"model":"small","model":"large"}"#,
            r#"{"model":"small","mode\u006c":"large"}"#,
            r#"{"model":"small","ſtream":true}"#,
            r#"{"model":["small"]}"#,
            r#"{"model":""}"#,
            r#"{"model":"small\u0000"}"#,
            r#"{"model":"small","stream":"yes"}"#,
            r#"{"model":"small","max_tokens":-1}"#,
            r#"{"model":"small","max_tokens":1.5}"#,
            r#"{"model":"small","max_completion_tokens":99999999999}"#,
            r#"{"model":"small","n":1000}"#,
            r#"{"model":"small"} {}"#,
            r#"["small"]"#,
            "",
        ] {
            assert!(read(Api::Chat, bad).is_err(), "{bad}");
        }
        assert!(read(Api::Embeddings, r#"{"model":"small","stream":true}"#).is_err());
    }

    #[test]
    fn content_is_seen_by_size_and_only_where_it_is_named() {
        let asked = chat(
            r#"{"model":"small-1","messages":[{"role":"user","content":"secret"}],"stream":true,
                "temperature":0.5,"max_tokens":7,"max_completion_tokens":9,"tools":[]}"#,
        );
        let plain = arguments(&asked, &names(json!({})));
        assert_eq!(
            plain,
            json!({"max_tokens": 9, "temperature": 0.5, "tools": []})
        );
        let grant = names(json!({"/messages/bytes": {"max": 100}, "stream": {"equals": true}}));
        let named = arguments(&asked, &grant);
        assert_eq!(named["messages"], json!({"items": 1, "bytes": 36}));
        assert_eq!(named["stream"], true);
        assert!(!named.to_string().contains("secret"));
    }

    #[test]
    fn the_bound_is_never_below_what_may_be_used() {
        let body = r#"{"model":"m","messages":[],"max_tokens":10,"n":3}"#;
        let bound = chat(body).bound(500);
        assert_eq!((bound.input, bound.output), (body.len() as u64, 30));
        assert_eq!(chat(r#"{"model":"m"}"#).bound(500).output, 500);
        let prompts = r#"{"model":"m","prompt":["a","b"],"best_of":2,"n":1,"max_tokens":5}"#;
        assert_eq!(read(Api::Completions, prompts).unwrap().bound(1).output, 20);
        let picture = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"image_url",
                "image_url":{{"url":"data:image/png;base64,{}"}}}}]}}]}}"#,
            "A".repeat(100_000)
        );
        let bound = chat(&picture).bound(0);
        assert!(bound.input > PICTURE_TOKENS && bound.input < PICTURE_TOKENS + 1_000);
    }

    #[test]
    fn bytes_pass_as_they_came_unless_something_must_change() {
        let body = r#"{ "model":"m", "temperature":1.0, "seed":18446744073709551616 }"#;
        let asked = chat(body);
        assert_eq!(asked.body_for("m", None), body);
        let other = asked.body_for("n", Some(64));
        assert_eq!(
            other,
            r#"{"temperature":1.0,"seed":18446744073709551616,"model":"n","max_completion_tokens":64}"#
        );
        let said = chat(r#"{"model":"m","max_tokens":5}"#);
        assert_eq!(said.body_for("m", Some(64)), *said.body());
        let stream = chat(r#"{"model":"m","stream":true,"stream_options":{"x":1}}"#);
        assert_eq!(
            stream.body_for("m", None),
            r#"{"model":"m","stream":true,"stream_options":{"x":1,"include_usage":true}}"#
        );
        let reports =
            chat(r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#);
        assert_eq!(reports.body_for("m", None), *reports.body());
    }

    proptest! {
        #[test]
        fn what_is_forwarded_says_what_was_read(
            text in "[a-z\"\\\\{}\\[\\]é]{0,12}", number in any::<f64>(), stream in any::<bool>(),
        ) {
            let number = if number.is_finite() { number } else { 0.0 };
            let request = json!({"messages": [{"content": text}], "temperature": number,
                "model": "m", "stream": stream, "user": text});
            let asked = chat(&request.to_string());
            // As it reads: not every number survives being written by the library.
            let request: Value = serde_json::from_str(&request.to_string()).unwrap();
            let sent: Value = serde_json::from_slice(&asked.body_for("n", Some(5))).unwrap();
            prop_assert_eq!(&sent["model"], "n");
            prop_assert_eq!(&sent["max_completion_tokens"], 5);
            for member in ["messages", "temperature", "user", "stream"] {
                prop_assert_eq!(&sent[member], &request[member]);
            }
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Asked::read(Api::Messages, Bytes::from(bytes), LIMITS);
        }
    }
}
