//! What a database statement touches.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A statement of a database session, as far as decisions and records need it.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The text as the agent sent it, with its parameters; only its salted hash is recorded.
    pub text: String,
    /// The text with every literal taken out; recorded.
    pub shape: String,
    /// Every table that it touches, in every way. Never empty: what touches no table is
    /// [`crate::Operation::Converse`].
    pub accesses: Vec<TableAccess>,
    /// What in it decides who or what is affected, where that is asked.
    pub steering: Steering,
}

/// What in a statement decides who or what is affected.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Steering {
    /// Nobody looked: at databases without annotations nobody asks.
    #[default]
    Unknown,
    /// The statement is only prepared. What decides is not there yet; carrying it out is an action by
    /// itself, and whoever may not do that has gained nothing.
    Later,
    /// All of it.
    Known(Vec<Steered>),
}

/// One value that decides something.
#[derive(Debug, Clone, PartialEq)]
pub struct Steered {
    /// The table as `schema.name`, or the function; empty where it is not known.
    pub of: String,
    /// The column, or the argument of a function, counted from 1; empty where it is not known.
    pub column: String,
    /// In which way it decides.
    pub steers: Steers,
    /// What it is.
    pub given: Given,
}

/// The ways in which a value decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Steers {
    /// It is written to the column.
    Written(TableOperation),
    /// The column is compared with it, which chooses rows for this.
    Compared(TableOperation),
    /// It is an argument of a function.
    Argument,
}

/// A value, as far as a statement says what it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// This one.
    Value(Value),
    /// What stands in a column of a table.
    Column {
        /// The table as `schema.name`.
        table: String,
        /// The column.
        column: String,
    },
    /// The statement computes it, or nobody can read it.
    Computed,
    /// It comes later, where no decision sees it.
    Unseen,
    /// Rows are chosen, by exact values of these columns; by none of them when it is empty.
    Rows(Vec<String>),
}

/// One table that a statement touches in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableAccess {
    /// The table as `schema.name`, in the database's own spelling.
    pub table: String,
    /// In which way.
    pub operation: TableOperation,
    /// The columns that are read or written; `None` for all that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<BTreeSet<String>>,
}

/// The ways to touch a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableOperation {
    /// Read rows.
    Select,
    /// Add rows.
    Insert,
    /// Change rows.
    Update,
    /// Remove rows.
    Delete,
}

impl TableOperation {
    /// The word in templates, policies and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for TableOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Statement {
    /// The tables, as records name them: each once, in the order in which they are touched.
    #[must_use]
    pub fn target(&self) -> String {
        let mut tables: Vec<&str> = Vec::with_capacity(self.accesses.len());
        for access in &self.accesses {
            if !tables.contains(&access.table.as_str()) {
                tables.push(&access.table);
            }
        }
        tables.join(", ")
    }

    /// Whether it is only prepared, not carried out.
    #[must_use]
    pub fn is_prepared_only(&self) -> bool {
        self.steering == Steering::Later
    }
}
