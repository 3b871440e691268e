//! From a statement's shape to what it touches. What is not understood is refused: everything here is a
//! list of what is allowed, never of what is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::statement::{TableAccess, TableOperation};
use sqlparser::ast::{CloseCursor, Ident, ObjectName, ObjectNamePart, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserOptions};

use super::catalog::{Catalog, Relation};
use super::lexer::{Lexed, excerpt};
use super::scope::Scope;
use super::settings;

/// Deepest nesting that the parser follows.
const RECURSION: usize = 40;

/// One statement that is understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysed {
    /// The statement without its constants.
    pub shape: Arc<str>,
    /// The first word, or two.
    pub method: &'static str,
    /// What kind of statement it is, as far as the session needs to know.
    pub kind: Kind,
    /// The tables that it touches. Empty when it touches none.
    pub accesses: Vec<TableAccess>,
    /// A table that a statement names and that is not there, in full.
    pub missing: Option<String>,
}

/// What a session must know of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Nothing more.
    Plain,
    /// It reads what the client copies in.
    CopyIn,
    /// It makes a cursor of this name.
    Declare(String),
    /// It reads from a cursor of this name.
    Fetch(String),
    /// It ends a cursor of this name, or all.
    CloseCursor(Option<String>),
    /// It forgets a prepared statement of this name, or all.
    Deallocate(Option<String>),
    /// It forgets everything that the session made.
    Discard,
}

/// Why a statement is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The SQLSTATE that fits.
    pub sqlstate: &'static str,
    /// What is wrong.
    pub message: String,
    /// What can be done about it.
    pub hint: String,
}

impl Refused {
    /// A statement that is no SQL, as far as is understood here.
    pub(crate) fn syntax(message: impl Into<String>) -> Self {
        Self {
            sqlstate: "42601",
            message: message.into(),
            hint: "statements that the gateway does not understand beyond doubt are not passed on; write it \
                   in plainer SQL"
                .to_owned(),
        }
    }

    /// A statement that is never allowed.
    pub(crate) fn forbidden(what: impl Into<String>) -> Self {
        Self {
            sqlstate: "42501",
            message: what.into(),
            hint: "sessions through the gateway read and write tables; see docs/postgres.md for what statements \
                   may use"
                .to_owned(),
        }
    }

    pub(super) fn no_column(name: &str) -> Self {
        Self {
            sqlstate: "42703",
            message: format!("column \"{name}\" is not one of the tables that the statement names"),
            hint: "name the column as the table does; columns added since the session began need a new session"
                .to_owned(),
        }
    }
}

/// Finds what a statement touches. `functions` are those that the configuration adds.
///
/// # Errors
/// [`Refused`]
pub fn analyse(
    lexed: &Lexed,
    catalog: &Catalog,
    functions: &BTreeSet<String>,
) -> Result<Analysed, Refused> {
    let statement = parse(&lexed.shape)?;
    let mut walk = Walk {
        catalog,
        functions,
        ctes: Vec::new(),
        scopes: Vec::new(),
        touched: BTreeMap::new(),
        missing: None,
    };
    let (method, kind) = walk.statement(&statement, lexed)?;
    let accesses = walk
        .touched
        .into_iter()
        .map(|((table, operation), columns)| TableAccess {
            table,
            operation,
            columns: (operation != TableOperation::Delete).then_some(columns),
        })
        .collect();
    Ok(Analysed {
        shape: lexed.shape.as_str().into(),
        method,
        kind,
        accesses,
        missing: walk.missing,
    })
}

pub(super) fn parse(shape: &str) -> Result<Statement, Refused> {
    let dialect = PostgreSqlDialect {};
    let refused = |error: &dyn std::fmt::Display| {
        Refused::syntax(format!("{error}, in \"{}\"", excerpt(shape)))
    };
    let mut statements = Parser::new(&dialect)
        .with_recursion_limit(RECURSION)
        .with_options(ParserOptions::new().with_trailing_commas(false))
        .try_with_sql(shape)
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| refused(&error))?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        _ => Err(refused(&"not exactly one statement")),
    }
}

/// Whether a text is one expression and nothing else: what a condition on rows must be.
///
/// # Errors
/// What is wrong with it.
pub fn check_condition(text: &str) -> Result<(), String> {
    let lexed = super::lexer::lex(text).map_err(|error| error.to_string())?;
    let [one] = &lexed[..] else {
        return Err("it is not one expression".to_owned());
    };
    if text.contains(';') && one.shape.contains(';') {
        return Err("it is not one expression".to_owned());
    }
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(RECURSION)
        .try_with_sql(&one.shape)
        .map_err(|error| error.to_string())?;
    parser.parse_expr().map_err(|error| error.to_string())?;
    match parser.peek_token().token {
        sqlparser::tokenizer::Token::EOF => Ok(()),
        more => Err(format!("`{more}` follows the expression")),
    }
}

/// The walk through one statement.
pub(super) struct Walk<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) functions: &'a BTreeSet<String>,
    /// Common table expressions in sight, with their columns if known; inner ones are last.
    pub(super) ctes: Vec<(String, Option<Vec<String>>)>,
    /// What names mean; the innermost is last.
    pub(super) scopes: Vec<Scope>,
    touched: BTreeMap<(String, TableOperation), BTreeSet<String>>,
    missing: Option<String>,
}

impl Walk<'_> {
    fn statement(
        &mut self,
        statement: &Statement,
        lexed: &Lexed,
    ) -> Result<(&'static str, Kind), Refused> {
        let plain = |method| Ok((method, Kind::Plain));
        match statement {
            Statement::Query(query) => {
                self.query(query)?;
                plain("SELECT")
            }
            Statement::Insert(insert) => {
                self.insert(insert)?;
                plain("INSERT")
            }
            Statement::Update(update) => {
                self.update(update)?;
                plain("UPDATE")
            }
            Statement::Delete(delete) => {
                self.delete(delete)?;
                plain("DELETE")
            }
            Statement::Copy { .. } => self.copy(statement),
            Statement::Explain {
                statement, options, ..
            } => {
                if options.iter().flatten().any(|option| {
                    ![
                        "analyze", "verbose", "costs", "settings", "buffers", "wal", "timing",
                        "summary", "format",
                    ]
                    .contains(&option.name.value.to_ascii_lowercase().as_str())
                }) {
                    return Err(Refused::syntax("an option of EXPLAIN is not known"));
                }
                match statement.as_ref() {
                    Statement::Query(_)
                    | Statement::Insert(_)
                    | Statement::Update(_)
                    | Statement::Delete(_) => self.statement(statement, lexed)?,
                    _ => return Err(Refused::forbidden("only queries can be explained")),
                };
                plain("EXPLAIN")
            }
            Statement::StartTransaction {
                statements,
                exception,
                modifier,
                has_end_keyword: false,
                ..
            } if statements.is_empty() && exception.is_none() && modifier.is_none() => {
                plain("BEGIN")
            }
            Statement::Commit { modifier: None, .. } => plain("COMMIT"),
            Statement::Rollback { .. } => plain("ROLLBACK"),
            Statement::Savepoint { .. } => plain("SAVEPOINT"),
            Statement::ReleaseSavepoint { .. } => plain("RELEASE"),
            Statement::ShowVariable { variable } => {
                settings::show(variable)?;
                plain("SHOW")
            }
            Statement::Set(set) => {
                settings::set(set, &lexed.strings)?;
                plain("SET")
            }
            Statement::Reset(reset) => {
                settings::reset(reset)?;
                plain("RESET")
            }
            Statement::Declare { stmts, .. } => match &stmts[..] {
                [declare] => self.declare(declare),
                _ => Err(Refused::forbidden("DECLARE makes one cursor at a time")),
            },
            Statement::Fetch {
                name, into: None, ..
            } => Ok(("FETCH", Kind::Fetch(fold(name)?))),
            Statement::Close { cursor } => Ok((
                "CLOSE",
                Kind::CloseCursor(match cursor {
                    CloseCursor::All => None,
                    CloseCursor::Specific { name } => Some(fold(name)?),
                }),
            )),
            Statement::Deallocate { name, .. } => {
                let all = name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all");
                let name = if all { None } else { Some(fold(name)?) };
                Ok(("DEALLOCATE", Kind::Deallocate(name)))
            }
            Statement::Discard { .. } => Ok(("DISCARD", Kind::Discard)),
            Statement::UNLISTEN { .. } => plain("UNLISTEN"),
            _ => {
                let words = lexed.shape.split(' ').take(2).collect::<Vec<_>>().join(" ");
                Err(Refused::forbidden(format!(
                    "{} is not allowed through the gateway",
                    excerpt(&words.to_uppercase())
                )))
            }
        }
    }

    fn declare(
        &mut self,
        declare: &sqlparser::ast::Declare,
    ) -> Result<(&'static str, Kind), Refused> {
        let (Some(query), [name]) = (&declare.for_query, &declare.names[..]) else {
            return Err(Refused::forbidden("DECLARE must make a cursor for a query"));
        };
        if declare.hold == Some(true) {
            // It would outlive the transaction in which it was decided.
            return Err(Refused::forbidden("cursors WITH HOLD are not allowed"));
        }
        self.query(query)?;
        Ok(("DECLARE", Kind::Declare(fold(name)?)))
    }

    /// Notes that a table is touched, at these columns.
    pub(super) fn touch<'c>(
        &mut self,
        table: &Relation,
        operation: TableOperation,
        columns: impl IntoIterator<Item = &'c str>,
    ) {
        let touched = self
            .touched
            .entry((table.full_name(), operation))
            .or_default();
        for column in columns {
            if !touched.contains(column) {
                touched.insert(column.to_owned());
            }
        }
    }

    /// The table that a name stands for. One that is not there is noted, so that the decision comes
    /// first: who may not touch it does not learn whether it exists.
    pub(super) fn table(&mut self, name: &ObjectName) -> Result<Option<Arc<Relation>>, Refused> {
        let (schema, table) = split(name)?;
        let found = self.catalog.resolve(schema.as_deref(), &table);
        match found.filter(|found| !self.catalog.is_hidden(found)) {
            Some(found) => Ok(Some(Arc::clone(found))),
            None => {
                let full = match found {
                    Some(hidden) => hidden.full_name(),
                    None => self.catalog.unresolved(schema.as_deref(), &table),
                };
                self.touched
                    .entry((full.clone(), TableOperation::Select))
                    .or_default();
                self.missing.get_or_insert(full);
                Ok(None)
            }
        }
    }

    /// Whether some table is not there: then columns cannot be told, and the statement goes nowhere.
    pub(super) fn is_lost(&self) -> bool {
        self.missing.is_some()
    }
}

/// An identifier as PostgreSQL sees it: in lower case unless it is quoted (§4.1.1).
pub(super) fn fold(ident: &Ident) -> Result<String, Refused> {
    match ident.quote_style {
        Some('"') => Ok(ident.value.clone()),
        None => Ok(ident.value.to_ascii_lowercase()),
        Some(_) => Err(Refused::syntax("an identifier in unknown quotes")),
    }
}

/// The one identifier of a name.
pub(super) fn single(name: &ObjectName) -> Result<String, Refused> {
    match split(name)? {
        (None, name) => Ok(name),
        _ => Err(Refused::syntax("a name without a schema is needed")),
    }
}

/// Schema and name.
pub(super) fn split(name: &ObjectName) -> Result<(Option<String>, String), Refused> {
    let mut parts = Vec::with_capacity(2);
    for part in &name.0 {
        match part {
            ObjectNamePart::Identifier(ident) => parts.push(fold(ident)?),
            ObjectNamePart::Function(_) => return Err(Refused::syntax("a name is not understood")),
        }
    }
    match (parts.pop(), parts.pop(), parts.is_empty()) {
        (Some(name), schema, true) => Ok((schema, name)),
        _ => Err(Refused::syntax(
            "a name has more parts than a schema and a name",
        )),
    }
}

#[cfg(test)]
mod tests;
