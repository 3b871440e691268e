//! What a check says, for the record and for the person who is asked.

use std::fmt;

pub use model::provenance::{Asked, Derivation, How, Origin, Reason};
use serde::{Deserialize, Serialize};

/// Whether a call's arguments are derivable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// All are.
    Accepted {
        /// Why, for each value that was checked.
        derivations: Vec<Derivation>,
    },
    /// Some are not; a person must be asked.
    Ask {
        /// Each value that is not derivable; at most 32.
        asked: Vec<Asked>,
        /// Whether more than these are not.
        more: bool,
        /// Why, for each value that is derivable.
        derivations: Vec<Derivation>,
    },
}

impl Verdict {
    /// Whether the call may go on without a person.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { derivations } => {
                write!(f, "accepted: {} values are derivable", derivations.len())
            }
            Self::Ask { asked, .. } => {
                for (at, one) in asked.iter().enumerate() {
                    write!(f, "{}{one}", if at > 0 { "\n" } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

/// Text of others as a person is shown it: at most so many characters, and nothing that cannot be seen,
/// that turns the direction of writing, or that a terminal acts on.
#[must_use]
pub fn visible(text: &str, most: usize) -> String {
    let mut shown: String = text
        .chars()
        .take(most)
        .flat_map(|c| {
            let visible = !c.is_control() && !crate::text::is_deceptive(c.encode_utf8(&mut [0; 4]));
            let (plain, escaped) = if visible {
                (Some(c), None)
            } else {
                (None, Some(c.escape_unicode()))
            };
            plain.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect();
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_plays_with_the_reader() {
        let text = "a\u{202e}b\u{200b}c\n\u{1b}[31md\u{e0041}";
        let shown = visible(text, 100);
        assert!(shown.is_ascii(), "{shown}");
        assert!(
            shown.contains("\\u{202e}") && shown.contains("\\u{1b}"),
            "{shown}"
        );
        assert_eq!(visible("Zürich, 東京", 100), "Zürich, 東京");
        assert_eq!(visible("abcd", 2), "ab…");
    }
}
