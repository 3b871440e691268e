//! Statements that write, and `COPY`.

use model::statement::TableOperation;
use sqlparser::ast::{
    Assignment, AssignmentTarget, ConflictTarget, CopySource, CopyTarget, Delete, Expr, FromTable,
    Insert, ObjectName, OnConflictAction, OnInsert, SelectItem, Statement, TableFactor,
    TableObject, Update, UpdateTableFromKind,
};

use super::analysis::{Kind, Refused, Walk, fold, single, split};
use super::query::Columns;
use super::scope::{Scope, Source};

impl Walk<'_> {
    pub(super) fn insert(&mut self, insert: &Insert) -> Result<Columns, Refused> {
        let plain = insert.optimizer_hints.is_empty()
            && insert.or.is_none()
            && !insert.ignore
            && insert.into
            && !insert.by_name
            && !insert.overwrite
            && insert.assignments.is_empty()
            && insert.partitioned.is_none()
            && insert.after_columns.is_empty()
            && !insert.has_table_keyword
            && insert.output.is_none()
            && !insert.replace_into
            && insert.priority.is_none()
            && insert.insert_alias.is_none()
            && insert.settings.is_none()
            && insert.format_clause.is_none()
            && insert.multi_table_insert_type.is_none()
            && insert.multi_table_into_clauses.is_empty()
            && insert.multi_table_when_clauses.is_empty()
            && insert.multi_table_else_clause.is_none();
        let TableObject::TableName(name) = &insert.table else {
            return Err(Refused::forbidden("INSERT writes to one table"));
        };
        if !plain {
            return Err(Refused::syntax("an INSERT that PostgreSQL does not have"));
        }
        let table = self.table(name)?;
        if let Some(source) = &insert.source {
            self.query(source)?;
        }
        let Some(table) = table else {
            return Ok(None);
        };
        let columns = if insert.columns.is_empty() {
            table.columns.clone()
        } else {
            let columns = insert.columns.iter().map(single);
            columns.collect::<Result<_, _>>()?
        };
        let names = columns.iter().map(String::as_str);
        self.touch(&table, TableOperation::Insert, names);
        let alias = match &insert.table_alias {
            Some(alias) => fold(&alias.alias)?,
            None => table.name.clone(),
        };
        self.scopes.push(Scope {
            sources: vec![Source::table(alias, &table)],
            outputs: Vec::new(),
        });
        match &insert.on {
            None => {}
            Some(OnInsert::OnConflict(conflict)) => {
                match &conflict.conflict_target {
                    Some(ConflictTarget::Columns { columns, predicate }) => {
                        for column in columns {
                            self.column(&fold(column)?)?;
                        }
                        if let Some(predicate) = predicate {
                            self.expression(predicate)?;
                        }
                    }
                    Some(ConflictTarget::OnConstraint(_)) => {
                        return Err(Refused::syntax(
                            "name the columns of the constraint after ON CONFLICT",
                        ));
                    }
                    None => {}
                }
                if let OnConflictAction::DoUpdate(update) = &conflict.action {
                    let columns = Some(table.columns.clone());
                    let target = self.scopes.last().map_or(0, |scope| scope.sources.len());
                    self.add(Source::derived("excluded".to_owned(), columns));
                    // A bare name is the table's column: `excluded` must be named.
                    self.assignments(&table, &update.assignments)?;
                    if let Some(condition) = &update.selection {
                        self.expression(condition)?;
                    }
                    if let Some(scope) = self.scopes.last_mut() {
                        scope.sources.truncate(target);
                    }
                }
            }
            Some(_) => return Err(Refused::syntax("an INSERT that PostgreSQL does not have")),
        }
        let outputs = self.returning(insert.returning.as_deref())?;
        self.scopes.pop();
        Ok(outputs)
    }

    pub(super) fn update(&mut self, update: &Update) -> Result<Columns, Refused> {
        let plain = update.optimizer_hints.is_empty()
            && update.on_cluster.is_none()
            && update.output.is_none()
            && update.or.is_none()
            && update.order_by.is_empty()
            && update.limit.is_none()
            && update.settings.is_none()
            && update.table.joins.is_empty();
        if !plain {
            return Err(Refused::syntax("an UPDATE that PostgreSQL does not have"));
        }
        self.scopes.push(Scope::default());
        let table = self.target(&update.table.relation)?;
        if let Some(UpdateTableFromKind::AfterSet(from)) = &update.from {
            for from in from {
                self.from(from)?;
            }
        } else if update.from.is_some() {
            return Err(Refused::syntax("an UPDATE that PostgreSQL does not have"));
        }
        if let Some(table) = &table {
            self.touch(table, TableOperation::Update, []);
            self.assignments(table, &update.assignments)?;
        }
        if let Some(condition) = &update.selection {
            self.expression(condition)?;
        }
        let outputs = self.returning(update.returning.as_deref())?;
        self.scopes.pop();
        Ok(outputs)
    }

    pub(super) fn delete(&mut self, delete: &Delete) -> Result<Columns, Refused> {
        let plain = delete.optimizer_hints.is_empty()
            && delete.tables.is_empty()
            && delete.on_cluster.is_none()
            && delete.output.is_none()
            && delete.order_by.is_empty()
            && delete.limit.is_none()
            && delete.settings.is_none();
        let from = match &delete.from {
            FromTable::WithFromKeyword(from) if plain => &from[..],
            _ => &[],
        };
        let [from] = from else {
            return Err(Refused::syntax("a DELETE that PostgreSQL does not have"));
        };
        if !from.joins.is_empty() {
            return Err(Refused::syntax("a DELETE that PostgreSQL does not have"));
        }
        self.scopes.push(Scope::default());
        let table = self.target(&from.relation)?;
        for using in delete.using.iter().flatten() {
            self.from(using)?;
        }
        if let Some(table) = &table {
            self.touch(table, TableOperation::Delete, []);
        }
        if let Some(condition) = &delete.selection {
            self.expression(condition)?;
        }
        let outputs = self.returning(delete.returning.as_deref())?;
        self.scopes.pop();
        Ok(outputs)
    }

    /// The table that an `UPDATE` or `DELETE` is about: named, not read as a whole.
    fn target(
        &mut self,
        factor: &TableFactor,
    ) -> Result<Option<std::sync::Arc<super::Relation>>, Refused> {
        let TableFactor::Table {
            name,
            alias,
            args: None,
            with_ordinality: false,
            sample: None,
            json_path: None,
            version: None,
            ..
        } = factor
        else {
            return Err(Refused::syntax("the table to change is not understood"));
        };
        let alias = match alias {
            Some(alias) if alias.columns.is_empty() => fold(&alias.name)?,
            Some(_) => return Err(Refused::syntax("columns of a table cannot be renamed")),
            None => split(name)?.1,
        };
        let table = self.table(name)?;
        self.add(match &table {
            Some(table) => Source::table(alias, table),
            None => Source::derived(alias, None),
        });
        Ok(table)
    }

    fn assignments(
        &mut self,
        table: &super::Relation,
        assignments: &[Assignment],
    ) -> Result<(), Refused> {
        for assignment in assignments {
            let one;
            let names: &[ObjectName] = match &assignment.target {
                AssignmentTarget::ColumnName(name) => {
                    one = [name.clone()];
                    &one
                }
                AssignmentTarget::Tuple(names) => names,
            };
            for name in names {
                let name = single(name)?;
                self.touch(table, TableOperation::Update, [name.as_str()]);
            }
            self.value_or_default(&assignment.value)?;
        }
        Ok(())
    }

    /// A value, or `DEFAULT` in its place.
    pub(super) fn value_or_default(&mut self, value: &Expr) -> Result<(), Refused> {
        match value {
            Expr::Identifier(word) if fold(word)? == "default" => Ok(()),
            Expr::Tuple(values) => {
                for value in values {
                    self.value_or_default(value)?;
                }
                Ok(())
            }
            value => self.expression(value),
        }
    }

    fn returning(&mut self, items: Option<&[SelectItem]>) -> Result<Columns, Refused> {
        let Some(items) = items else { return Ok(None) };
        for item in items {
            self.item(item)?;
        }
        self.outputs(items)
    }

    pub(super) fn copy(&mut self, copy: &Statement) -> Result<(&'static str, Kind), Refused> {
        let Statement::Copy {
            source,
            to,
            target,
            payload: None,
            ..
        } = copy
        else {
            return Err(Refused::syntax("a COPY is not understood"));
        };
        match (to, target) {
            (true, CopyTarget::Stdout) | (false, CopyTarget::Stdin) => {}
            _ => {
                return Err(Refused::forbidden(
                    "COPY moves data between a table and the client only: TO STDOUT or FROM STDIN",
                ));
            }
        }
        match source {
            CopySource::Table {
                table_name,
                columns,
            } => {
                let Some(table) = self.table(table_name)? else {
                    return Ok(("COPY", Kind::Plain));
                };
                let columns = if columns.is_empty() {
                    table.columns.clone()
                } else {
                    columns.iter().map(fold).collect::<Result<_, _>>()?
                };
                let operation = if *to {
                    TableOperation::Select
                } else {
                    TableOperation::Insert
                };
                self.touch(&table, operation, columns.iter().map(String::as_str));
            }
            CopySource::Query(query) if *to => {
                self.query(query)?;
            }
            CopySource::Query(_) => return Err(Refused::syntax("a COPY is not understood")),
        }
        Ok(("COPY", if *to { Kind::Plain } else { Kind::CopyIn }))
    }
}
