//! However an untrusted value is written, it is never accepted.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails where something is not as it says"
)]

use std::collections::BTreeMap;
use std::path::Path;

use jiff::civil::date;
use proptest::prelude::*;
use provenance::{Annotations, Called, Ledger};
use serde_json::{Map, Value, json};

const TOOLS: &str = r#"
    [tools.act]
    sinks = { address = "address", url = "url", path = "path", id = { type = "identifier", of = "file" }, bare_id = "identifier", account = "account", name = "name", words = "words", exact = "exact", number = "number", day = "date", moment = "datetime", any = "any" }
    [tools.read]
    reads = true
    trusted = ["/known"]
    lists = { "/ids/*" = "file" }
"#;

/// What the task says uses only the letters a to h and the digits 1 to 4.
const PURPOSE: &str = "Cabbage bead: ab.cd@fade.de, https://bed.de/face, bad/egg.bag, 'DEAF HEAD', 12 and 34.1, \
    account DE12 3412 3412 34, on 2024-01-12 at 12:34";

fn ledger(evil: &str) -> (Annotations, Ledger) {
    let annotations = Annotations::parse(Path::new("annotations/x.toml"), TOOLS).unwrap();
    let mut ledger = Ledger::new();
    ledger.note_input(PURPOSE, &BTreeMap::new(), Some(date(2024, 1, 1)));
    let result = json!({"known": "faced beef gag@head.de 23", "ids": ["abc1", "12"], "text": format!("do {evil} now")});
    ledger.note_result(
        Some(&annotations),
        &Called::new("x", "read", &Map::new()),
        &result,
    );
    (annotations, ledger)
}

fn fullwidth(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_graphic() {
                char::from_u32(u32::from(c) + 0xFEE0).unwrap_or(c)
            } else {
                c
            }
        })
        .collect()
}

fn look_alikes(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            'a' => 'а',
            'c' => 'с',
            'e' => 'е',
            'o' => 'о',
            'p' => 'р',
            'x' => 'х',
            'y' => 'у',
            'k' => '\u{212A}',
            '1' => '１',
            '@' => '＠',
            other => other,
        })
        .collect()
}

/// Every way to write a value that is tried.
fn laundered(evil: &str) -> Vec<String> {
    let between = |mark: &str| {
        evil.chars()
            .map(String::from)
            .collect::<Vec<_>>()
            .join(mark)
    };
    let hex: String = evil.bytes().map(|b| format!("%{b:02X}")).collect();
    let entities: String = evil
        .chars()
        .map(|c| format!("&#{};", u32::from(c)))
        .collect();
    let mut all = vec![
        evil.to_owned(),
        evil.to_uppercase(),
        evil.to_lowercase(),
        format!(" {evil}\t"),
        format!("{evil}."),
        format!("\"{evil}\""),
        format!("<{evil}>"),
        format!("mailto:{evil}"),
        format!("{evil}\0"),
        format!("{evil}\n"),
        evil.chars().rev().collect(),
        format!("\u{202E}{}\u{202C}", evil.chars().rev().collect::<String>()),
        hex,
        entities,
        fullwidth(evil),
        look_alikes(evil),
        between("\u{200B}"),
        between("\u{00AD}"),
        between("\u{FEFF}"),
        between(" "),
        between("."),
    ];
    for known in [
        "ab.cd@fade.de",
        "https://bed.de/face",
        "DEAF HEAD",
        "12",
        "cabbage",
    ] {
        for mark in [
            ", ", ";", " ", "\n", "?", "/", "@", ".", "%2C", "\u{200B}", "|", "\\", "#",
        ] {
            all.push(format!("{known}{mark}{evil}"));
            all.push(format!("{evil}{mark}{known}"));
        }
    }
    all
}

const SINKS: [&str; 13] = [
    "address", "url", "path", "id", "bare_id", "account", "name", "words", "exact", "number",
    "day", "moment", "any",
];

fn never_accepted(evil: &str) -> Result<(), TestCaseError> {
    let (annotations, ledger) = ledger(evil);
    for text in laundered(evil) {
        for sink in SINKS {
            for value in [
                json!(text),
                json!([text]),
                json!(["ab.cd@fade.de", text]),
                json!({ "x": text }),
            ] {
                let arguments = Map::from_iter([(sink.to_owned(), value)]);
                let verdict = ledger.check(&annotations, "act", &arguments);
                prop_assert!(!verdict.is_accepted(), "{} {:?}", sink, text);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn an_address(local in "[i-z][i-z0-9.+]{0,6}[i-z]", host in "[i-z]{2,8}\\.(ru|org)") {
        never_accepted(&format!("{local}@{host}"))?;
    }

    #[test]
    fn a_known_address_with_more(extra in "[i-z]{1,4}", mark in "[.+_-]") {
        for evil in [format!("ab.cd{mark}{extra}@fade.de"), format!("ab.cd@{extra}.fade.de"), format!("ab.cd@fade.de.{extra}")] {
            let (annotations, ledger) = ledger(&evil);
            for sink in ["address", "any"] {
                let arguments = Map::from_iter([(sink.to_owned(), json!(evil))]);
                prop_assert!(!ledger.check(&annotations, "act", &arguments).is_accepted(), "{}", evil);
            }
        }
    }

    #[test]
    fn a_url(host in "[i-z]{2,8}\\.(io|org)", path in "(/[i-z0-9]{1,5}){0,2}") {
        never_accepted(&format!("https://{host}{path}"))?;
    }

    #[test]
    fn a_name(name in "[I-Z][i-z]{2,7}( [I-Z][i-z]{2,7})?") {
        never_accepted(&name)?;
    }

    #[test]
    fn an_identifier(id in "[i-z]{1,3}[5-9]{1,8}") {
        never_accepted(&id)?;
    }

    #[test]
    fn an_account(number in "[I-Z]{2}[5-9]{10,18}") {
        never_accepted(&number)?;
    }

    #[test]
    fn anything_at_all_is_judged_without_a_panic(text in ".{0,40}", sink in 0..SINKS.len(), purpose in ".{0,80}") {
        let annotations = Annotations::parse(Path::new("annotations/x.toml"), TOOLS).unwrap();
        let mut ledger = Ledger::new();
        ledger.note_input(&purpose, &BTreeMap::from([("p".to_owned(), text.clone())]), Some(date(2024, 1, 1)));
        ledger.note_result(Some(&annotations), &Called::new("x", "read", &Map::new()), &json!({"known": text, "ids": [purpose]}));
        let arguments = Map::from_iter([(SINKS[sink].to_owned(), Value::String(text))]);
        let _ = ledger.check(&annotations, "act", &arguments).to_string();
    }

    #[test]
    fn what_the_task_says_stays_accepted_whatever_else_is_read(noise in ".{0,200}") {
        let (annotations, mut ledger) = ledger("nothing");
        ledger.note_result(Some(&annotations), &Called::new("x", "read", &Map::new()), &json!({"text": noise}));
        let arguments = json!({"address": "ab.cd@fade.de", "url": "https://bed.de/face", "path": "bad/egg.bag",
            "name": "deaf head", "exact": "DEAF HEAD", "number": 34.1, "day": "2024-01-12", "moment": "2024-01-12 12:34",
            "account": "de123412341234", "id": "abc1", "words": "beef cabbage"});
        let verdict = ledger.check(&annotations, "act", arguments.as_object().unwrap());
        prop_assert!(verdict.is_accepted(), "{}", verdict);
    }
}

#[test]
fn numbers_are_not_stretched() {
    let (annotations, ledger) = ledger("99999");
    for text in [
        "99999",
        "9.9999e4",
        "0x1869F",
        "９９９９９",
        "99 999",
        "99,999",
        "099999",
        "+99999",
        "99999.0",
        "$99999",
    ] {
        for sink in ["number", "any", "bare_id", "account"] {
            let arguments = Map::from_iter([(sink.to_owned(), json!(text))]);
            assert!(
                !ledger.check(&annotations, "act", &arguments).is_accepted(),
                "{sink} {text}"
            );
        }
    }
}
