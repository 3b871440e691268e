//! Variables (CACAO 2.0, §10.18): `__name__`, referred to as `__name__:value`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name, with its underscores.
const NAME: usize = 204;
/// What follows a name where its value is meant.
const VALUE: &str = ":value";

/// The name of a variable, with its underscores.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A text is no name of a variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name of a variable: write it like `__agent__`")]
pub struct NotAName(String);

impl Name {
    /// Parses a name.
    ///
    /// # Errors
    /// [`NotAName`]
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        let error = || NotAName(text.chars().take(40).flat_map(char::escape_debug).collect());
        let inner = text
            .strip_prefix("__")
            .and_then(|rest| rest.strip_suffix("__"))
            .filter(|inner| !inner.is_empty() && text.len() <= NAME)
            .ok_or_else(error)?;
        let first = inner.as_bytes()[0];
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        // A name that ends within a reference would be read in two ways.
        if first.is_ascii_alphabetic() && inner.bytes().all(plain) && !inner.contains("__") {
            Ok(Self(text.to_owned()))
        } else {
            Err(error())
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = NotAName;
    fn try_from(text: String) -> Result<Self, NotAName> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

/// A piece of a text: words, or a variable's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Words.
    Words(&'a str),
    /// A variable's value.
    Value(Name),
}

/// Takes a text apart. What looks like a reference and is none is words.
pub fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    let mut next: Option<Name> = None;
    std::iter::from_fn(move || {
        if let Some(name) = next.take() {
            return Some(Piece::Value(name));
        }
        if rest.is_empty() {
            return None;
        }
        let mut from = 0;
        while let Some(at) = rest[from..].find(VALUE) {
            let end = from + at;
            // The name that ends here, if one does.
            let start = rest[..end]
                .strip_suffix("__")
                .and_then(|before| before.rfind("__"))
                .filter(|start| Name::parse(&rest[*start..end]).is_ok());
            if let Some(start) = start {
                let name = Name::parse(&rest[start..end]).ok();
                let words = &rest[..start];
                rest = &rest[end + VALUE.len()..];
                if words.is_empty() {
                    return name.map(Piece::Value);
                }
                next = name;
                return Some(Piece::Words(words));
            }
            from = end + VALUE.len();
        }
        Some(Piece::Words(std::mem::take(&mut rest)))
    })
}

/// The variables that a text refers to.
#[must_use]
pub fn used(text: &str) -> BTreeSet<Name> {
    pieces(text)
        .filter_map(|piece| match piece {
            Piece::Value(name) => Some(name),
            Piece::Words(_) => None,
        })
        .collect()
}

/// A text with its variables filled in.
///
/// # Errors
/// A variable without a value, in words.
pub fn fill(text: &str, values: &BTreeMap<Name, Option<String>>) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Words(words) => filled.push_str(words),
            Piece::Value(name) => match values.get(&name) {
                Some(Some(value)) if !value.is_empty() => filled.push_str(value),
                _ => return Err(format!("`{name}` has no value here")),
            },
        }
    }
    Ok(filled)
}

/// The same for words that people read: what has no value is said to be unknown.
#[must_use]
pub fn fill_words(text: &str, values: &BTreeMap<Name, Option<String>>) -> String {
    pieces(text)
        .map(|piece| match piece {
            Piece::Words(words) => words.to_owned(),
            Piece::Value(name) => match values.get(&name) {
                Some(Some(value)) if !value.is_empty() => value.clone(),
                _ => "(unknown)".to_owned(),
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn references_are_found_wherever_they_stand() {
        let values = BTreeMap::from([
            (name("__a__"), Some("1".to_owned())),
            (name("__b_c__"), Some("2".to_owned())),
            (name("__none__"), None),
        ]);
        for (text, filled) in [
            ("", ""),
            ("__a__:value", "1"),
            ("x__a__:value,__b_c__:value!", "x1,2!"),
            ("__a__", "__a__"),
            ("a:value", "a:value"),
            (":value __a__:value", ":value 1"),
            ("____:value", "____:value"),
        ] {
            assert_eq!(fill(text, &values).as_deref(), Ok(filled), "{text}");
        }
        assert!(fill("__none__:value", &values).is_err());
        assert!(fill("__d__:value", &values).is_err());
        assert_eq!(fill_words("<__none__:value>", &values), "<(unknown)>");
        // What a value says is not filled in once more.
        let tricky = BTreeMap::from([
            (name("__a__"), Some("__b__:value".to_owned())),
            (name("__b__"), Some("secret".to_owned())),
        ]);
        assert_eq!(fill("__a__:value", &tricky).unwrap(), "__b__:value");
    }

    #[test]
    fn names_have_their_underscores() {
        for good in ["__a__", "__A-b_1__"] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "", "a", "____", "__1__", "__a", "a__", "__a b__", "__a__b__",
        ] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_up_the_text(text in "[_a:value x]{0,40}") {
            let whole: String = pieces(&text)
                .map(|piece| match piece {
                    Piece::Words(words) => words.to_owned(),
                    Piece::Value(name) => format!("{name}{VALUE}"),
                })
                .collect();
            prop_assert_eq!(whole, text);
        }
    }
}
