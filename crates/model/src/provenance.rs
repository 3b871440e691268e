//! Provenance: where a value came from, and whether it may steer an argument.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::DecisionId;

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
    /// What an agent handed on when it opened this task.
    Delegation,
    /// The result of a call.
    Result {
        /// The server.
        server: String,
        /// The tool or endpoint.
        tool: String,
        /// Which call of the task it was, counted from 1.
        call: u32,
        /// The call's arguments, shortened.
        arguments: String,
        /// Where in the result, as a JSON pointer (RFC 6901); empty for the whole.
        place: String,
        /// When the call was decided.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
        /// The decision that permitted the call.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decision: Option<DecisionId>,
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
    /// The statement computes it, or takes it from a table that is not trusted.
    Computed,
    /// No value that is checked chooses the rows.
    AnyRows,
}

/// One value that a person must be asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Which argument, as a JSON pointer into the arguments.
    pub argument: String,
    /// The value, with control characters and the like escaped; long ones are cut, and end in `…`.
    pub value: String,
    /// Why it was not accepted.
    pub reason: Reason,
    /// Where it was seen, at most three places; all of them untrusted.
    pub seen: Vec<Origin>,
    /// Whether the task has read more than is known of it, so that the value may have been seen elsewhere.
    #[serde(alias = "ledger_full")]
    pub incomplete: bool,
    /// The value as it is; it is written down nowhere.
    #[serde(skip)]
    pub exact: Value,
}

/// What was found about where the arguments of an action come from, for its record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Names the annotations that it was checked by: 32 hexadecimal digits of a SHA-256 hash.
    pub annotations: String,
    /// The values that are derivable, and from where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derived: Vec<Derivation>,
    /// The values that are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<Asked>,
    /// How many more there were than a record has room for.
    #[serde(default, skip_serializing_if = "is_none_left")]
    pub left_out: usize,
}

// serde hands over references.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_none_left(count: &usize) -> bool {
    *count == 0
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Purpose => f.write_str("the task's purpose"),
            Self::Parameter { name } => write!(f, "the task's parameter `{name}`"),
            Self::Delegation => f.write_str("what an agent handed on when it opened the task"),
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
            Reason::Computed => f.write_str(
                "is computed by the statement, or comes from a table that is not trusted",
            )?,
            Reason::AnyRows => f.write_str("are not chosen by any value that is checked")?,
        }
        if self.incomplete {
            f.write_str(" (the task has read more than is remembered)")?;
        }
        Ok(())
    }
}
