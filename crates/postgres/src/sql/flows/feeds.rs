//! What the value of an expression may be.

use sqlparser::ast::{
    AccessExpr, ArrayElemTypeDef, BinaryOperator, CeilFloorKind, DataType, ExactNumberInfo, Expr,
    Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, InTarget,
    Query, Subscript, UnaryOperator, Value, WindowType,
};

use model::statement::Steers;

use super::super::analysis::{Refused, split};
use super::{Column, Finder, From, add};

/// Functions whose value nobody chooses.
const NOBODYS: [&str; 14] = [
    "clock_timestamp",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "gen_random_uuid",
    "localtime",
    "localtimestamp",
    "now",
    "statement_timestamp",
    "transaction_timestamp",
    "uuidv4",
    "uuidv7",
];

/// Types that a value can be turned into and stays the same, by their names where the parser has none.
const KEEPING: [&str; 18] = [
    "bool",
    "citext",
    "cidr",
    "date",
    "float4",
    "float8",
    "inet",
    "int2",
    "int4",
    "int8",
    "json",
    "jsonb",
    "numeric",
    "text",
    "timestamptz",
    "timetz",
    "uuid",
    "varchar",
];

/// What an expression consists of.
#[derive(Default)]
pub(super) struct Parts<'e> {
    pub(super) expressions: Vec<&'e Expr>,
    pub(super) queries: Vec<&'e Query>,
}

impl Finder<'_> {
    /// What the value of an expression may be: each of these. `own` is the column that it is written to:
    /// that a column keeps what it has decides nothing.
    pub(super) fn feeds(
        &mut self,
        expression: &Expr,
        own: Option<(&str, &str)>,
    ) -> Result<Vec<From>, Refused> {
        self.step(1)?;
        match expression {
            Expr::Nested(inner) => self.feeds(inner, own),
            Expr::Value(value) => Ok(constant(&value.value, false)),
            Expr::TypedString(typed) if keeps(&typed.data_type) => {
                Ok(constant(&typed.value.value, false))
            }
            Expr::TypedString(typed) => {
                let mut feeds = vec![From::Computed];
                add(&mut feeds, constant(&typed.value.value, false));
                Ok(feeds)
            }
            Expr::Cast {
                expr, data_type, ..
            } if keeps(data_type) => self.feeds(expr, own),
            Expr::Identifier(name) => {
                let column = self.named(std::slice::from_ref(name))?;
                self.read(column, own)
            }
            Expr::CompoundIdentifier(parts) => {
                let column = self.named(parts)?;
                self.read(column, own)
            }
            Expr::UnaryOp {
                op: op @ (UnaryOperator::Minus | UnaryOperator::Plus),
                expr,
            } if matches!(plain(expr), Expr::Value(v) if matches!(v.value, Value::Number(..))) => {
                match plain(expr) {
                    Expr::Value(value) => Ok(constant(&value.value, *op == UnaryOperator::Minus)),
                    _ => self.computed(expression),
                }
            }
            // A column that one value is added to or taken from, as in `balance - 10`.
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Plus | BinaryOperator::Minus,
                right,
            } if is_column(left) && is_single(right) || is_single(left) && is_column(right) => {
                let mut feeds = self.feeds(left, own)?;
                add(&mut feeds, self.feeds(right, own)?);
                Ok(feeds)
            }
            Expr::Function(function) => self.function(function, own),
            Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => {
                let mut feeds = Vec::new();
                if let Some(operand) = operand {
                    self.mention(operand)?;
                }
                for when in conditions {
                    self.condition(&when.condition)?;
                    add(&mut feeds, self.feeds(&when.result, own)?);
                }
                if let Some(result) = else_result {
                    add(&mut feeds, self.feeds(result, own)?);
                }
                Ok(feeds)
            }
            Expr::Subquery(query) => Ok(match self.query(query)? {
                Some(outputs) => match <[_; 1]>::try_from(outputs) {
                    Ok([output]) => output.feeds,
                    Err(_) => vec![From::Computed],
                },
                None => vec![From::Computed],
            }),
            Expr::Array(array) => {
                let mut feeds = Vec::new();
                for element in &array.elem {
                    add(&mut feeds, self.feeds(element, own)?);
                }
                Ok(feeds)
            }
            expression => self.computed(expression),
        }
    }

    /// What a column may be.
    fn read(&mut self, column: Column, own: Option<(&str, &str)>) -> Result<Vec<From>, Refused> {
        let feeds = match column {
            Column::Target(table, name) if own == Some((table.as_str(), name.as_str())) => {
                Vec::new()
            }
            Column::Target(table, name) | Column::Table(table, name) => {
                vec![From::Column(table, name)]
            }
            Column::Feeds(feeds) => feeds,
            Column::Unknown => vec![From::Computed],
        };
        self.step(feeds.len())?;
        Ok(feeds)
    }

    fn function(
        &mut self,
        function: &Function,
        own: Option<(&str, &str)>,
    ) -> Result<Vec<From>, Refused> {
        let (_, name) = split(&function.name)?;
        if self.is_added(&function.name)? {
            self.arguments(function)?;
            return Ok(vec![From::Computed]);
        }
        let arguments = match &function.args {
            FunctionArguments::List(list) => &list.args[..],
            _ => &[],
        };
        if arguments.is_empty() && NOBODYS.contains(&name.as_str()) {
            return Ok(Vec::new());
        }
        let mut feeds = Vec::new();
        if name != "coalesce" {
            feeds.push(From::Computed);
        }
        let Parts {
            expressions,
            queries,
        } = parts_of_call(function);
        for expression in expressions {
            add(&mut feeds, self.feeds(expression, own)?);
        }
        self.queries_into(&mut feeds, &queries)?;
        Ok(feeds)
    }

    /// The arguments of a function that the configuration adds: each decides something.
    pub(super) fn arguments(&mut self, function: &Function) -> Result<(), Refused> {
        let (_, name) = split(&function.name)?;
        if let FunctionArguments::List(list) = &function.args {
            self.argument_list(&name, &list.args)?;
        }
        // What else it has: an order, a filter, a window.
        let without = FunctionArguments::None;
        let args = match &function.args {
            FunctionArguments::List(_) => &without,
            other => other,
        };
        let Parts {
            expressions,
            queries,
        } = parts_around(function, args);
        let mut feeds = Vec::new();
        for expression in expressions {
            add(&mut feeds, self.feeds(expression, None)?);
        }
        self.queries_into(&mut feeds, &queries)?;
        self.flow(Some((&name, "")), Steers::Argument, feeds);
        Ok(())
    }

    pub(super) fn argument_list(
        &mut self,
        name: &str,
        args: &[FunctionArg],
    ) -> Result<(), Refused> {
        for (at, arg) in args.iter().enumerate() {
            let (place, arg) = match arg {
                FunctionArg::Named { name, arg, .. } => (super::fold(name)?, arg),
                FunctionArg::Unnamed(arg) => ((at + 1).to_string(), arg),
                FunctionArg::ExprNamed { arg, .. } => (String::new(), arg),
            };
            let feeds = match arg {
                FunctionArgExpr::Expr(expression) => self.feeds(expression, None)?,
                _ => vec![From::Computed],
            };
            self.flow(Some((name, &place)), Steers::Argument, feeds);
        }
        Ok(())
    }

    /// An expression that nobody follows: its value is computed, and everything in it is told as well, so
    /// that a person who is asked sees it.
    pub(super) fn computed(&mut self, expression: &Expr) -> Result<Vec<From>, Refused> {
        let mut feeds = vec![From::Computed];
        let Parts {
            expressions,
            queries,
        } = parts(expression);
        for expression in expressions {
            add(&mut feeds, self.feeds(expression, None)?);
        }
        self.queries_into(&mut feeds, &queries)?;
        Ok(feeds)
    }

    fn queries_into(&mut self, feeds: &mut Vec<From>, queries: &[&Query]) -> Result<(), Refused> {
        queries
            .iter()
            .try_for_each(|query| self.query_into(feeds, query))
    }

    fn query_into(&mut self, feeds: &mut Vec<From>, query: &Query) -> Result<(), Refused> {
        for output in self.query(query)?.into_iter().flatten() {
            add(feeds, output.feeds);
        }
        Ok(())
    }
}

fn constant(value: &Value, negative: bool) -> Vec<From> {
    let number = |text: &str| text.parse().ok();
    let of = |number: Option<usize>| match number {
        Some(number) => vec![From::Constant {
            number,
            negative,
            elements: false,
        }],
        None => vec![From::Computed],
    };
    match value {
        Value::Null => Vec::new(),
        Value::Boolean(value) => vec![From::Boolean(*value)],
        Value::Number(text, _) | Value::SingleQuotedString(text) => of(number(text)),
        Value::Placeholder(text) => match text.strip_prefix('$').and_then(number) {
            Some(number) => vec![From::Parameter {
                number,
                elements: false,
            }],
            None => vec![From::Computed],
        },
        _ => vec![From::Computed],
    }
}

/// An expression without the parentheses around it.
pub(super) fn plain(expression: &Expr) -> &Expr {
    match expression {
        Expr::Nested(inner) => plain(inner),
        other => other,
    }
}

/// Whether an expression is a column and nothing else.
fn is_column(expression: &Expr) -> bool {
    matches!(
        plain(expression),
        Expr::Identifier(_) | Expr::CompoundIdentifier(_)
    )
}

/// Whether an expression is one constant or parameter.
pub(super) fn is_single(expression: &Expr) -> bool {
    match plain(expression) {
        Expr::Value(value) => !matches!(value.value, Value::Boolean(_) | Value::Null),
        Expr::Cast {
            expr, data_type, ..
        } => keeps(data_type) && is_single(expr),
        Expr::TypedString(typed) => keeps(&typed.data_type),
        Expr::UnaryOp {
            op: UnaryOperator::Minus | UnaryOperator::Plus,
            expr,
        } => matches!(plain(expr), Expr::Value(v) if matches!(v.value, Value::Number(..))),
        _ => false,
    }
}

/// Whether a value stays what it is when it is turned into a type: one without a length, which would cut
/// it off.
pub(super) fn keeps(data_type: &DataType) -> bool {
    match data_type {
        DataType::Text
        | DataType::Varchar(None)
        | DataType::CharacterVarying(None)
        | DataType::Uuid
        | DataType::Int(None)
        | DataType::Integer(None)
        | DataType::Int2(None)
        | DataType::Int4(None)
        | DataType::Int8(None)
        | DataType::SmallInt(None)
        | DataType::BigInt(None)
        | DataType::Numeric(ExactNumberInfo::None)
        | DataType::Decimal(ExactNumberInfo::None)
        | DataType::Float(ExactNumberInfo::None)
        | DataType::Real
        | DataType::Float4
        | DataType::Float8
        | DataType::DoublePrecision
        | DataType::Bool
        | DataType::Boolean
        | DataType::Date
        | DataType::Time(None, _)
        | DataType::Timestamp(None, _)
        | DataType::JSON
        | DataType::JSONB => true,
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) => keeps(element),
        DataType::Custom(name, modifiers) if modifiers.is_empty() => {
            let known = |name: String| KEEPING.contains(&name.as_str());
            split(name).is_ok_and(|(schema, name)| {
                schema.is_none_or(|schema| schema == "pg_catalog") && known(name)
            })
        }
        _ => false,
    }
}

/// What an expression is made of, one step down.
pub(super) fn parts(expression: &Expr) -> Parts<'_> {
    let mut parts = Parts::default();
    let all = &mut parts.expressions;
    match expression {
        Expr::Interval(interval) => all.push(&interval.value),
        Expr::IsFalse(one)
        | Expr::IsNotFalse(one)
        | Expr::IsTrue(one)
        | Expr::IsNotTrue(one)
        | Expr::IsNull(one)
        | Expr::IsNotNull(one)
        | Expr::IsUnknown(one)
        | Expr::IsNotUnknown(one)
        | Expr::Nested(one)
        | Expr::UnaryOp { expr: one, .. }
        | Expr::IsNormalized { expr: one, .. }
        | Expr::IsJson { expr: one, .. }
        | Expr::Extract { expr: one, .. }
        | Expr::Collate { expr: one, .. }
        | Expr::Cast { expr: one, .. }
        | Expr::Ceil {
            expr: one,
            field: CeilFloorKind::DateTimeField(_),
        }
        | Expr::Floor {
            expr: one,
            field: CeilFloorKind::DateTimeField(_),
        } => all.push(one),
        Expr::IsDistinctFrom(left, right)
        | Expr::IsNotDistinctFrom(left, right)
        | Expr::BinaryOp { left, right, .. }
        | Expr::AnyOp { left, right, .. }
        | Expr::AllOp { left, right, .. } => all.extend([&**left, &**right]),
        Expr::AtTimeZone {
            timestamp,
            time_zone,
        } => all.extend([&**timestamp, &**time_zone]),
        Expr::In { expr, target, .. } => {
            all.push(expr);
            match target {
                InTarget::List(list) => all.extend(list),
                InTarget::Subquery(query) => parts.queries.push(query),
                InTarget::Unnest(one) => all.push(one),
                _ => {}
            }
        }
        Expr::Between {
            expr, low, high, ..
        } => all.extend([&**expr, &**low, &**high]),
        Expr::Like {
            expr,
            pattern,
            escape_char,
            ..
        }
        | Expr::ILike {
            expr,
            pattern,
            escape_char,
            ..
        }
        | Expr::SimilarTo {
            expr,
            pattern,
            escape_char,
            ..
        } => {
            all.extend([&**expr, &**pattern]);
            all.extend(escape_char.as_deref());
        }
        Expr::Position { expr, r#in } => all.extend([&**expr, &**r#in]),
        Expr::Substring {
            expr,
            substring_from,
            substring_for,
            ..
        } => {
            all.push(expr);
            all.extend(substring_from.as_deref());
            all.extend(substring_for.as_deref());
        }
        Expr::Trim {
            trim_what,
            expr,
            trim_characters,
            ..
        } => {
            all.push(expr);
            all.extend(trim_what.as_deref());
            all.extend(trim_characters.iter().flatten());
        }
        Expr::Overlay {
            expr,
            overlay_what,
            overlay_from,
            overlay_for,
        } => {
            all.extend([&**expr, &**overlay_what, &**overlay_from]);
            all.extend(overlay_for.as_deref());
        }
        Expr::Case {
            operand,
            conditions,
            else_result,
            ..
        } => {
            all.extend(operand.as_deref());
            for when in conditions {
                all.extend([&when.condition, &when.result]);
            }
            all.extend(else_result.as_deref());
        }
        Expr::Exists { subquery, .. } | Expr::Subquery(subquery) => parts.queries.push(subquery),
        Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
            all.extend(sets.iter().flatten());
        }
        Expr::Tuple(values) => all.extend(values),
        Expr::Array(array) => all.extend(&array.elem),
        Expr::Function(function) => return parts_of_call(function),
        Expr::CompoundFieldAccess { root, access_chain } => {
            all.push(root);
            for access in access_chain {
                match access {
                    AccessExpr::Subscript(Subscript::Index { index }) => all.push(index),
                    AccessExpr::Subscript(Subscript::Slice {
                        lower_bound,
                        upper_bound,
                        ..
                    }) => all.extend(lower_bound.iter().chain(upper_bound)),
                    AccessExpr::Dot(one) => all.push(one),
                }
            }
        }
        // What is not here has no parts, or was refused before.
        _ => {}
    }
    parts
}

fn parts_of_call(function: &Function) -> Parts<'_> {
    parts_around(function, &function.args)
}

/// The parts of a call, with these arguments.
fn parts_around<'e>(function: &'e Function, args: &'e FunctionArguments) -> Parts<'e> {
    let mut parts = Parts::default();
    let all = &mut parts.expressions;
    match args {
        FunctionArguments::None => {}
        FunctionArguments::Subquery(query) => parts.queries.push(query),
        FunctionArguments::List(list) => {
            for arg in &list.args {
                let (FunctionArg::Named { arg, .. }
                | FunctionArg::Unnamed(arg)
                | FunctionArg::ExprNamed { arg, .. }) = arg;
                if let FunctionArgExpr::Expr(expression) = arg {
                    all.push(expression);
                }
            }
            for clause in &list.clauses {
                if let FunctionArgumentClause::OrderBy(order) = clause {
                    all.extend(order.iter().map(|one| &one.expr));
                }
            }
        }
    }
    all.extend(function.within_group.iter().map(|one| &one.expr));
    all.extend(function.filter.as_deref());
    if let Some(WindowType::WindowSpec(spec)) = &function.over {
        all.extend(&spec.partition_by);
        all.extend(spec.order_by.iter().map(|one| &one.expr));
    }
    parts
}
