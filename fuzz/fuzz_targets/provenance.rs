//! Annotations are read without a panic, and no value that only untrusted content holds is accepted.
#![no_main]
use std::collections::BTreeMap;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use provenance::{Annotations, Called, Ledger, draft};
use serde_json::{Map, Value, json};

const KINDS: [&str; 12] = [
    "any", "address", "account", "url", "path", "identifier", "number", "date", "datetime", "time", "name", "exact",
];

fuzz_target!(|texts: (&str, &str, &str, u8)| {
    let (annotations, purpose, value, kind) = texts;
    if let Ok(annotations) = Annotations::parse(Path::new("annotations/x.toml"), annotations) {
        let mut ledger = Ledger::new();
        ledger.note_input(purpose, &BTreeMap::from([("p".to_owned(), value.to_owned())]), None);
        let result: Value = serde_json::from_str(value).unwrap_or(Value::Null);
        for tool in annotations.tools() {
            ledger.note_result(Some(&annotations), &Called::new("x", tool, &Map::new()), &result);
            let arguments = Map::from_iter([(purpose.to_owned(), result.clone())]);
            let _ = ledger.check(&annotations, tool, &arguments).to_string();
        }
    }
    let kind = KINDS[usize::from(kind) % KINDS.len()];
    let own = format!("[tools.act]\nsinks = {{ a = \"{kind}\" }}\n");
    let own = Annotations::parse(Path::new("annotations/x.toml"), &own).expect("constant");
    let mut ledger = Ledger::new();
    ledger.note_input("", &BTreeMap::new(), None);
    ledger.note_result(Some(&own), &Called::new("x", "read", &Map::new()), &json!([purpose, value]));
    let arguments = Map::from_iter([("a".to_owned(), Value::String(value.to_owned()))]);
    assert_eq!(ledger.check(&own, "act", &arguments).is_accepted(), value.is_empty(), "{kind} {value:?}");
    let drafted = draft("x", &json!([{ "name": purpose, "inputSchema": { "properties": { value: {} } } }]));
    let read = Annotations::parse(Path::new("annotations/x.toml"), &drafted);
    assert!(read.is_ok() || value.len() > 400 || value.matches('/').count() > 12, "{drafted}");
});
