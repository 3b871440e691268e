//! Functions that expressions call, their arguments and windows.

use sqlparser::ast::{
    Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, ObjectName,
    WindowSpec, WindowType,
};

use super::analysis::{Refused, Walk, split};
use super::expression::data_type;
use super::functions;

impl Walk<'_> {
    /// A function by its name.
    pub(super) fn called(&self, name: &ObjectName) -> Result<(), Refused> {
        let (schema, name) = split(name)?;
        let builtin = schema
            .as_deref()
            .is_none_or(|schema| schema == "pg_catalog");
        if (builtin && functions::is_harmless(&name)) || self.functions.contains(&name) {
            return Ok(());
        }
        Err(Refused {
            sqlstate: "42501",
            message: format!("the function \"{name}\" may not be called through the gateway"),
            hint: "an operator can add it to `functions` in `[servers.NAME.postgres]`".to_owned(),
        })
    }

    pub(super) fn function(&mut self, function: &Function) -> Result<(), Refused> {
        if function.uses_odbc_syntax || !matches!(function.parameters, FunctionArguments::None) {
            return Err(Refused::syntax("a function is not called as in PostgreSQL"));
        }
        self.called(&function.name)?;
        match &function.args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(query) => {
                self.query(query)?;
            }
            FunctionArguments::List(list) => {
                self.function_arguments(&list.args)?;
                for clause in &list.clauses {
                    match clause {
                        FunctionArgumentClause::OrderBy(order) => self.ordering(order)?,
                        FunctionArgumentClause::JsonNullClause(_) => {}
                        FunctionArgumentClause::JsonReturningClause(returning) => {
                            data_type(&returning.data_type)?;
                        }
                        _ => {
                            return Err(Refused::syntax(
                                "a clause of a function that PostgreSQL does not have",
                            ));
                        }
                    }
                }
            }
        }
        self.ordering(&function.within_group)?;
        if let Some(filter) = &function.filter {
            self.expression(filter)?;
        }
        match &function.over {
            Some(WindowType::WindowSpec(spec)) => self.window(spec),
            Some(WindowType::NamedWindow(_)) | None => Ok(()),
        }
    }

    pub(super) fn function_arguments(&mut self, args: &[FunctionArg]) -> Result<(), Refused> {
        for arg in args {
            let arg = match arg {
                FunctionArg::Named { arg, .. } | FunctionArg::Unnamed(arg) => arg,
                FunctionArg::ExprNamed { .. } => {
                    return Err(Refused::syntax("an argument is not understood"));
                }
            };
            match arg {
                FunctionArgExpr::Expr(expression) => self.expression(expression)?,
                // `count(*)` reads no column.
                FunctionArgExpr::Wildcard => {}
                FunctionArgExpr::QualifiedWildcard(name) => {
                    let (_, alias) = split(name)?;
                    self.whole(Some(&alias))?;
                }
                FunctionArgExpr::WildcardWithOptions(_) => {
                    return Err(Refused::syntax("an argument is not understood"));
                }
            }
        }
        Ok(())
    }

    pub(super) fn window(&mut self, spec: &WindowSpec) -> Result<(), Refused> {
        use sqlparser::ast::WindowFrameBound::{Following, Preceding};
        self.expressions(&spec.partition_by)?;
        for order in &spec.order_by {
            self.expression(&order.expr)?;
        }
        if let Some(frame) = &spec.window_frame {
            for bound in std::iter::once(&frame.start_bound).chain(&frame.end_bound) {
                if let Preceding(Some(by)) | Following(Some(by)) = bound {
                    self.expression(by)?;
                }
            }
        }
        Ok(())
    }
}
