//! Providers of models: what they are asked, and what they answer.

use llm::meter::{Bound, Meter};
use llm::request::Asked;
use llm::surface::Api;
use llm::traffic::{Calls, Heard, ends, hear, written};
use model::json::{Limits, parse};
use serde_json::Value;

use crate::LIMITS;

const ASKED: [Api; 5] = [
    Api::Chat,
    Api::Responses,
    Api::Completions,
    Api::Embeddings,
    Api::Messages,
];
const ANSWERED: [Api; 4] = [Api::Chat, Api::Responses, Api::Completions, Api::Messages];
const CHANGED: [&str; 5] = [
    "model",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
];

/// Requests: what is forwarded says what was read, but for what must change. The first byte is the API.
pub fn request(bytes: &[u8]) {
    let Some((api, bytes)) = bytes.split_first() else {
        return;
    };
    let api = ASKED[usize::from(*api) % ASKED.len()];
    let Ok(asked) = Asked::read(api, bytes.to_vec().into(), LIMITS) else {
        return;
    };
    let _ = asked.bound(u64::MAX);
    assert!(!asked.body_for(&asked.model, None).is_empty());
    let sent = asked.body_for("another", Some(5));
    let longer = Limits {
        bytes: 1 << 17,
        depth: 32,
    };
    let (Ok(Value::Object(before)), Ok(Value::Object(after))) =
        (parse(bytes, LIMITS), parse(&sent, longer))
    else {
        panic!("what was read is an object, and what is sent is one");
    };
    assert_eq!(after["model"], "another");
    for (name, value) in &before {
        assert!(CHANGED.contains(&name.as_str()) || after[name] == *value);
    }
}

/// Answers, whole and in events: looked at and counted without a panic, and never without bound. The first byte is the
/// API, the second says whether it is whole; events are lines.
pub fn answer(bytes: &[u8]) {
    let &[api, whole, ref bytes @ ..] = bytes else {
        return;
    };
    let (api, whole) = (ANSWERED[usize::from(api) % ANSWERED.len()], whole & 1 == 1);
    let mut calls = Calls::default();
    let mut meter = Meter::new(
        None,
        Bound {
            input: 1,
            output: 1,
            text: 1,
        },
    );
    let mut told = 0u64;
    for event in bytes.split(|byte| *byte == b'\n') {
        let Ok(value) = serde_json::from_slice::<Value>(event) else {
            continue;
        };
        let mut heard = 0;
        hear(api, &value, &mut |one| {
            if let Heard::Piece(_, text) | Heard::First(_, text) = one {
                heard += text.len();
            }
        });
        let _ = ends(api, &value);
        meter.wrote(if whole { written(api, &value) } else { heard });
        if let Some(usage) = value.get("usage") {
            meter.reports(usage, whole);
        }
        if whole {
            calls.answer(api, &value);
        } else {
            calls.event(api, &value);
        }
        told = told.saturating_add(meter.so_far().tokens);
    }
    assert!(told.saturating_add(meter.rest().tokens) >= told);
    let kept: usize = calls.iter().map(|call| call.arguments.len()).sum();
    assert!(kept <= bytes.len());
}
