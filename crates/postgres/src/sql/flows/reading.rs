//! Queries: what chooses their rows, and what their columns may be.

use model::statement::{Steers, TableOperation};
use sqlparser::ast::{
    BinaryOperator, Distinct, Expr, GroupByExpr, GroupByWithModifier, InTarget, JoinConstraint,
    JoinOperator, LimitClause, NamedWindowExpr, OrderBy, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Statement, TableAlias, TableFactor, TableWithJoins,
    UnaryOperator, Value,
};

use super::super::analysis::{Refused, fold, split};
use super::super::sources::alias_columns;
use super::feeds::{is_single, keeps, plain};
use super::{Column, Finder, From, Output, Outputs, Source, SourceKind, add};

impl Finder<'_> {
    /// A query: what its columns may be.
    pub(super) fn query(&mut self, query: &Query) -> Result<Outputs, Refused> {
        let before = self.ctes.len();
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let name = fold(&cte.alias.name)?;
            let place = self.ctes.len();
            // What it says of itself is known only when it was walked.
            self.ctes.push((name.clone(), None));
            let outputs = self.query(&cte.query)?;
            self.ctes.truncate(place);
            self.ctes.push((name, renamed(outputs, &cte.alias)?));
        }
        let outputs = match query.body.as_ref() {
            SetExpr::Select(select) => self.select(select, query.order_by.as_ref())?,
            body => {
                let outputs = self.set(body)?;
                self.scopes.push(vec![Source {
                    alias: String::new(),
                    kind: SourceKind::Derived(outputs.clone()),
                }]);
                self.order(query.order_by.as_ref(), &outputs)?;
                self.scopes.pop();
                outputs
            }
        };
        let fetched = query
            .fetch
            .as_ref()
            .and_then(|fetch| fetch.quantity.as_ref());
        if let Some(quantity) = fetched.filter(|quantity| !is_single(quantity)) {
            self.mention(quantity)?;
        }
        if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
            // How many there are chooses none of them.
            if let Some(limit) = limit
                .as_ref()
                .filter(|limit| !is_single(limit) && !is_all(limit))
            {
                self.mention(limit)?;
            }
            if let Some(offset) = offset {
                let feeds = self.feeds(&offset.value, None)?;
                self.choose(None, feeds);
            }
        }
        self.ctes.truncate(before);
        self.step(weight(&outputs))?;
        Ok(outputs)
    }

    fn set(&mut self, body: &SetExpr) -> Result<Outputs, Refused> {
        match body {
            SetExpr::Select(select) => self.select(select, None),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, right, .. } => {
                let (left, right) = (self.set(left)?, self.set(right)?);
                Ok(left.zip(right).map(|(mut left, right)| {
                    for (one, other) in left.iter_mut().zip(right) {
                        add(&mut one.feeds, other.feeds);
                    }
                    left
                }))
            }
            SetExpr::Values(values) => {
                let mut outputs: Vec<Output> = Vec::new();
                for row in &values.rows {
                    for (at, value) in row.content.iter().enumerate() {
                        let feeds = self.value(value, None)?;
                        match outputs.get_mut(at) {
                            Some(output) => add(&mut output.feeds, feeds),
                            None => outputs.push(Output {
                                name: format!("column{}", at + 1),
                                feeds,
                            }),
                        }
                    }
                }
                Ok(Some(outputs))
            }
            SetExpr::Insert(Statement::Insert(insert)) => self.insert(insert),
            SetExpr::Update(Statement::Update(update)) => self.update(update),
            SetExpr::Delete(Statement::Delete(delete)) => self.delete(delete),
            _ => Ok(None),
        }
    }

    fn select(&mut self, select: &Select, order: Option<&OrderBy>) -> Result<Outputs, Refused> {
        self.scopes.push(Vec::new());
        let mut conditions = Vec::new();
        for from in &select.from {
            self.from(from, &mut conditions)?;
        }
        if let Some(condition) = &select.selection {
            self.condition(condition)?;
            conditions.push(condition);
        }
        self.rows_of_tables(&conditions)?;
        if let GroupByExpr::Expressions(expressions, modifiers) = &select.group_by {
            expressions.iter().try_for_each(|one| self.mention(one))?;
            for modifier in modifiers {
                if let GroupByWithModifier::GroupingSets(one) = modifier {
                    self.mention(one)?;
                }
            }
        }
        if let Some(having) = &select.having {
            self.condition(having)?;
        }
        for window in &select.named_window {
            if let NamedWindowExpr::WindowSpec(spec) = &window.1 {
                spec.partition_by
                    .iter()
                    .try_for_each(|one| self.mention(one))?;
                spec.order_by
                    .iter()
                    .try_for_each(|one| self.mention(&one.expr))?;
            }
        }
        let outputs = self.outputs(&select.projection)?;
        if let Some(Distinct::On(expressions)) = &select.distinct {
            expressions.iter().try_for_each(|one| self.mention(one))?;
            self.outputs_choose(expressions.iter(), &outputs)?;
        }
        self.order(order, &outputs)?;
        self.scopes.pop();
        Ok(outputs)
    }

    /// What the columns of a list may be.
    pub(super) fn outputs(&mut self, items: &[SelectItem]) -> Result<Outputs, Refused> {
        let mut outputs = Some(Vec::with_capacity(items.len()));
        for item in items {
            let more = match item {
                SelectItem::ExprWithAlias { expr, alias } => Some(vec![Output {
                    name: fold(alias)?,
                    feeds: self.feeds(expr, None)?,
                }]),
                SelectItem::UnnamedExpr(expr) => {
                    let name = match expr {
                        Expr::Identifier(name) => fold(name)?,
                        Expr::CompoundIdentifier(parts) => {
                            parts.last().map(fold).transpose()?.unwrap_or_default()
                        }
                        Expr::Function(function) => split(&function.name)?.1,
                        _ => String::new(),
                    };
                    let feeds = self.feeds(expr, None)?;
                    Some(vec![Output { name, feeds }])
                }
                SelectItem::Wildcard(_) => self.everything(None),
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => self.everything(Some(&split(name)?.1)),
                _ => None,
            };
            self.step(weight(&more))?;
            match (&mut outputs, more) {
                (Some(outputs), Some(more)) => outputs.extend(more),
                (outputs, _) => *outputs = None,
            }
        }
        Ok(outputs)
    }

    /// All columns of the innermost sources, or of the one of this name.
    fn everything(&self, alias: Option<&str>) -> Outputs {
        let scopes = self.scopes.iter().rev();
        let scopes = scopes.take(if alias.is_some() { usize::MAX } else { 1 });
        for scope in scopes {
            let named = |source: &&Source| alias.is_none_or(|alias| source.alias == alias);
            let sources: Vec<&Source> = scope.iter().filter(named).collect();
            if sources.is_empty() {
                continue;
            }
            let mut outputs = Vec::new();
            for source in sources {
                match &source.kind {
                    SourceKind::Target(table) | SourceKind::Table(table) => {
                        outputs.extend(table.columns.iter().map(|name| Output {
                            name: name.clone(),
                            feeds: vec![From::Column(table.full_name(), name.clone())],
                        }));
                    }
                    SourceKind::Derived(more) => outputs.extend(more.clone()?),
                }
            }
            return Some(outputs);
        }
        None
    }

    /// Takes in what a query reads from. Conditions that must hold for every row are collected.
    pub(super) fn from<'e>(
        &mut self,
        from: &'e TableWithJoins,
        conditions: &mut Vec<&'e Expr>,
    ) -> Result<(), Refused> {
        self.factor(&from.relation, conditions)?;
        for join in &from.joins {
            self.factor(&join.relation, conditions)?;
            let (on, inner) = match &join.join_operator {
                JoinOperator::Join(on) | JoinOperator::Inner(on) | JoinOperator::CrossJoin(on) => {
                    (on, true)
                }
                JoinOperator::Left(on)
                | JoinOperator::LeftOuter(on)
                | JoinOperator::Right(on)
                | JoinOperator::RightOuter(on)
                | JoinOperator::FullOuter(on) => (on, false),
                _ => continue,
            };
            match on {
                JoinConstraint::On(condition) => {
                    self.condition(condition)?;
                    if inner {
                        conditions.push(condition);
                    }
                }
                JoinConstraint::Using(columns) => {
                    for column in columns {
                        let name = split(column)?.1;
                        self.joined_by(&name);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A column that tables are joined by: each is compared with the others.
    fn joined_by(&mut self, name: &str) {
        let scope = self.scopes.last().into_iter().flatten();
        let joined: Vec<Column> = scope.filter_map(|source| source.column(name)).collect();
        for (at, one) in joined.iter().enumerate() {
            for other in joined.iter().skip(at + 1) {
                self.columns_meet(one, other);
            }
        }
    }

    fn factor<'e>(
        &mut self,
        factor: &'e TableFactor,
        conditions: &mut Vec<&'e Expr>,
    ) -> Result<(), Refused> {
        let (alias, name, kind) = match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } => {
                let (schema, plain) = split(name)?;
                let ctes = self.ctes.iter().rev();
                let cte = ctes
                    .filter(|_| schema.is_none())
                    .find(|(cte, _)| *cte == plain);
                let kind = match cte.map(|(_, outputs)| outputs.clone()) {
                    Some(outputs) => SourceKind::Derived(outputs),
                    None => match self.table(name)? {
                        Some(table) => SourceKind::Table(table),
                        None => SourceKind::Derived(None),
                    },
                };
                (alias, plain, kind)
            }
            TableFactor::Table {
                name,
                alias,
                args: Some(args),
                ..
            } => {
                let kind = self.called(name, &args.args)?;
                (alias, split(name)?.1, kind)
            }
            TableFactor::Function {
                name, args, alias, ..
            } => {
                let kind = self.called(name, args)?;
                (alias, split(name)?.1, kind)
            }
            TableFactor::Derived {
                lateral,
                subquery,
                alias,
                ..
            } => {
                // Without LATERAL it does not see its neighbours.
                let hidden = if *lateral { None } else { self.scopes.pop() };
                let outputs = self.query(subquery);
                self.scopes.extend(hidden);
                (alias, String::new(), SourceKind::Derived(outputs?))
            }
            TableFactor::UNNEST {
                alias, array_exprs, ..
            } => {
                let mut outputs = Vec::with_capacity(array_exprs.len());
                for array in array_exprs {
                    outputs.push(Output {
                        name: "unnest".to_owned(),
                        feeds: elements(self.feeds(array, None)?),
                    });
                }
                let outputs = SourceKind::Derived(Some(outputs));
                (alias, "unnest".to_owned(), outputs)
            }
            TableFactor::NestedJoin {
                table_with_joins, ..
            } => return self.from(table_with_joins, conditions),
            _ => return Err(Refused::syntax("an item of FROM is not understood")),
        };
        if let SourceKind::Derived(outputs) = &kind {
            self.step(weight(outputs))?;
        }
        let source = match alias {
            None => Source { alias: name, kind },
            Some(alias) => Source {
                alias: fold(&alias.name)?,
                kind: match kind {
                    SourceKind::Derived(outputs) => SourceKind::Derived(renamed(outputs, alias)?),
                    table => table,
                },
            },
        };
        if let Some(scope) = self.scopes.last_mut() {
            scope.push(source);
        }
        Ok(())
    }

    /// A function that gives rows.
    fn called(
        &mut self,
        name: &sqlparser::ast::ObjectName,
        args: &[sqlparser::ast::FunctionArg],
    ) -> Result<SourceKind, Refused> {
        use sqlparser::ast::{FunctionArg, FunctionArgExpr};
        if self.is_added(name)? {
            self.argument_list(&split(name)?.1, args)?;
            return Ok(SourceKind::Derived(None));
        }
        let is_unnest = split(name)?.1 == "unnest";
        let mut outputs = Vec::new();
        for arg in args {
            let (FunctionArg::Named { arg, .. }
            | FunctionArg::Unnamed(arg)
            | FunctionArg::ExprNamed { arg, .. }) = arg;
            let FunctionArgExpr::Expr(expression) = arg else {
                return Ok(SourceKind::Derived(None));
            };
            if is_unnest {
                outputs.push(Output {
                    name: "unnest".to_owned(),
                    feeds: elements(self.feeds(expression, None)?),
                });
            } else {
                self.mention(expression)?;
            }
        }
        Ok(SourceKind::Derived(is_unnest.then_some(outputs)))
    }

    fn order(&mut self, order: Option<&OrderBy>, outputs: &Outputs) -> Result<(), Refused> {
        if let Some(OrderBy {
            kind: OrderByKind::Expressions(expressions),
            ..
        }) = order
        {
            for one in expressions {
                self.mention(&one.expr)?;
            }
            self.outputs_choose(expressions.iter().map(|one| &one.expr), outputs)?;
        }
        Ok(())
    }

    /// Where rows are put in order by a column of the output, by its place or its name, what that column is
    /// made of has a part in which rows come first.
    fn outputs_choose<'e>(
        &mut self,
        mut by: impl Iterator<Item = &'e Expr>,
        outputs: &Outputs,
    ) -> Result<(), Refused> {
        let is_output = |finder: &Self, one: &Expr| -> Result<bool, Refused> {
            Ok(match plain(one) {
                Expr::Value(_) => true,
                Expr::Identifier(name) => {
                    let name = fold(name)?;
                    let mut known = outputs.iter().flatten();
                    outputs.is_none()
                        || known.any(|output| output.name == name)
                        || finder.bare(&name) == Column::Unknown
                }
                _ => false,
            })
        };
        let chooses = by.try_fold(false, |found, one| {
            Ok::<_, Refused>(found || is_output(self, one)?)
        })?;
        if chooses {
            let feeds = outputs
                .iter()
                .flatten()
                .flat_map(|output| output.feeds.clone());
            let feeds = self.choosing_feeds(feeds.collect());
            self.flow(None, self.choosing(), feeds);
        }
        Ok(())
    }

    /// Of what has a part in the order of rows: what chooses some of them. A column by itself does not,
    /// unless something is changed.
    fn choosing_feeds(&self, mut feeds: Vec<From>) -> Vec<From> {
        if self.writes.is_none() {
            feeds.retain(|from| !matches!(from, From::Column(..)));
        }
        feeds
    }

    /// An expression that has a part in which rows there are, or in what order. Numbers by themselves are
    /// places in the list of columns.
    pub(super) fn mention(&mut self, expression: &Expr) -> Result<(), Refused> {
        match plain(expression) {
            Expr::Value(value) if matches!(value.value, Value::Number(..)) => return Ok(()),
            // The name of an output.
            Expr::Identifier(name) if self.bare(&fold(name)?) == Column::Unknown => return Ok(()),
            _ => {}
        }
        let feeds = self.feeds(expression, None)?;
        let feeds = self.choosing_feeds(feeds);
        self.flow(None, self.choosing(), feeds);
        Ok(())
    }

    /// A condition on rows.
    pub(super) fn condition(&mut self, condition: &Expr) -> Result<(), Refused> {
        match condition {
            Expr::Nested(one)
            | Expr::IsFalse(one)
            | Expr::IsNotFalse(one)
            | Expr::IsTrue(one)
            | Expr::IsNotTrue(one)
            | Expr::IsNull(one)
            | Expr::IsNotNull(one)
            | Expr::IsUnknown(one)
            | Expr::IsNotUnknown(one)
            | Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr: one,
            } => self.condition(one),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::And | BinaryOperator::Or,
                right,
            } => {
                self.condition(left)?;
                self.condition(right)
            }
            Expr::BinaryOp { left, right, .. }
            | Expr::IsDistinctFrom(left, right)
            | Expr::IsNotDistinctFrom(left, right) => self.compared(left, right),
            Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. } => {
                let partner = self.column_of(left)?;
                self.meets(partner.as_ref(), left)?;
                let feeds = elements(self.feeds(right, None)?);
                self.choose(partner.as_ref(), feeds);
                Ok(())
            }
            Expr::In { expr, target, .. } => {
                if let (Expr::Tuple(left), InTarget::List(rows)) = (plain(expr), target) {
                    for row in rows {
                        match plain(row) {
                            Expr::Tuple(right) if right.len() == left.len() => {
                                let pairs = left.iter().zip(right);
                                pairs
                                    .into_iter()
                                    .try_for_each(|(l, r)| self.compared(l, r))?;
                            }
                            other => self.compared(expr, other)?,
                        }
                    }
                    return Ok(());
                }
                let partner = self.column_of(expr)?;
                self.meets(partner.as_ref(), expr)?;
                match target {
                    InTarget::List(list) => {
                        for one in list {
                            self.against(partner.as_ref(), one)?;
                        }
                    }
                    InTarget::Subquery(query) => {
                        let feeds = match self.query(query)? {
                            Some(outputs) => {
                                let mut feeds = Vec::new();
                                outputs
                                    .into_iter()
                                    .for_each(|one| add(&mut feeds, one.feeds));
                                feeds
                            }
                            None => vec![From::Computed],
                        };
                        self.choose(partner.as_ref(), feeds);
                    }
                    _ => self.choose(partner.as_ref(), vec![From::Computed]),
                }
                Ok(())
            }
            Expr::Between {
                expr, low, high, ..
            } => {
                let partner = self.column_of(expr)?;
                self.meets(partner.as_ref(), expr)?;
                self.against(partner.as_ref(), low)?;
                self.against(partner.as_ref(), high)
            }
            Expr::Like { expr, pattern, .. }
            | Expr::ILike { expr, pattern, .. }
            | Expr::SimilarTo { expr, pattern, .. } => self.compared(expr, pattern),
            Expr::Exists { subquery, .. } => self.query(subquery).map(drop),
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => self.meets(None, condition),
            other => {
                let feeds = self.feeds(other, None)?;
                self.choose(None, feeds);
                Ok(())
            }
        }
    }

    fn compared(&mut self, left: &Expr, right: &Expr) -> Result<(), Refused> {
        if let (Expr::Tuple(lefts), Expr::Tuple(rights)) = (plain(left), plain(right))
            && lefts.len() == rights.len()
        {
            let mut pairs = lefts.iter().zip(rights);
            return pairs.try_for_each(|(left, right)| self.compared(left, right));
        }
        match (self.column_of(left)?, self.column_of(right)?) {
            (Some(left), Some(right)) => {
                self.columns_meet(&left, &right);
                Ok(())
            }
            (Some(column), None) => {
                self.meets(Some(&column), left)?;
                self.against(Some(&column), right)
            }
            (None, Some(column)) => {
                self.meets(Some(&column), right)?;
                self.against(Some(&column), left)
            }
            (None, None) => {
                self.against(None, left)?;
                self.against(None, right)
            }
        }
    }

    /// A value that a column is compared with.
    fn against(&mut self, partner: Option<&Column>, value: &Expr) -> Result<(), Refused> {
        let feeds = self.feeds(value, None)?;
        self.choose(partner, feeds);
        Ok(())
    }

    fn choose(&mut self, partner: Option<&Column>, feeds: Vec<From>) {
        let place = partner.and_then(Column::place);
        self.flow(place, self.choosing(), feeds);
    }

    /// Two columns that are compared: of two tables, each chooses rows of the other. The one whose rows
    /// are changed chooses for itself.
    fn columns_meet(&mut self, one: &Column, other: &Column) {
        let read = |column: &Column| match column {
            Column::Target(..) => Vec::new(),
            Column::Table(table, name) => vec![From::Column(table.clone(), name.clone())],
            Column::Feeds(feeds) => feeds.clone(),
            Column::Unknown => vec![From::Computed],
        };
        let same = |a: &Column, b: &Column| {
            let table = |column: &Column| column.place().map(|(table, _)| table.to_owned());
            table(a).is_some() && table(a) == table(b)
        };
        if self.writes.is_none() && same(one, other) {
            return;
        }
        self.choose(Some(one), read(other));
        self.choose(Some(other), read(one));
    }

    /// A column that is compared with a value, its partner, or that is a condition by itself: then what
    /// stands there chooses, where something is changed.
    fn meets(&mut self, partner: Option<&Column>, column: &Expr) -> Result<(), Refused> {
        let feeds = match self.column_of(column)? {
            Some(Column::Target(..)) => Vec::new(),
            Some(Column::Table(table, name)) if self.writes.is_some() && partner.is_none() => {
                vec![From::Column(table, name)]
            }
            Some(Column::Table(..)) => Vec::new(),
            Some(Column::Feeds(feeds)) => feeds,
            Some(Column::Unknown) if self.writes.is_none() => Vec::new(),
            Some(Column::Unknown) => vec![From::Computed],
            None => self.feeds(column, None)?,
        };
        self.choose(partner, feeds);
        Ok(())
    }

    /// The column that an expression is, whatever type it is turned into.
    fn column_of(&self, expression: &Expr) -> Result<Option<Column>, Refused> {
        match plain(expression) {
            Expr::Identifier(name) => self.named(std::slice::from_ref(name)).map(Some),
            Expr::CompoundIdentifier(parts) => self.named(parts).map(Some),
            Expr::Cast {
                expr, data_type, ..
            } if keeps(data_type) => self.column_of(expr),
            _ => Ok(None),
        }
    }

    /// Says which columns choose the rows of each table of the innermost scope.
    pub(super) fn rows_of_tables(&mut self, conditions: &[&Expr]) -> Result<(), Refused> {
        let sources = self.scopes.last().into_iter().flatten();
        let tables = sources.filter_map(|source| match &source.kind {
            SourceKind::Table(table) => Some((source.alias.clone(), table.full_name())),
            _ => None,
        });
        let tables: Vec<(String, String)> = tables.collect();
        for (alias, table) in tables {
            let by = self.chosen_by(&alias, conditions)?;
            let steers = Steers::Compared(TableOperation::Select);
            self.flow(Some((&table, "")), steers, vec![From::Rows(by)]);
        }
        Ok(())
    }

    /// The columns of a source that must be equal to an exact value in every row.
    pub(super) fn chosen_by(
        &self,
        alias: &str,
        conditions: &[&Expr],
    ) -> Result<Vec<String>, Refused> {
        let mut by = Vec::new();
        let mut left: Vec<&Expr> = conditions.to_vec();
        while let Some(condition) = left.pop() {
            match condition {
                Expr::Nested(one) => left.push(one),
                Expr::BinaryOp {
                    left: one,
                    op: BinaryOperator::And,
                    right: other,
                } => left.extend([&**one, &**other]),
                Expr::BinaryOp {
                    left: one,
                    op: BinaryOperator::Eq,
                    right: other,
                } => {
                    for (column, value) in [(one, other), (other, one)] {
                        if self.is_exact(alias, value)? {
                            by.extend(self.column_in(alias, column)?);
                        }
                    }
                }
                Expr::AnyOp {
                    left: column,
                    compare_op: BinaryOperator::Eq,
                    right,
                    ..
                } if is_single(right) || matches!(plain(right), Expr::Array(_)) => {
                    by.extend(self.column_in(alias, column)?);
                }
                Expr::In {
                    expr,
                    target,
                    negated: false,
                    ..
                } => {
                    let exact = match target {
                        InTarget::List(list) => list.iter().all(is_single),
                        InTarget::Subquery(_) => true,
                        _ => false,
                    };
                    if exact {
                        by.extend(self.column_in(alias, expr)?);
                    }
                }
                _ => {}
            }
        }
        Ok(by)
    }

    /// Whether an expression is one value that does not come from the same source.
    fn is_exact(&self, alias: &str, expression: &Expr) -> Result<bool, Refused> {
        Ok(is_single(expression)
            || matches!(plain(expression), Expr::Subquery(_))
            || (self.column_of(expression)?.is_some()
                && self.column_in(alias, expression)?.is_none()))
    }

    /// The name of the column of a source that an expression is.
    fn column_in(&self, alias: &str, expression: &Expr) -> Result<Option<String>, Refused> {
        let here = self.scopes.last().into_iter().flatten();
        let mut here = here.filter(|source| source.alias == alias);
        let Some(source) = here.next() else {
            return Ok(None);
        };
        Ok(match plain(expression) {
            Expr::Identifier(name) => {
                let name = fold(name)?;
                let first = self.scopes.last().into_iter().flatten();
                let mut first = first.filter(|one| one.column(&name).is_some());
                first
                    .next()
                    .filter(|first| first.alias == source.alias)
                    .map(|_| name)
            }
            Expr::CompoundIdentifier(parts) => match &parts[..] {
                [of, name] if fold(of)? == alias => {
                    let name = fold(name)?;
                    source.column(&name).map(|_| name)
                }
                _ => None,
            },
            Expr::Cast {
                expr, data_type, ..
            } if keeps(data_type) => self.column_in(alias, expr)?,
            _ => None,
        })
    }
}

fn is_all(expression: &Expr) -> bool {
    matches!(expression, Expr::Identifier(word) if word.value.eq_ignore_ascii_case("all"))
}

/// How much there is to follow in columns.
fn weight(outputs: &Outputs) -> usize {
    let outputs = outputs.iter().flatten();
    outputs.map(|output| 1 + output.feeds.len()).sum()
}

/// Constants and parameters of which each element counts.
fn elements(mut feeds: Vec<From>) -> Vec<From> {
    for from in &mut feeds {
        if let From::Constant { elements, .. } | From::Parameter { elements, .. } = from {
            *elements = true;
        }
    }
    feeds
}

/// The columns under the names that an alias gives them.
fn renamed(outputs: Outputs, alias: &TableAlias) -> Result<Outputs, Refused> {
    let names = alias_columns(alias)?.unwrap_or_default();
    Ok(outputs.map(|mut outputs| {
        // A function's only column is called as its table is.
        if let ([only], true) = (&mut outputs[..], names.is_empty())
            && only.name == "unnest"
            && let Ok(name) = fold(&alias.name)
        {
            only.name = name;
        }
        for (output, name) in outputs.iter_mut().zip(names) {
            output.name = name;
        }
        outputs
    }))
}
