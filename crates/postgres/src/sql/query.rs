//! Queries: what they read, and which names their output has.

use model::statement::TableOperation;
use sqlparser::ast::{
    Distinct, GroupByExpr, GroupByWithModifier, LimitClause, OrderBy, OrderByKind, Query, Select,
    SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement,
    WildcardAdditionalOptions, With,
};

use super::analysis::{Refused, Walk, fold, single, split};
use super::scope::Scope;
use super::sources::alias_columns;

/// The names of columns, if they are known.
pub(super) type Columns = Option<Vec<String>>;

impl Walk<'_> {
    /// A query; returns the columns that it gives.
    pub(super) fn query(&mut self, query: &Query) -> Result<Columns, Refused> {
        if query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty()
        {
            return Err(Refused::syntax("a clause that PostgreSQL does not have"));
        }
        let before = self.ctes.len();
        if let Some(with) = &query.with {
            self.with(with)?;
        }
        let columns = match query.body.as_ref() {
            // Its `ORDER BY` sees its tables.
            SetExpr::Select(select) => self.select(select, Some(query))?,
            body => {
                let columns = self.set(body)?;
                if !query.locks.is_empty() {
                    return Err(Refused::forbidden("rows of such a query cannot be locked"));
                }
                self.scopes.push(Scope {
                    outputs: columns.clone().unwrap_or_default(),
                    sources: Vec::new(),
                });
                self.order_by(query.order_by.as_ref())?;
                self.scopes.pop();
                columns
            }
        };
        self.limits(query)?;
        self.ctes.truncate(before);
        Ok(columns)
    }

    fn limits(&mut self, query: &Query) -> Result<(), Refused> {
        match &query.limit_clause {
            None => {}
            Some(LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            }) if limit_by.is_empty() => {
                for expression in limit.iter().chain(offset.as_ref().map(|o| &o.value)) {
                    self.limit(expression)?;
                }
            }
            Some(_) => {
                return Err(Refused::syntax(
                    "write LIMIT and OFFSET as PostgreSQL has them",
                ));
            }
        }
        match query
            .fetch
            .as_ref()
            .and_then(|fetch| fetch.quantity.as_ref())
        {
            Some(quantity) => self.limit(quantity),
            None => Ok(()),
        }
    }

    fn limit(&mut self, expression: &sqlparser::ast::Expr) -> Result<(), Refused> {
        match expression {
            // LIMIT ALL
            sqlparser::ast::Expr::Identifier(word) if fold(word)? == "all" => Ok(()),
            expression => self.expression(expression),
        }
    }

    fn with(&mut self, with: &With) -> Result<(), Refused> {
        for cte in &with.cte_tables {
            if cte.from.is_some() {
                return Err(Refused::syntax("a clause that PostgreSQL does not have"));
            }
            let name = fold(&cte.alias.name)?;
            let named = alias_columns(&cte.alias)?;
            let place = self.ctes.len();
            if with.recursive {
                // It may name itself; what columns that gives is known only after it was walked.
                self.ctes.push((name.clone(), named.clone()));
            }
            let columns = self.query(&cte.query)?;
            self.ctes.truncate(place);
            self.ctes.push((name, named.or(columns)));
        }
        Ok(())
    }

    fn set(&mut self, body: &SetExpr) -> Result<Columns, Refused> {
        match body {
            SetExpr::Select(select) => self.select(select, None),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, right, .. } => {
                let columns = self.set(left)?;
                self.set(right)?;
                Ok(columns)
            }
            SetExpr::Values(values) => {
                let mut width = 0;
                for row in &values.rows {
                    width = row.content.len();
                    for value in &row.content {
                        self.value_or_default(value)?;
                    }
                }
                Ok(Some((1..=width).map(|n| format!("column{n}")).collect()))
            }
            SetExpr::Insert(Statement::Insert(insert)) => self.insert(insert),
            SetExpr::Update(Statement::Update(update)) => self.update(update),
            SetExpr::Delete(Statement::Delete(delete)) => self.delete(delete),
            SetExpr::Table(_) => Err(Refused::syntax("write `SELECT * FROM` for `TABLE`")),
            _ => Err(Refused::forbidden("this kind of query is not allowed")),
        }
    }

    fn select(&mut self, select: &Select, query: Option<&Query>) -> Result<Columns, Refused> {
        let plain = select.flavor == SelectFlavor::Standard
            && select.optimizer_hints.is_empty()
            && select.select_modifiers.is_none()
            && select.top.is_none()
            && select.exclude.is_none()
            && select.lateral_views.is_empty()
            && select.prewhere.is_none()
            && select.connect_by.is_empty()
            && select.cluster_by.is_empty()
            && select.distribute_by.is_empty()
            && select.sort_by.is_empty()
            && select.qualify.is_none()
            && select.value_table_mode.is_none();
        if !plain {
            return Err(Refused::syntax("a clause that PostgreSQL does not have"));
        }
        if select.into.is_some() {
            return Err(Refused::forbidden("SELECT INTO makes a table"));
        }
        self.scopes.push(Scope::default());
        for from in &select.from {
            self.from(from)?;
        }
        self.select_list(select)?;
        let columns = self.outputs(&select.projection)?;
        if let Some(scope) = self.scopes.last_mut() {
            scope.outputs = columns.clone().unwrap_or_default();
        }
        if let Some(query) = query {
            self.order_by(query.order_by.as_ref())?;
            for lock in &query.locks {
                self.lock(lock)?;
            }
        }
        self.scopes.pop();
        Ok(columns)
    }

    fn select_list(&mut self, select: &Select) -> Result<(), Refused> {
        if let Some(Distinct::On(expressions)) = &select.distinct {
            self.expressions(expressions)?;
        }
        for item in &select.projection {
            self.item(item)?;
        }
        if let Some(condition) = &select.selection {
            self.expression(condition)?;
        }
        // Names of the output may be used behind it.
        let columns = self.outputs(&select.projection)?;
        if let Some(scope) = self.scopes.last_mut() {
            scope.outputs = columns.unwrap_or_default();
        }
        match &select.group_by {
            GroupByExpr::Expressions(expressions, modifiers) => {
                self.expressions(expressions)?;
                self.grouping(modifiers)?;
            }
            GroupByExpr::All(_) => {
                return Err(Refused::syntax("name the expressions to group by"));
            }
        }
        if let Some(having) = &select.having {
            self.expression(having)?;
        }
        for window in &select.named_window {
            if let sqlparser::ast::NamedWindowExpr::WindowSpec(spec) = &window.1 {
                self.window(spec)?;
            }
        }
        Ok(())
    }

    fn grouping(&mut self, modifiers: &[GroupByWithModifier]) -> Result<(), Refused> {
        for modifier in modifiers {
            match modifier {
                GroupByWithModifier::GroupingSets(expression) => self.expression(expression)?,
                _ => return Err(Refused::syntax("a clause that PostgreSQL does not have")),
            }
        }
        Ok(())
    }

    /// `FOR UPDATE` and the like need the right to change rows, as they do in the database.
    fn lock(&mut self, lock: &sqlparser::ast::LockClause) -> Result<(), Refused> {
        let of = lock.of.as_ref().map(single).transpose()?;
        let Some(scope) = self.scopes.last() else {
            return Ok(());
        };
        let locked: Vec<_> = scope
            .sources
            .iter()
            .filter(|source| of.as_ref().is_none_or(|of| *of == source.alias))
            .filter_map(|source| source.table.clone())
            .collect();
        for table in locked {
            self.touch(&table, TableOperation::Update, []);
        }
        Ok(())
    }

    pub(super) fn item(&mut self, item: &SelectItem) -> Result<(), Refused> {
        match item {
            SelectItem::UnnamedExpr(expression)
            | SelectItem::ExprWithAlias {
                expr: expression, ..
            } => self.expression(expression),
            SelectItem::Wildcard(options) => {
                plain_wildcard(options)?;
                self.whole(None)
            }
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) => {
                plain_wildcard(options)?;
                let (_, alias) = split(name)?;
                self.whole(Some(&alias))
            }
            _ => Err(Refused::syntax("a column of the output is not understood")),
        }
    }

    /// Everything that the innermost tables have, or the one of this name.
    pub(super) fn whole(&mut self, alias: Option<&str>) -> Result<(), Refused> {
        let scopes = self.scopes.iter().rev();
        let scopes = scopes.take(if alias.is_some() { usize::MAX } else { 1 });
        for scope in scopes {
            let named: Vec<_> = scope
                .sources
                .iter()
                .filter(|source| alias.is_none_or(|alias| source.alias == alias))
                .map(|source| source.table.clone())
                .collect();
            if named.is_empty() && alias.is_some() {
                continue;
            }
            for table in named.into_iter().flatten() {
                let columns = table.columns.clone();
                let columns = columns.iter().map(String::as_str);
                self.touch(&table, TableOperation::Select, columns);
            }
            return Ok(());
        }
        if self.is_lost() || alias.is_none() {
            return Ok(());
        }
        Err(Refused::no_column("*"))
    }

    /// The names that a list of items has in the output.
    pub(super) fn outputs(&self, items: &[SelectItem]) -> Result<Columns, Refused> {
        use sqlparser::ast::Expr;
        let mut names = Vec::with_capacity(items.len());
        for item in items {
            match item {
                SelectItem::ExprWithAlias { alias, .. } => names.push(fold(alias)?),
                SelectItem::UnnamedExpr(Expr::Identifier(name)) => names.push(fold(name)?),
                SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
                    names.extend(parts.last().map(fold).transpose()?);
                }
                SelectItem::UnnamedExpr(Expr::Function(function)) => {
                    names.push(split(&function.name)?.1);
                }
                SelectItem::UnnamedExpr(_) => return Ok(None),
                SelectItem::Wildcard(_) => {
                    for source in self.scopes.last().iter().flat_map(|scope| &scope.sources) {
                        match &source.columns {
                            Some(columns) => names.extend(columns.iter().cloned()),
                            None => return Ok(None),
                        }
                    }
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(names))
    }

    fn order_by(&mut self, order: Option<&OrderBy>) -> Result<(), Refused> {
        let Some(order) = order else { return Ok(()) };
        match &order.kind {
            OrderByKind::Expressions(expressions) if order.interpolate.is_none() => {
                self.ordering(expressions)
            }
            _ => Err(Refused::syntax("an ORDER BY that PostgreSQL does not have")),
        }
    }
}

fn plain_wildcard(options: &WildcardAdditionalOptions) -> Result<(), Refused> {
    let plain = options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none();
    if plain {
        Ok(())
    } else {
        Err(Refused::syntax(
            "a `*` with options that PostgreSQL does not have",
        ))
    }
}
