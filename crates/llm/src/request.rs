//! A request's body: read strictly, turned into what is attempted, and written again for the provider
//! with as few changes as can be.

use bytes::Bytes;
use http::StatusCode;
use model::json::{self, StrictJsonError};
use serde_json::{Map, Value};

use crate::meter::Bound;
use crate::refusal::Refusal;
use crate::surface::Api;
use crate::traffic::Traffic;

mod arguments;
mod parts;
mod rewrite;

pub use arguments::Names;
pub use parts::{Kind, Part, Place};

/// The members that say how long an answer may be.
const LONGEST_ANSWER: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
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
    /// What stands in place of members that may not pass as they came.
    replaced: Map<String, Value>,
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
            replaced: Map::new(),
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

    /// What it may use up at most. `default` is the longest answer when it does not say.
    #[must_use]
    pub fn bound(&self, default: u64) -> Bound {
        if self.api == Api::CountTokens {
            return Bound {
                input: 0,
                output: 0,
                text: 0,
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
            text: self.traffic.text_bytes as u64,
        }
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

    pub(super) fn chat(text: &str) -> Asked {
        read(Api::Chat, text).unwrap()
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

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Asked::read(Api::Messages, Bytes::from(bytes), LIMITS);
        }
    }
}
