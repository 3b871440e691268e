//! What of an action's arguments may be seen in its record (R6).
//!
//! The salted hash stands for the whole; the view is for people. By default the values of arguments
//! that the grant constrains are shown, since they decided; of everything else only kind and size.

use model::config::Redaction;
use policy::CompiledGrant;
use regex::Regex;
use serde_json::{Map, Value};

/// Longest text that is shown of one value, in characters.
const SHOWN_CHARACTERS: usize = 256;
/// Longest database statement that is shown, in characters.
const STATEMENT_CHARACTERS: usize = 4_096;
/// Longest argument name that is shown, in characters.
const NAME_CHARACTERS: usize = 64;
/// Longest view, in bytes of JSON; a longer one is left to the hash alone. Records end at 64 KiB.
const VIEW_BYTES: usize = 16 << 10;
/// Most values that are shown or described of one action.
const SHOWN_VALUES: usize = 128;

/// Texts that are secrets wherever they stand: private keys, and tokens of well-known issuers.
const SECRETS: &str = r"(?x)
    -----BEGIN\ [A-Z\ ]*PRIVATE\ KEY-----(?s:.*?)(?:-----END\ [A-Z\ ]*PRIVATE\ KEY-----|\z)
    | \b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}
    | \bgh[pousr]_[A-Za-z0-9]{20,} | \bgithub_pat_[A-Za-z0-9_]{20,}
    | \bxox[abeoprs]-[A-Za-z0-9-]{10,}
    | \bA(?:KIA|SIA)[0-9A-Z]{16}\b
    | \beyJ[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]+){1,4}
    | \bsp[eo]_[A-Za-z0-9_-]{20,}
    | (?i:bearer|basic|dpop)\s+[A-Za-z0-9._~+/=-]{16,}";

/// Names of arguments whose values are secrets wherever they stand.
const SECRET_NAMES: [&str; 8] = [
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "authorization",
    "private_key",
];

/// The rules, ready for use.
pub struct Redactor {
    show: Vec<String>,
    hide: Vec<String>,
    patterns: Vec<Regex>,
}

impl Redactor {
    /// Compiles the rules.
    ///
    /// # Errors
    /// A pattern that is not a regular expression.
    pub fn new(rules: &Redaction) -> Result<Self, regex::Error> {
        let patterns = rules.patterns.iter().map(String::as_str);
        let patterns = std::iter::once(SECRETS).chain(patterns).map(Regex::new);
        Ok(Self {
            show: rules.show.clone(),
            hide: rules.hide.clone(),
            patterns: patterns.collect::<Result<_, _>>()?,
        })
    }

    /// The view of a call's arguments. `permission` is the one that permitted it, if one did.
    #[must_use]
    pub fn view(
        &self,
        arguments: Map<String, Value>,
        grant: &CompiledGrant,
        permission: Option<(usize, Option<usize>)>,
    ) -> Value {
        let constrained = |name: &str| match permission {
            Some((permission, Some(tool))) => grant.constrains(permission, tool, name),
            _ => grant.constrains_anywhere(name),
        };
        let mut left = SHOWN_VALUES;
        let view = arguments
            .into_iter()
            .take(SHOWN_VALUES)
            .map(|(name, value)| {
                let shown = constrained(&name);
                let value = self.value(&name, value, shown, &mut left);
                (self.name(&name), value)
            })
            .collect();
        let view = Value::Object(view);
        let length = serde_json::to_vec(&view).map_or(usize::MAX, |text| text.len());
        if length <= VIEW_BYTES {
            view
        } else {
            Value::String(format!("(too long to show: {length} bytes)"))
        }
    }

    /// The view of a database statement: its text without literals, and what it touches.
    #[must_use]
    pub fn statement(&self, statement: &model::Statement) -> Value {
        let accesses: Vec<Value> = statement
            .accesses
            .iter()
            .take(SHOWN_VALUES)
            .filter_map(|access| serde_json::to_value(access).ok())
            .collect();
        let mut view = Map::new();
        let shape = shorten(&self.clean(&statement.shape), STATEMENT_CHARACTERS);
        view.insert("statement".to_owned(), Value::String(shape));
        let length = serde_json::to_vec(&accesses).map_or(usize::MAX, |text| text.len());
        if length <= VIEW_BYTES {
            view.insert("touches".to_owned(), Value::Array(accesses));
        }
        Value::Object(view)
    }

    fn value(&self, name: &str, value: Value, shown: bool, left: &mut usize) -> Value {
        if self.is_hidden(name) {
            return Value::String("(hidden)".to_owned());
        }
        if *left == 0 {
            return Value::String("(more)".to_owned());
        }
        *left -= 1;
        let shown = shown || self.show.iter().any(|rule| rule == name);
        match value {
            Value::Object(members) => {
                let members = members.into_iter().take(*left).collect::<Vec<_>>();
                let view = members.into_iter().map(|(name, value)| {
                    let value = self.value(&name, value, shown, left);
                    (self.name(&name), value)
                });
                Value::Object(view.collect())
            }
            Value::Array(items) => {
                let items = items.into_iter().take(*left).collect::<Vec<_>>();
                items
                    .into_iter()
                    .map(|item| self.value(name, item, shown, left))
                    .collect()
            }
            Value::String(text) if shown => Value::String(self.clean(&text)),
            Value::String(text) => {
                Value::String(format!("(text of {} characters)", text.chars().count()))
            }
            Value::Number(_) if !shown => Value::String("(number)".to_owned()),
            other => other,
        }
    }

    /// A name is shown; agents choose names too, so secrets are taken out of them.
    fn name(&self, name: &str) -> String {
        shorten(&self.clean(name), NAME_CHARACTERS)
    }

    /// Whether the values of arguments with this name are never shown.
    pub(crate) fn hides(&self, name: &str) -> bool {
        self.is_hidden(name)
    }

    fn is_hidden(&self, name: &str) -> bool {
        self.hide.iter().any(|rule| rule == name)
            || SECRET_NAMES
                .iter()
                .any(|secret| name.eq_ignore_ascii_case(secret))
    }

    /// Text without the secrets in it, cut after 256 characters.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        self.clean_to(text, SHOWN_CHARACTERS)
    }

    /// Text without the secrets in it, cut after so many characters.
    pub(crate) fn clean_to(&self, text: &str, characters: usize) -> String {
        // Cleaned before it is cut, so that half a secret is not taken for harmless text.
        let start = shorten(text, characters.saturating_mul(8));
        let clean = self.patterns.iter().fold(start, |text, pattern| {
            match pattern.replace_all(&text, "(secret)") {
                std::borrow::Cow::Borrowed(_) => text,
                std::borrow::Cow::Owned(clean) => clean,
            }
        });
        shorten(&clean, characters)
    }
}

/// The text, cut with an ellipsis after so many characters.
pub(crate) fn shorten(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Grant;
    use proptest::prelude::*;
    use serde_json::json;

    fn grant() -> CompiledGrant {
        let grant: Grant = serde_json::from_value(json!({
            "permissions": [{
                "type": "sallyport_mcp",
                "server": "files",
                "tools": [{ "name": "read", "arguments": { "path": { "below": "/data" } } }],
            }],
            "budget": { "calls": 5 },
            "proof": "dpop",
        }))
        .unwrap();
        CompiledGrant::new(&grant)
    }

    fn view(rules: &Redaction, arguments: Value) -> Value {
        let redactor = Redactor::new(rules).unwrap();
        redactor.view(
            arguments.as_object().unwrap().clone(),
            &grant(),
            Some((0, Some(0))),
        )
    }

    #[test]
    fn only_what_decided_is_shown() {
        let arguments = json!({
            "path": "/data/a", "text": "private", "count": 7, "deep": { "note": ["private"] },
        });
        assert_eq!(
            view(&Redaction::default(), arguments),
            json!({
                "path": "/data/a", "text": "(text of 7 characters)", "count": "(number)",
                "deep": { "note": ["(text of 7 characters)"] },
            })
        );
    }

    #[test]
    fn hide_wins_over_show_and_secrets_over_both() {
        let rules = Redaction {
            show: ["note", "pin", "password", "path"]
                .map(str::to_owned)
                .into(),
            hide: vec!["pin".to_owned()],
            patterns: vec!["[0-9]{4}-[0-9]{4}".to_owned()],
        };
        let key =
            "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG\n-----END PRIVATE KEY----- end";
        let jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0xx.c2lnbmF0dXJlc2ln";
        let arguments = json!({
            "pin": "1", "password": "hunter2", "note": "card 1234-5678", "path": format!("a {jwt} b"),
            "deep": { "note": key, "ghp_0123456789abcdefghijABCD": 1 },
        });
        assert_eq!(
            view(&rules, arguments),
            json!({
                "pin": "(hidden)", "password": "(hidden)", "note": "card (secret)",
                "path": "a (secret) b",
                "deep": { "note": "(secret) end", "(secret)": "(number)" },
            })
        );
    }

    #[test]
    fn a_bad_pattern_is_told() {
        let rules = Redaction {
            patterns: vec!["(".to_owned()],
            ..Redaction::default()
        };
        assert!(Redactor::new(&rules).is_err());
    }

    proptest! {
        #[test]
        fn a_view_is_never_long(
            texts in proptest::collection::vec("\\PC{0,400}", 0..40),
            depth in 0usize..30,
        ) {
            let mut value = json!(texts);
            for _ in 0..depth {
                value = json!({ "path": [value.clone(), value] });
                if value.to_string().len() > 1 << 20 {
                    break;
                }
            }
            let shown = view(&Redaction::default(), json!({ "path": value }));
            prop_assert!(shown.to_string().len() <= VIEW_BYTES);
        }
    }

    #[test]
    fn cutting_respects_characters() {
        assert_eq!(shorten("äöü", 2), "äö…");
        assert_eq!(shorten("äöü", 3), "äöü");
    }
}
