//! What a check says, for the record and for the person who is asked.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a value was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Origin {
    /// The task's purpose.
    Purpose,
    /// A parameter of the task.
    Parameter {
        /// Its name.
        name: String,
    },
    /// What another task handed on when it opened this one.
    Delegation,
    /// The result of a call.
    Result {
        /// The server.
        server: String,
        /// The tool.
        tool: String,
        /// Which call of the task it was, counted from 1.
        call: u32,
        /// The call's arguments, shortened.
        arguments: String,
        /// Where in the result, as a JSON pointer (RFC 6901); empty for the whole.
        place: String,
    },
    /// The annotations of the server.
    Annotations,
}

/// How a value was derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It occurs there.
    Occurs,
    /// It is an identifier that was listed there.
    Listed,
    /// It was computed from what occurs there.
    Computed,
    /// It does no harm wherever it comes from.
    Harmless,
}

/// Why one value was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derivation {
    /// Which argument, as a JSON pointer into the arguments.
    pub argument: String,
    /// How the value was derived.
    pub how: How,
    /// From where.
    pub origin: Origin,
}

/// Why one value was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It was seen, but only where outsiders can write.
    OnlyUntrusted,
    /// It was seen nowhere in this task.
    Nowhere,
    /// It was listed, but nothing that the task says chose it.
    NotChosen,
    /// It holds characters that a reader cannot see.
    Deceptive,
    /// There are too many values in one call to check.
    TooMany,
}

/// One value that a person must be asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Which argument, as a JSON pointer into the arguments.
    pub argument: String,
    /// The value, shortened, with control characters escaped.
    pub value: String,
    /// Why it was not accepted.
    pub reason: Reason,
    /// Where it was seen, at most three places.
    pub seen: Vec<Origin>,
    /// Whether the ledger of the task was full, so that the value may have been seen elsewhere.
    pub ledger_full: bool,
}

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
    },
}

impl Verdict {
    /// Whether the call may go on without a person.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted { .. })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Purpose => f.write_str("the task's purpose"),
            Self::Parameter { name } => write!(f, "the task's parameter `{name}`"),
            Self::Delegation => f.write_str("what the delegating task handed on"),
            Self::Annotations => f.write_str("the server's annotations"),
            Self::Result {
                tool,
                call,
                arguments,
                place,
                ..
            } => {
                if place.is_empty() {
                    f.write_str("the result of ")?;
                } else {
                    write!(f, "`{place}` of the result of ")?;
                }
                write!(f, "{tool}({arguments}), call {call} of the task")
            }
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let argument = self.argument.strip_prefix('/').unwrap_or(&self.argument);
        write!(f, "`{argument}` = `{}` ", self.value)?;
        match self.reason {
            Reason::OnlyUntrusted => {
                f.write_str("was seen only in untrusted content: ")?;
                for (at, origin) in self.seen.iter().enumerate() {
                    write!(f, "{}{origin}", if at > 0 { "; " } else { "" })?;
                }
            }
            Reason::Nowhere => f.write_str("was seen nowhere in this task")?,
            Reason::NotChosen => {
                f.write_str("was listed, but nothing that the task says chose it")?
            }
            Reason::Deceptive => f.write_str("holds characters that a reader cannot see")?,
            Reason::TooMany => f.write_str("is one of more values than are checked in one call")?,
        }
        if self.ledger_full {
            f.write_str(" (the task has read more than its ledger holds)")?;
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { derivations } => {
                write!(f, "accepted: {} values are derivable", derivations.len())
            }
            Self::Ask { asked } => {
                for (at, one) in asked.iter().enumerate() {
                    write!(f, "{}{one}", if at > 0 { "\n" } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

/// A value as a person is shown it: at most 120 characters, nothing invisible.
pub(crate) fn shorten(text: &str, most: usize) -> String {
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
