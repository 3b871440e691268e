//! Which columns the names in expressions stand for.

use model::statement::TableOperation;

use super::analysis::{Refused, Walk};

impl Walk<'_> {
    /// A column by its bare name.
    pub(super) fn column(&mut self, name: &str) -> Result<(), Refused> {
        for at in (0..self.scopes.len()).rev() {
            let Some(scope) = self.scopes.get(at) else {
                continue;
            };
            let having: Vec<_> = scope.sources.iter().filter(|s| s.has(name)).collect();
            if !having.is_empty() {
                let tables: Vec<_> = having.iter().filter_map(|s| s.table.clone()).collect();
                for table in tables {
                    self.touch(&table, TableOperation::Select, [name]);
                }
                return Ok(());
            }
            if scope.outputs.iter().any(|output| output == name) {
                return Ok(());
            }
            // The name of a table stands for its whole row.
            if scope.sources.iter().any(|source| source.alias == name) {
                return self.whole(Some(name));
            }
        }
        if self.is_lost() {
            return Ok(());
        }
        Err(Refused::no_column(name))
    }

    /// A column of all tables that have it: of those that are joined by it.
    pub(super) fn column_everywhere(&mut self, name: &str) -> Result<(), Refused> {
        self.column(name)
    }

    /// A column by the name of its table. `table.name` could also call a function on the row, so it must
    /// be a column that is known.
    pub(super) fn column_of(&mut self, alias: &str, column: &str) -> Result<(), Refused> {
        for scope in self.scopes.iter().rev() {
            let named = scope.sources.iter().find(|source| source.alias == alias);
            let Some(source) = named else { continue };
            if !source.has(column) || (source.columns.is_none() && is_called(column)) {
                return Err(Refused::no_column(column));
            }
            if let Some(table) = source.table.clone() {
                self.touch(&table, TableOperation::Select, [column]);
            }
            return Ok(());
        }
        if self.is_lost() {
            return Ok(());
        }
        Err(Refused {
            sqlstate: "42P01",
            message: format!("\"{alias}\" is not a table that the statement names"),
            hint: "give tables of FROM an alias and use that".to_owned(),
        })
    }
}

/// Whether `row.name` of a row whose columns are not known could call a function that may not be called.
fn is_called(name: &str) -> bool {
    name.starts_with("pg_") || name.starts_with("lo_") || name.starts_with("dblink")
}
