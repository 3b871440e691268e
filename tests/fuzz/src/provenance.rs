//! Annotations, and the ledger of what a task has seen.

use std::collections::BTreeMap;
use std::path::Path;

use provenance::ledger::Recalled;
use provenance::{Annotations, Called, Ledger, draft};
use serde_json::{Map, Value, json};

use crate::{parts, text};

const KINDS: [&str; 12] = [
    "any",
    "address",
    "account",
    "url",
    "path",
    "identifier",
    "number",
    "date",
    "datetime",
    "time",
    "name",
    "exact",
];
const NOTES: &str = "[tools.send]\nsinks = { to = \"address\" }\n[tools.people]\nreads = true\ntrusted = \"all\"\n\
                     [tools.mail]\nreads = true\n";

fn path() -> &'static Path {
    Path::new("annotations/x.toml")
}

/// Annotations are read without a panic, and no value that only untrusted content holds is accepted. The parts are
/// annotations, a purpose and a value; the first byte is the value's type.
pub fn provenance(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let [annotations, purpose, value] = parts(bytes);
    let (Some(annotations), Some(purpose), Some(value)) =
        (text(annotations), text(purpose), text(value))
    else {
        return;
    };
    if let Ok(annotations) = Annotations::parse(path(), annotations) {
        let mut ledger = Ledger::new();
        let parameters = BTreeMap::from([("p".to_owned(), value.to_owned())]);
        ledger.note_input(purpose, &parameters, None);
        let result: Value = serde_json::from_str(value).unwrap_or(Value::Null);
        for tool in annotations.tools() {
            ledger.note_result(
                Some(&annotations),
                &Called::new("x", tool, &Map::new()),
                &result,
            );
            let arguments = Map::from_iter([(purpose.to_owned(), result.clone())]);
            let _ = ledger.check(&annotations, tool, &arguments).to_string();
        }
    }
    let kind = KINDS[usize::from(*kind) % KINDS.len()];
    let own = format!("[tools.act]\nsinks = {{ a = \"{kind}\" }}\n");
    let own = Annotations::parse(path(), &own).expect("constant");
    let mut ledger = Ledger::new();
    ledger.note_input("", &BTreeMap::new(), None);
    let called = Map::new();
    ledger.note_result(
        Some(&own),
        &Called::new("x", "read", &called),
        &json!([purpose, value]),
    );
    let arguments = Map::from_iter([("a".to_owned(), Value::String(value.to_owned()))]);
    let accepted = ledger.check(&own, "act", &arguments).is_accepted();
    assert_eq!(accepted, value.is_empty(), "{kind} {value:?}");
    let tool = json!([{ "name": purpose, "inputSchema": { "properties": { value: {} } } }]);
    let drafted = draft("x", &tool);
    let read = Annotations::parse(path(), &drafted);
    assert!(
        read.is_ok() || value.len() > 400 || value.matches('/').count() > 12,
        "{drafted}"
    );
}

/// What is kept of a ledger, as it was written and with whatever else a disk may hold in its place: a ledger that is made
/// of it knows no more than the one that it was kept of. The parts are the results of a listing and of a mail, and bytes
/// that come in place of what was kept of them.
pub fn ledger(bytes: &[u8]) {
    let [people, mail, kept] = parts(bytes);
    let annotations = Annotations::parse(path(), NOTES).expect("constant");
    let mut ledger = Ledger::new();
    ledger.keep(Some(7));
    let mut entries = Vec::new();
    for (tool, result) in [("people", people), ("mail", mail)] {
        let result = serde_json::from_slice(result)
            .unwrap_or_else(|_| json!(text(result).unwrap_or_default()));
        ledger.note_result(
            Some(&annotations),
            &Called::new("x", tool, &Map::new()),
            &result,
        );
        entries.extend(ledger.take_entry());
    }
    let same = recalled(entries.iter().map(Vec::as_slice), 2);
    let fewer = recalled(entries.iter().take(1).map(Vec::as_slice), 2);
    let other = recalled([entries.first().map_or(kept, Vec::as_slice), kept], 2);
    assert!(fewer.lacks_some());
    let words = [people, mail]
        .into_iter()
        .filter_map(text)
        .flat_map(str::split_whitespace);
    for word in words.take(16).filter(|word| !word.is_empty()) {
        let arguments = Map::from_iter([("to".to_owned(), Value::from(word))]);
        let accepts =
            |ledger: &Ledger| ledger.check(&annotations, "send", &arguments).is_accepted();
        assert_eq!(accepts(&ledger), accepts(&same), "{word:?}");
        assert!(accepts(&ledger) || !accepts(&fewer), "{word:?}");
        let _ = accepts(&other);
    }
}

fn recalled<'a>(entries: impl IntoIterator<Item = &'a [u8]>, expected: u32) -> Ledger {
    let mut ledger = Ledger::new();
    ledger.recall(Recalled::read(entries), expected);
    ledger
}
