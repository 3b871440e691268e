//! What a database statement touches.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

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
}
