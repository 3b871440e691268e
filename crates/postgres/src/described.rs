//! What a database says of its own tables, for whoever is to say what decides in them.

use model::ServerName;
use model::config::Server;

use crate::upstream::{Database, DatabaseError, UpstreamError};

/// A table with the names and types of its columns, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedTable {
    /// `schema.name`.
    pub name: String,
    /// Each with its type, as the database writes it.
    pub columns: Vec<(String, String)>,
}

/// Why a database says nothing.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// Its configuration cannot be used.
    #[error(transparent)]
    Configuration(#[from] DatabaseError),
    /// It cannot be asked.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// Most columns that are listed.
const COLUMNS: usize = 50_000;

/// Tables and views that are not part of PostgreSQL itself, by name.
const QUESTION: &str = r"
SELECT n.nspname || '.' || c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped AND NOT c.relispartition
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND n.nspname !~ '\.' AND c.relname !~ '\.'
ORDER BY 1, a.attnum LIMIT ";

/// Asks a database for its tables, as the user that the configuration has for it.
///
/// # Errors
/// [`DescribeError`]
pub async fn described(
    name: &ServerName,
    server: &Server,
) -> Result<Vec<DescribedTable>, DescribeError> {
    let database = Database::read(name, server)?;
    let question = format!("{QUESTION}{COLUMNS}");
    let mut tables: Vec<DescribedTable> = Vec::new();
    for row in database.admin.run(&database, &question).await? {
        let Ok([table, column, data_type]) = <[String; 3]>::try_from(row) else {
            continue;
        };
        match tables.last_mut().filter(|last| last.name == table) {
            Some(last) => last.columns.push((column, data_type)),
            None => tables.push(DescribedTable {
                name: table,
                columns: vec![(column, data_type)],
            }),
        }
    }
    Ok(tables)
}
