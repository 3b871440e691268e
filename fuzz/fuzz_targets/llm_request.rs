//! Requests for models: what is forwarded says what was read, but for what must change.
#![no_main]
use libfuzzer_sys::fuzz_target;
use llm::request::Asked;
use llm::surface::Api;
use model::json::{Limits, parse};
use serde_json::Value;

const APIS: [Api; 5] = [
    Api::Chat,
    Api::Responses,
    Api::Completions,
    Api::Embeddings,
    Api::Messages,
];
const CHANGED: [&str; 5] = [
    "model",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
];

fuzz_target!(|input: (u8, &[u8])| {
    let (api, bytes) = input;
    let api = APIS[usize::from(api) % APIS.len()];
    let limits = Limits {
        bytes: 1 << 16,
        depth: 32,
    };
    let Ok(asked) = Asked::read(api, bytes.to_vec().into(), limits) else {
        return;
    };
    let _ = asked.bound(u64::MAX);
    assert_eq!(asked.body_for(&asked.model, None).is_empty(), false);
    let sent = asked.body_for("another", Some(5));
    let (Ok(Value::Object(before)), Ok(Value::Object(after))) =
        (parse(bytes, limits), parse(&sent, Limits { bytes: 1 << 17, depth: 32 }))
    else {
        panic!("what was read is an object, and what is sent is one");
    };
    assert_eq!(after["model"], "another");
    for (name, value) in &before {
        assert!(CHANGED.contains(&name.as_str()) || after[name] == *value);
    }
});
