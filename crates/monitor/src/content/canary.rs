//! Canary tokens: values that nobody has a reason to use, planted where an intruder would look.
//!
//! A token is minted, its text is planted by somebody (in a document, a table, an environment), and every
//! text that is scanned is watched for it, in any of the disguises and wrappings that are taken off.

use std::collections::BTreeMap;

use aho_corasick::AhoCorasick;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::gate::Beginnings;
use crate::text;

/// Most canary tokens that are watched for.
pub const CANARIES: usize = 4_096;

/// What a canary token looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// An opaque token.
    Token,
    /// An access key of AWS.
    AwsKey,
    /// The local part of an address, at `example.com`.
    Email,
}

/// A canary token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// The text that is planted.
    pub text: String,
    /// Where it is planted and why, in words.
    pub label: String,
    /// When it was minted.
    pub minted_at: Timestamp,
}

impl Canary {
    /// Mints a token from random bytes: 100 bits or (as a key of AWS) 80 bits of them are in it.
    #[must_use]
    pub fn mint(shape: Shape, random: [u8; 16], label: impl Into<String>, now: Timestamp) -> Self {
        // No letters that digits stand for: the token survives being brought into one form.
        const LETTERS: &[u8; 16] = b"bcdfghjkmnpqruvw";
        let letters: String = random
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|nibble| char::from(LETTERS[usize::from(nibble)]))
            .collect();
        let text = match shape {
            Shape::Token => letters[..25].to_owned(),
            Shape::AwsKey => format!("AKIA{}", letters[..16].to_ascii_uppercase()),
            Shape::Email => format!("{}@example.com", &letters[..20]),
        };
        Self {
            text,
            label: label.into(),
            minted_at: now,
        }
    }
}

/// The canary tokens that are watched for.
#[derive(Debug, Clone, Default)]
pub struct Canaries {
    planted: Vec<Canary>,
    finds: Option<AhoCorasick>,
    beginnings: Option<Beginnings>,
}

/// Why tokens cannot be watched for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanaryError {
    /// There are too many.
    #[error("at most {CANARIES} canary tokens are watched for; take some up")]
    TooMany,
    /// A text is so short that it would be found by chance.
    #[error("the canary token for `{0}` has fewer than 12 letters and digits")]
    TooShort(String),
}

impl Canaries {
    /// Watches for tokens.
    ///
    /// # Errors
    /// [`CanaryError`] when there are too many, or one is too short.
    pub fn watch(planted: Vec<Canary>) -> Result<Self, CanaryError> {
        if planted.len() > CANARIES {
            return Err(CanaryError::TooMany);
        }
        let mut texts = Vec::with_capacity(planted.len() * 2);
        for canary in &planted {
            let squeezed = text::squeeze_phrase(&canary.text);
            if squeezed.len() < 12 {
                return Err(CanaryError::TooShort(text::escaped(&canary.label, 60)));
            }
            texts.push(squeezed.chars().rev().collect::<String>());
            texts.push(squeezed);
        }
        let finds = if texts.is_empty() {
            None
        } else {
            Some(AhoCorasick::new(&texts).map_err(|_| CanaryError::TooMany)?)
        };
        Ok(Self {
            beginnings: Beginnings::new(&texts),
            planted,
            finds,
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.planted.is_empty()
    }

    /// What says quickly that a text has none of them.
    pub(super) fn beginnings(&self) -> Option<&Beginnings> {
        self.beginnings.as_ref()
    }

    /// The tokens in a squeezed text, each once, with where it is there.
    pub(super) fn find(&self, squeezed: &str) -> Vec<(&Canary, usize, usize)> {
        let Some(finds) = &self.finds else {
            return Vec::new();
        };
        let mut found = BTreeMap::new();
        for hit in finds.find_overlapping_iter(squeezed) {
            let which = hit.pattern().as_usize() / 2;
            found.entry(which).or_insert((hit.start(), hit.end()));
        }
        found
            .into_iter()
            .map(|(which, (start, end))| (&self.planted[which], start, end))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_look_like_what_they_should() {
        let mint =
            |shape| Canary::mint(shape, *b"0123456789abcdef", "db", Timestamp::UNIX_EPOCH).text;
        assert_eq!(mint(Shape::Token).len(), 25);
        assert!(mint(Shape::AwsKey).starts_with("AKIA") && mint(Shape::AwsKey).len() == 20);
        assert!(mint(Shape::Email).ends_with("@example.com"));
    }

    #[test]
    fn what_would_be_found_by_chance_is_not_watched_for() {
        let canary = Canary {
            text: "hello".into(),
            label: "x".into(),
            minted_at: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(
            Canaries::watch(vec![canary.clone()]).unwrap_err(),
            CanaryError::TooShort("x".into())
        );
        let many = vec![canary; CANARIES + 1];
        assert_eq!(Canaries::watch(many).unwrap_err(), CanaryError::TooMany);
    }
}
