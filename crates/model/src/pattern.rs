//! Patterns for names: exact text, or a prefix followed by one `*` at the end. Nothing more, so that
//! what a pattern covers is plain to read and narrowing is decidable.

use serde::{Deserialize, Serialize};

/// An exact text, or a prefix ending in `*` (`support-*`; `*` alone matches everything).
/// At most 512 bytes; a `*` anywhere else is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    prefix: bool,
}

/// Why a pattern was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// The pattern is empty.
    #[error("a pattern must not be empty; write `*` to match everything")]
    Empty,
    /// The pattern is longer than 512 bytes.
    #[error("a pattern is at most 512 bytes long")]
    TooLong,
    /// A `*` stands elsewhere than at the end.
    #[error("`*` may only stand at the end of a pattern, as in `read_*`")]
    InnerStar,
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`InvalidPattern`] when it is empty, too long, or has a `*` before its end.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        if text.is_empty() {
            return Err(InvalidPattern::Empty);
        }
        if text.len() > 512 {
            return Err(InvalidPattern::TooLong);
        }
        let (stem, prefix) = match text.strip_suffix('*') {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        if stem.contains('*') {
            return Err(InvalidPattern::InnerStar);
        }
        Ok(Self {
            text: stem.to_owned(),
            prefix,
        })
    }

    /// Whether the pattern covers this text. Case matters.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        if self.prefix {
            text.starts_with(&self.text)
        } else {
            text == self.text
        }
    }

    /// Whether the pattern ends in `*`.
    #[must_use]
    pub fn is_prefix(&self) -> bool {
        self.prefix
    }

    /// The pattern's text without the `*` at its end.
    #[must_use]
    pub fn stem(&self) -> &str {
        &self.text
    }

    /// Whether everything that `other` covers is covered by this pattern too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if self.prefix {
            other.text.starts_with(&self.text)
        } else {
            !other.prefix && other.text == self.text
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)?;
        if self.prefix {
            f.write_str("*")
        } else {
            Ok(())
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = InvalidPattern;
    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        Self::parse(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_stand_at_the_end() {
        assert_eq!(Pattern::parse("a*b"), Err(InvalidPattern::InnerStar));
        assert_eq!(Pattern::parse("**"), Err(InvalidPattern::InnerStar));
        assert_eq!(Pattern::parse(""), Err(InvalidPattern::Empty));
        assert!(Pattern::parse("*").unwrap().matches(""));
    }

    proptest! {
        #[test]
        fn covering_means_matching_everything_the_other_matches(
            a in "[ab]{0,3}\\*?", b in "[ab]{0,3}\\*?", text in "[ab]{0,5}",
        ) {
            if let (Ok(a), Ok(b)) = (Pattern::parse(&a), Pattern::parse(&b))
                && a.covers(&b)
                && b.matches(&text)
            {
                prop_assert!(a.matches(&text));
            }
        }
    }
}
