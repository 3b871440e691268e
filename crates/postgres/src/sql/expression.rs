//! Expressions: what they are made of, down to names ([`super::names`]) and calls ([`super::calls`]).

use sqlparser::ast::{AccessExpr, CeilFloorKind, DataType, Expr, InTarget, OrderByExpr, Subscript};

use super::analysis::{Refused, Walk, fold, split};

/// Types whose input looks something up in the catalog, or tells of roles.
const LOOKING: [&str; 12] = [
    "regclass",
    "regproc",
    "regprocedure",
    "regoper",
    "regoperator",
    "regrole",
    "regnamespace",
    "regtype",
    "regcollation",
    "aclitem",
    "pg_lsn",
    "pg_snapshot",
];

impl Walk<'_> {
    pub(super) fn expressions(&mut self, expressions: &[Expr]) -> Result<(), Refused> {
        expressions.iter().try_for_each(|one| self.expression(one))
    }

    pub(super) fn expression(&mut self, expression: &Expr) -> Result<(), Refused> {
        match expression {
            Expr::Identifier(name) => self.column(&fold(name)?),
            Expr::CompoundIdentifier(parts) => match &parts[..] {
                [source, column] => self.column_of(&fold(source)?, &fold(column)?),
                _ => Err(Refused::syntax("write a column as `table.column`")),
            },
            Expr::Value(_) => Ok(()),
            Expr::TypedString(typed) if !typed.uses_odbc_syntax => data_type(&typed.data_type),
            Expr::Interval(interval) => self.expression(&interval.value),
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
            | Expr::Extract { expr: one, .. } => self.expression(one),
            Expr::Collate { expr, collation } => {
                split(collation)?;
                self.expression(expr)
            }
            Expr::Cast {
                expr,
                data_type: to,
                format: None,
                ..
            } => {
                data_type(to)?;
                self.expression(expr)
            }
            Expr::IsDistinctFrom(left, right)
            | Expr::IsNotDistinctFrom(left, right)
            | Expr::BinaryOp { left, right, .. }
            | Expr::AnyOp { left, right, .. }
            | Expr::AllOp { left, right, .. } => {
                self.expression(left)?;
                self.expression(right)
            }
            Expr::AtTimeZone {
                timestamp,
                time_zone,
            } => {
                self.expression(timestamp)?;
                self.expression(time_zone)
            }
            Expr::In {
                expr,
                target,
                global: false,
                ..
            } => {
                self.expression(expr)?;
                match target {
                    InTarget::List(list) => self.expressions(list),
                    InTarget::Subquery(query) => self.query(query).map(drop),
                    _ => Err(Refused::syntax("an IN that PostgreSQL does not have")),
                }
            }
            Expr::Between {
                expr, low, high, ..
            } => {
                self.expression(expr)?;
                self.expression(low)?;
                self.expression(high)
            }
            Expr::Like {
                any: false,
                expr,
                pattern,
                escape_char,
                ..
            }
            | Expr::ILike {
                any: false,
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
                self.expression(expr)?;
                self.expression(pattern)?;
                self.all(escape_char.as_deref())
            }
            Expr::Position { expr, r#in } => {
                self.expression(expr)?;
                self.expression(r#in)
            }
            Expr::Substring {
                expr,
                substring_from,
                substring_for,
                ..
            } => {
                self.expression(expr)?;
                self.all(substring_from.as_deref())?;
                self.all(substring_for.as_deref())
            }
            Expr::Trim {
                trim_what,
                expr,
                trim_characters,
                ..
            } => {
                self.expression(expr)?;
                self.all(trim_what.as_deref())?;
                self.all(trim_characters.iter().flatten())
            }
            Expr::Overlay {
                expr,
                overlay_what,
                overlay_from,
                overlay_for,
            } => {
                self.expression(expr)?;
                self.expression(overlay_what)?;
                self.expression(overlay_from)?;
                self.all(overlay_for.as_deref())
            }
            Expr::Ceil {
                expr,
                field: CeilFloorKind::DateTimeField(_),
            }
            | Expr::Floor {
                expr,
                field: CeilFloorKind::DateTimeField(_),
            } => self.expression(expr),
            Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => {
                self.all(operand.as_deref())?;
                for when in conditions {
                    self.expression(&when.condition)?;
                    self.expression(&when.result)?;
                }
                self.all(else_result.as_deref())
            }
            Expr::Exists { subquery, .. } | Expr::Subquery(subquery) => {
                self.query(subquery).map(drop)
            }
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                self.all(sets.iter().flatten())
            }
            Expr::Tuple(values) => self.expressions(values),
            Expr::Array(array) => self.expressions(&array.elem),
            Expr::Function(function) => self.function(function),
            // Elements of arrays and of JSON; `(row).name` could also call a function.
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.expression(root)?;
                for access in access_chain {
                    match access {
                        AccessExpr::Subscript(subscript) => self.subscript(subscript)?,
                        AccessExpr::Dot(_) => {
                            return Err(Refused::syntax(
                                "fields of composite values cannot be taken",
                            ));
                        }
                    }
                }
                Ok(())
            }
            _ => Err(Refused::syntax("an expression is not understood")),
        }
    }

    fn all<'e>(&mut self, expressions: impl IntoIterator<Item = &'e Expr>) -> Result<(), Refused> {
        expressions
            .into_iter()
            .try_for_each(|one| self.expression(one))
    }

    fn subscript(&mut self, subscript: &Subscript) -> Result<(), Refused> {
        match subscript {
            Subscript::Index { index } => self.expression(index),
            Subscript::Slice {
                lower_bound,
                upper_bound,
                stride: None,
            } => self.all(lower_bound.iter().chain(upper_bound)),
            Subscript::Slice { .. } => Err(Refused::syntax("a slice with a stride")),
        }
    }

    pub(super) fn ordering(&mut self, order: &[OrderByExpr]) -> Result<(), Refused> {
        for one in order {
            if one.with_fill.is_some() {
                return Err(Refused::syntax("an ORDER BY that PostgreSQL does not have"));
            }
            // A bare name is first a name of the output (SELECT, "ORDER BY Clause").
            if let Expr::Identifier(name) = &one.expr {
                let name = fold(name)?;
                let outputs = self.scopes.last().map(|scope| &scope.outputs);
                if outputs.is_some_and(|outputs| outputs.contains(&name)) {
                    continue;
                }
            }
            self.expression(&one.expr)?;
        }
        Ok(())
    }
}

/// A type that values are turned into.
pub(super) fn data_type(data_type: &DataType) -> Result<(), Refused> {
    let name = match data_type {
        DataType::Custom(name, _) => split(name)?.1,
        DataType::Regclass => "regclass".to_owned(),
        DataType::Array(_) => {
            let written = data_type.to_string().to_ascii_lowercase();
            let mut words = written.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            words
                .find(|word| LOOKING.contains(word))
                .unwrap_or_default()
                .to_owned()
        }
        _ => return Ok(()),
    };
    if LOOKING.contains(&name.as_str()) {
        return Err(Refused::forbidden(format!(
            "the type \"{name}\" looks things up that the task may not know of"
        )));
    }
    Ok(())
}
