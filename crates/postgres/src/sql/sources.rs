//! What a query reads from: tables, other queries, functions, and how they are joined.

use model::statement::TableOperation;
use sqlparser::ast::{JoinConstraint, JoinOperator, TableAlias, TableFactor, TableWithJoins};

use super::analysis::{Refused, Walk, fold, single, split};
use super::query::Columns;
use super::scope::Source;

impl Walk<'_> {
    pub(super) fn from(&mut self, from: &TableWithJoins) -> Result<(), Refused> {
        self.factor(&from.relation)?;
        for join in &from.joins {
            if join.global {
                return Err(Refused::syntax("a join that PostgreSQL does not have"));
            }
            self.factor(&join.relation)?;
            match &join.join_operator {
                JoinOperator::Join(on)
                | JoinOperator::Inner(on)
                | JoinOperator::Left(on)
                | JoinOperator::LeftOuter(on)
                | JoinOperator::Right(on)
                | JoinOperator::RightOuter(on)
                | JoinOperator::FullOuter(on)
                | JoinOperator::CrossJoin(on) => self.constraint(on)?,
                _ => return Err(Refused::syntax("a join that PostgreSQL does not have")),
            }
        }
        Ok(())
    }

    fn constraint(&mut self, on: &JoinConstraint) -> Result<(), Refused> {
        match on {
            JoinConstraint::On(condition) => self.expression(condition),
            JoinConstraint::Using(columns) => {
                for column in columns {
                    self.column_everywhere(&single(column)?)?;
                }
                Ok(())
            }
            JoinConstraint::None => Ok(()),
            JoinConstraint::Natural => Err(Refused::syntax(
                "name the columns of a NATURAL JOIN with USING",
            )),
            JoinConstraint::UsingAlias(..) => {
                Err(Refused::syntax("USING with an alias is not understood"))
            }
        }
    }

    fn factor(&mut self, factor: &TableFactor) -> Result<(), Refused> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: None,
                index_directives,
                inheritance: _,
            } if with_hints.is_empty() && partitions.is_empty() && index_directives.is_empty() => {
                self.named(name, alias.as_ref())
            }
            TableFactor::Table {
                name,
                alias,
                args: Some(args),
                with_ordinality: _,
                sample: None,
                ..
            } if args.settings.is_none() => {
                self.called(name)?;
                self.function_arguments(&args.args)?;
                let source = derived(alias.as_ref(), &split(name)?.1, None)?;
                self.add(source);
                Ok(())
            }
            TableFactor::Function {
                name, args, alias, ..
            } => {
                self.called(name)?;
                self.function_arguments(args)?;
                let source = derived(alias.as_ref(), &split(name)?.1, None)?;
                self.add(source);
                Ok(())
            }
            TableFactor::Derived {
                lateral,
                subquery,
                alias,
                sample: None,
            } => {
                // Without LATERAL it does not see its neighbours.
                let hidden = if *lateral { None } else { self.scopes.pop() };
                let columns = self.query(subquery);
                self.scopes.extend(hidden);
                let source = derived(alias.as_ref(), "", columns?)?;
                self.add(source);
                Ok(())
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset: false,
                ..
            } => {
                self.expressions(array_exprs)?;
                let source = derived(alias.as_ref(), "unnest", None)?;
                self.add(source);
                Ok(())
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => self.from(table_with_joins),
            _ => Err(Refused::syntax("an item of FROM is not understood")),
        }
    }

    fn named(
        &mut self,
        name: &sqlparser::ast::ObjectName,
        alias: Option<&TableAlias>,
    ) -> Result<(), Refused> {
        let (schema, plain) = split(name)?;
        if schema.is_none()
            && let Some((_, columns)) = self.ctes.iter().rev().find(|(cte, _)| *cte == plain)
        {
            let columns = columns.clone();
            let source = derived(alias, &plain, columns)?;
            self.add(source);
            return Ok(());
        }
        let shown = match alias {
            Some(alias) if !alias.columns.is_empty() => {
                return Err(Refused::syntax(
                    "columns of a table cannot be renamed in FROM",
                ));
            }
            Some(alias) => fold(&alias.name)?,
            None => plain,
        };
        match self.table(name)? {
            Some(table) => {
                self.touch(&table, TableOperation::Select, []);
                self.add(Source::table(shown, &table));
            }
            None => self.add(Source::derived(shown, None)),
        }
        Ok(())
    }

    pub(super) fn add(&mut self, source: Source) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.sources.push(source);
        }
    }
}

fn derived(alias: Option<&TableAlias>, name: &str, columns: Columns) -> Result<Source, Refused> {
    match alias {
        Some(alias) => {
            let columns = alias_columns(alias)?.or(columns);
            Ok(Source::derived(fold(&alias.name)?, columns))
        }
        None => Ok(Source::derived(name.to_owned(), columns)),
    }
}

/// The columns that an alias names, if it does.
pub(super) fn alias_columns(alias: &TableAlias) -> Result<Columns, Refused> {
    if alias.at.is_some() {
        return Err(Refused::syntax("an alias is not understood"));
    }
    let columns = alias.columns.iter().map(|column| fold(&column.name));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok((!columns.is_empty()).then_some(columns))
}
