//! What names mean at one place of a statement.

use std::sync::Arc;

use super::catalog::Relation;

/// Something in a `FROM` that columns come from.
pub(super) struct Source {
    /// The name that it has in the statement.
    pub(super) alias: String,
    /// The table, if it is one.
    pub(super) table: Option<Arc<Relation>>,
    /// Its columns, if they are known.
    pub(super) columns: Option<Vec<String>>,
}

impl Source {
    /// A table.
    pub(super) fn table(alias: String, table: &Arc<Relation>) -> Self {
        Self {
            alias,
            table: Some(Arc::clone(table)),
            columns: Some(table.columns.clone()),
        }
    }

    /// A subquery, a common table expression or a function.
    pub(super) fn derived(alias: String, columns: Option<Vec<String>>) -> Self {
        Self {
            alias,
            table: None,
            columns,
        }
    }

    /// Whether it has a column, as far as that is known.
    pub(super) fn has(&self, column: &str) -> bool {
        match &self.columns {
            Some(columns) => columns.iter().any(|known| known == column),
            None => true,
        }
    }
}

/// The names of one `SELECT` or of a statement that writes.
#[derive(Default)]
pub(super) struct Scope {
    /// What columns come from.
    pub(super) sources: Vec<Source>,
    /// The names that its output has.
    pub(super) outputs: Vec<String>,
}
