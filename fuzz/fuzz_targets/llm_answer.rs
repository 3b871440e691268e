//! Answers of models, whole and in events: looked at and counted without a panic, and never without bound.
#![no_main]
use libfuzzer_sys::fuzz_target;
use llm::meter::{Bound, Meter};
use llm::surface::Api;
use llm::traffic::{Calls, written};
use serde_json::Value;

const APIS: [Api; 4] = [Api::Chat, Api::Responses, Api::Completions, Api::Messages];

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (api, whole, bytes) = input;
    let api = APIS[usize::from(api) % APIS.len()];
    let mut calls = Calls::default();
    let mut meter = Meter::new(None, Bound { input: 1, output: 1 });
    let mut told = 0u64;
    for event in bytes.split(|byte| *byte == b'\n') {
        let Ok(value) = serde_json::from_slice::<Value>(event) else {
            continue;
        };
        meter.wrote(written(api, &value));
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
});
