//! An action as the person sees it who is to approve it: complete where it decides, without secrets, and
//! with nothing in it that plays with the reader.

use model::provenance::Asked;
use provenance::visible;
use serde_json::{Map, Value, json};

use crate::redaction::Redactor;

/// Longest value that a person can be asked about, in characters: it is shown whole.
const WHOLE: usize = 1_000;
/// How much is shown of the beginning of a longer text among the other arguments, in characters.
const BEGINNING: usize = 400;
/// And of its end.
const END: usize = 200;
/// Longest name that is shown, in characters.
const NAME: usize = 64;
/// Most values of one action that are shown.
const VALUES: usize = 128;
/// Longest statement of a database that is shown, in characters.
const STATEMENT: usize = 4_000;

/// Shows what actions say.
pub(crate) struct Shown<'a>(pub(crate) &'a Redactor);

impl Shown<'_> {
    /// Text of others, without secrets and with nothing invisible, up to so many characters.
    pub(crate) fn text(&self, text: &str, most: usize) -> String {
        visible(&self.0.clean_to(text, most), most)
    }

    /// The arguments of an action. Long texts lose their middle, and say how much of it.
    pub(crate) fn arguments(&self, arguments: &Map<String, Value>) -> Value {
        let mut left = VALUES;
        self.members(arguments, &mut left)
    }

    /// A statement of a database.
    pub(crate) fn statement(&self, text: &str) -> Value {
        json!({ "statement": self.text(text, STATEMENT) })
    }

    fn members(&self, members: &Map<String, Value>, left: &mut usize) -> Value {
        let shown = members.iter().take(*left).map(|(name, value)| {
            let value = if self.0.hides(name) {
                json!("(hidden)")
            } else {
                self.value(value, left)
            };
            (self.text(name, NAME), value)
        });
        let mut shown: Map<String, Value> = shown.collect();
        if shown.len() < members.len() {
            shown.insert(
                "…".to_owned(),
                json!(format!("{} more", members.len() - shown.len())),
            );
        }
        Value::Object(shown)
    }

    fn value(&self, value: &Value, left: &mut usize) -> Value {
        if *left == 0 {
            return json!("(more)");
        }
        *left -= 1;
        match value {
            Value::Object(members) => self.members(members, left),
            Value::Array(items) => {
                let most = (*left).max(1);
                let mut shown: Vec<Value> = items
                    .iter()
                    .take(most)
                    .map(|item| self.value(item, left))
                    .collect();
                if shown.len() < items.len() {
                    shown.push(json!(format!("(and {} more)", items.len() - shown.len())));
                }
                Value::Array(shown)
            }
            Value::String(text) => Value::String(self.long(text)),
            other => other.clone(),
        }
    }

    fn long(&self, text: &str) -> String {
        let count = text.chars().count();
        if count <= BEGINNING + END {
            return self.text(text, BEGINNING + END);
        }
        let beginning: String = text.chars().take(BEGINNING).collect();
        let end: String = text.chars().skip(count - END).collect();
        format!(
            "{} … {} characters … {}",
            self.text(&beginning, BEGINNING),
            count - BEGINNING - END,
            self.text(&end, END)
        )
    }

    /// The values that are asked about, each whole.
    pub(crate) fn asked(&self, asked: &[Asked]) -> Vec<Asked> {
        let shown = |one: &Asked| Asked {
            value: self.text(&text_of(&one.exact), WHOLE),
            exact: Value::Null,
            ..one.clone()
        };
        asked.iter().map(shown).collect()
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether each value is short enough for a person to see whole.
pub(crate) fn asked_whole(asked: &[Asked]) -> bool {
    asked
        .iter()
        .all(|one| !one.exact.is_null() && text_of(&one.exact).chars().nth(WHOLE).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::config::Redaction;

    fn shown(arguments: Value) -> String {
        let rules = Redaction {
            hide: vec!["salary".to_owned()],
            ..Redaction::default()
        };
        let redactor = Redactor::new(&rules).unwrap();
        Shown(&redactor)
            .arguments(arguments.as_object().unwrap())
            .to_string()
    }

    #[test]
    fn nothing_plays_with_the_reader_and_secrets_stay_out() {
        let text = shown(json!({
            "to": "a\u{202e}moc.live\u{1b}[2J",
            "password": "hunter2", "salary": 7,
            "note": "key ghp_0123456789abcdefghijABCDEFGHIJ done",
            "na\u{200b}me": [1, {"x": null}],
        }));
        assert!(text.is_ascii(), "{text}");
        for hidden in ["hunter2", "ghp_", "\u{202e}", ":7"] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
        assert!(
            text.contains("\\\\u{202e}") && text.contains("done"),
            "{text}"
        );
    }

    #[test]
    fn long_texts_lose_their_middle_and_say_so() {
        let text = format!("begin{}end", "x".repeat(5_000));
        let text = shown(json!({ "body": text }));
        assert!(text.contains("begin") && text.contains("end\""), "{text}");
        assert!(text.contains("4408 characters"), "{text}");
        assert!(text.len() < 1_000);
    }

    #[test]
    fn how_much_is_shown_is_bounded() {
        let many: Vec<Value> = (0..10_000).map(|n| json!({ "n": n })).collect();
        assert!(shown(json!({ "items": many })).len() < 16_384);
    }
}
