//! Statements that write: what comes into which column, and what chooses the rows.

use std::sync::Arc;

use model::statement::{Steers, TableOperation};
use sqlparser::ast::{
    Assignment, AssignmentTarget, ConflictTarget, CopySource, Delete, Expr, FromTable, Insert,
    OnConflictAction, OnInsert, SetExpr, Statement, TableFactor, TableObject, Update,
    UpdateTableFromKind,
};

use super::super::analysis::{Refused, fold, single, split};
use super::super::catalog::Relation;
use super::feeds::plain;
use super::{Finder, From, Output, Outputs, Source, SourceKind, add};

impl Finder<'_> {
    pub(super) fn insert(&mut self, insert: &Insert) -> Result<Outputs, Refused> {
        let TableObject::TableName(name) = &insert.table else {
            return Err(Refused::forbidden("INSERT writes to one table"));
        };
        let around = self.writes.replace(TableOperation::Insert);
        let table = self.table(name)?;
        let Some(table) = table else {
            self.writes = around;
            return Ok(None);
        };
        let columns = if insert.columns.is_empty() {
            table.columns.clone()
        } else {
            let columns = insert.columns.iter().map(single);
            columns.collect::<Result<_, _>>()?
        };
        let full = table.full_name();
        let written = Steers::Written(TableOperation::Insert);
        let mut proposed: Vec<Output> = table
            .columns
            .iter()
            .map(|name| Output {
                name: name.clone(),
                feeds: Vec::new(),
            })
            .collect();
        let mut propose = |column: &str, feeds: Vec<From>| {
            if let Some(output) = proposed.iter_mut().find(|output| output.name == column) {
                add(&mut output.feeds, feeds);
            }
        };
        match insert.source.as_deref() {
            None => {}
            // Row by row: each value is told, however many there are.
            Some(query) if query.with.is_none() && is_values(&query.body) => {
                if let SetExpr::Values(values) = query.body.as_ref() {
                    for row in &values.rows {
                        for (value, column) in row.content.iter().zip(&columns) {
                            let feeds = self.value(value, None)?;
                            propose(column, feeds.clone());
                            self.flow(Some((&full, column)), written, feeds);
                        }
                    }
                }
            }
            Some(query) => {
                let outputs = self.query(query)?;
                for (at, column) in columns.iter().enumerate() {
                    let feeds = match &outputs {
                        Some(outputs) => outputs.get(at).map(|one| one.feeds.clone()),
                        None => Some(vec![From::Computed]),
                    };
                    let feeds = feeds.unwrap_or_default();
                    propose(column, feeds.clone());
                    self.flow(Some((&full, column)), written, feeds);
                }
            }
        }
        let alias = match &insert.table_alias {
            Some(alias) => fold(&alias.alias)?,
            None => table.name.clone(),
        };
        self.scopes.push(vec![Source {
            alias,
            kind: SourceKind::Target(Arc::clone(&table)),
        }]);
        if let Some(OnInsert::OnConflict(conflict)) = &insert.on
            && let OnConflictAction::DoUpdate(update) = &conflict.action
        {
            self.writes = Some(TableOperation::Update);
            self.conflicting(&table, conflict.conflict_target.as_ref(), &proposed)?;
            if let Some(scope) = self.scopes.last_mut() {
                scope.push(Source {
                    alias: "excluded".to_owned(),
                    kind: SourceKind::Derived(Some(proposed)),
                });
            }
            self.assignments(&table, &update.assignments)?;
            if let Some(condition) = &update.selection {
                self.condition(condition)?;
            }
            if let Some(scope) = self.scopes.last_mut() {
                scope.truncate(1);
            }
        }
        let outputs = insert.returning.as_deref().map(|items| self.outputs(items));
        self.scopes.pop();
        self.writes = around;
        Ok(outputs.transpose()?.flatten())
    }

    /// The row that is changed instead is chosen by what was to be inserted.
    fn conflicting(
        &mut self,
        table: &Relation,
        target: Option<&ConflictTarget>,
        proposed: &[Output],
    ) -> Result<(), Refused> {
        let full = table.full_name();
        let steers = Steers::Compared(TableOperation::Update);
        let mut by = Vec::new();
        match target {
            Some(ConflictTarget::Columns { columns, predicate }) => {
                for column in columns {
                    let column = fold(column)?;
                    let output = proposed.iter().find(|output| output.name == column);
                    let feeds = output.map_or_else(|| vec![From::Computed], |o| o.feeds.clone());
                    if !feeds.is_empty() {
                        by.push(column.clone());
                    }
                    self.flow(Some((&full, &column)), steers, feeds);
                }
                if let Some(predicate) = predicate {
                    self.condition(predicate)?;
                }
            }
            _ => self.flow(None, steers, vec![From::Computed]),
        }
        self.flow(Some((&full, "")), steers, vec![From::Rows(by)]);
        Ok(())
    }

    pub(super) fn update(&mut self, update: &Update) -> Result<Outputs, Refused> {
        let around = self.writes.replace(TableOperation::Update);
        self.scopes.push(Vec::new());
        let table = self.target(&update.table.relation)?;
        let mut conditions = Vec::new();
        if let Some(UpdateTableFromKind::AfterSet(from)) = &update.from {
            for from in from {
                self.from(from, &mut conditions)?;
            }
        }
        if let Some((_, table)) = &table {
            self.assignments(table, &update.assignments)?;
        }
        let selection = update.selection.as_ref();
        self.changed(table, TableOperation::Update, selection, conditions)?;
        let outputs = update.returning.as_deref().map(|items| self.outputs(items));
        self.scopes.pop();
        self.writes = around;
        Ok(outputs.transpose()?.flatten())
    }

    pub(super) fn delete(&mut self, delete: &Delete) -> Result<Outputs, Refused> {
        let around = self.writes.replace(TableOperation::Delete);
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
        self.scopes.push(Vec::new());
        let mut table = None;
        for from in from {
            table = self.target(&from.relation)?;
        }
        let mut conditions = Vec::new();
        for using in delete.using.iter().flatten() {
            self.from(using, &mut conditions)?;
        }
        let selection = delete.selection.as_ref();
        self.changed(table, TableOperation::Delete, selection, conditions)?;
        let outputs = delete.returning.as_deref().map(|items| self.outputs(items));
        self.scopes.pop();
        self.writes = around;
        Ok(outputs.transpose()?.flatten())
    }

    /// What chooses the rows that are changed or removed.
    fn changed<'e>(
        &mut self,
        table: Option<(String, Arc<Relation>)>,
        operation: TableOperation,
        selection: Option<&'e Expr>,
        mut conditions: Vec<&'e Expr>,
    ) -> Result<(), Refused> {
        if let Some(condition) = selection {
            self.condition(condition)?;
            conditions.push(condition);
        }
        if let Some((alias, table)) = table {
            let by = self.chosen_by(&alias, &conditions)?;
            let steers = Steers::Compared(operation);
            self.flow(Some((&table.full_name(), "")), steers, vec![From::Rows(by)]);
        }
        // Those that are read on the way.
        self.rows_of_tables(&conditions)
    }

    fn target(&mut self, factor: &TableFactor) -> Result<Option<(String, Arc<Relation>)>, Refused> {
        let TableFactor::Table { name, alias, .. } = factor else {
            return Err(Refused::syntax("the table to change is not understood"));
        };
        let alias = match alias {
            Some(alias) => fold(&alias.name)?,
            None => split(name)?.1,
        };
        let table = self.table(name)?;
        let kind = match &table {
            Some(table) => SourceKind::Target(Arc::clone(table)),
            None => SourceKind::Derived(None),
        };
        if let Some(scope) = self.scopes.last_mut() {
            scope.push(Source {
                alias: alias.clone(),
                kind,
            });
        }
        Ok(table.map(|table| (alias, table)))
    }

    fn assignments(&mut self, table: &Relation, assignments: &[Assignment]) -> Result<(), Refused> {
        let full = table.full_name();
        let written = Steers::Written(TableOperation::Update);
        for assignment in assignments {
            match &assignment.target {
                AssignmentTarget::ColumnName(name) => {
                    let column = single(name)?;
                    let feeds = self.value(&assignment.value, Some((&full, &column)))?;
                    self.flow(Some((&full, &column)), written, feeds);
                }
                AssignmentTarget::Tuple(names) => {
                    let columns = names.iter().map(single).collect::<Result<Vec<_>, _>>()?;
                    let values = self.row(&assignment.value, &full, &columns)?;
                    for (column, feeds) in columns.iter().zip(values) {
                        self.flow(Some((&full, column)), written, feeds);
                    }
                }
            }
        }
        Ok(())
    }

    /// What is written to several columns at once.
    fn row(
        &mut self,
        value: &Expr,
        table: &str,
        columns: &[String],
    ) -> Result<Vec<Vec<From>>, Refused> {
        match plain(value) {
            Expr::Tuple(values) if values.len() == columns.len() => {
                let pairs = values.iter().zip(columns);
                pairs
                    .map(|(value, column)| self.value(value, Some((table, column))))
                    .collect()
            }
            Expr::Subquery(query) => {
                let outputs = self.query(query)?;
                let outputs = outputs.filter(|outputs| outputs.len() == columns.len());
                Ok(match outputs {
                    Some(outputs) => outputs.into_iter().map(|one| one.feeds).collect(),
                    None => vec![vec![From::Computed]; columns.len()],
                })
            }
            other => {
                let feeds = self.computed(other)?;
                Ok(vec![feeds; columns.len()])
            }
        }
    }

    /// A value that is written. `DEFAULT` is what the table says.
    pub(super) fn value(
        &mut self,
        value: &Expr,
        own: Option<(&str, &str)>,
    ) -> Result<Vec<From>, Refused> {
        match value {
            Expr::Identifier(word)
                if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("default") =>
            {
                Ok(Vec::new())
            }
            value => self.feeds(value, own),
        }
    }

    pub(super) fn copy(&mut self, copy: &Statement) -> Result<(), Refused> {
        let Statement::Copy { source, to, .. } = copy else {
            return Ok(());
        };
        match source {
            CopySource::Query(query) => self.whole(query).map(drop),
            CopySource::Table {
                table_name,
                columns,
            } => {
                let Some(table) = self.table(table_name)? else {
                    return Ok(());
                };
                let full = table.full_name();
                if *to {
                    let steers = Steers::Compared(TableOperation::Select);
                    self.flow(Some((&full, "")), steers, vec![From::Rows(Vec::new())]);
                    return Ok(());
                }
                let columns = if columns.is_empty() {
                    table.columns.clone()
                } else {
                    columns.iter().map(fold).collect::<Result<_, _>>()?
                };
                for column in &columns {
                    let steers = Steers::Written(TableOperation::Insert);
                    self.flow(Some((&full, column)), steers, vec![From::Unseen]);
                }
                Ok(())
            }
        }
    }
}

fn is_values(body: &SetExpr) -> bool {
    matches!(body, SetExpr::Values(_))
}
