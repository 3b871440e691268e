//! Which values of a statement decide what: what is written to which column, what chooses the rows, what
//! functions are given. Where a value comes from is found in the statement's own words, or it is said
//! that nobody can say: what is computed, cut, joined or looked up where others write is [`From::Computed`]
//! or [`From::Column`], so that hiding a value in an expression makes it less acceptable, never more.
//!
//! [`super::analysis`] has said before what the statement touches; only what it takes comes here.

mod feeds;
mod reading;
mod writing;

use std::collections::BTreeSet;
use std::sync::Arc;

use model::statement::{Steers, TableOperation};
use sqlparser::ast::{Declare, Ident, ObjectName, Query, SetExpr, Statement};

use super::analysis::{Refused, fold, parse, split};
use super::catalog::{Catalog, Relation};
use super::lexer::Values;

/// Most sources that are told apart of one value; one that has more is computed.
const MOST_FEEDS: usize = 256;
/// Most values of one statement.
const MOST_FLOWS: usize = 16_384;
/// Most steps that one statement takes.
const MOST_STEPS: usize = 1 << 19;

/// Everything that decides in a statement.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flows {
    /// The values, with what they decide.
    pub flows: Vec<Flow>,
    /// Whether a parameter is among them.
    pub takes_parameters: bool,
    /// The columns that it gives, where that is known.
    pub outputs: Option<Vec<Given>>,
}

/// A column that a statement gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Its name; empty where the database chooses one.
    pub name: String,
    /// The table, as `schema.name`, and the column that its values are, unchanged.
    pub of: Option<(String, String)>,
}

/// One value on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// The table as `schema.name`, or the function; empty where it is not known.
    pub of: String,
    /// The column, or the number of the argument; empty where it is not known.
    pub column: String,
    /// What it decides.
    pub steers: Steers,
    /// Where it comes from.
    pub from: From,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// A constant of the statement, by its number.
    Constant {
        /// Which one, counted from 0.
        number: usize,
        /// Whether a minus stands before it.
        negative: bool,
        /// Whether each element of the array that it is counts by itself.
        elements: bool,
    },
    /// A parameter.
    Parameter {
        /// Which one, counted from 1.
        number: usize,
        /// Whether each element of the array that it is counts by itself.
        elements: bool,
    },
    /// Yes or no.
    Boolean(bool),
    /// A column of a table, as `schema.name`.
    Column(String, String),
    /// It is computed.
    Computed,
    /// It comes later.
    Unseen,
    /// Rows, chosen by exact values of these columns.
    Rows(Vec<String>),
}

/// Finds what decides in a statement. `functions` are those that the configuration adds: each of their
/// arguments decides something.
///
/// # Errors
/// [`Refused`] when it cannot be read.
pub fn flows(
    values: &Values,
    catalog: &Catalog,
    functions: &BTreeSet<String>,
) -> Result<Flows, Refused> {
    let statement = parse(&values.numbered)?;
    let mut finder = Finder {
        catalog,
        functions,
        ctes: Vec::new(),
        scopes: Vec::new(),
        writes: None,
        flows: Vec::new(),
        steps: 0,
    };
    let outputs = finder.statement(&statement)?;
    if finder.flows.len() > MOST_FLOWS {
        return Err(Refused::syntax(format!(
            "the statement has more than {MOST_FLOWS} values that decide something; write several of it"
        )));
    }
    let flows = finder.flows;
    let takes = |flow: &Flow| matches!(flow.from, From::Parameter { .. });
    let given = |output: Output| Given {
        name: output.name,
        of: match <[From; 1]>::try_from(output.feeds) {
            Ok([From::Column(table, column)]) => Some((table, column)),
            _ => None,
        },
    };
    Ok(Flows {
        takes_parameters: flows.iter().any(takes),
        flows,
        outputs: outputs.map(|outputs| outputs.into_iter().map(given).collect()),
    })
}

/// The columns that a query gives, with what each may be; `None` where that is not known.
type Outputs = Option<Vec<Output>>;

#[derive(Debug, Clone)]
struct Output {
    name: String,
    feeds: Vec<From>,
}

/// Something that columns come from.
#[derive(Debug, Clone)]
struct Source {
    alias: String,
    kind: SourceKind,
}

#[derive(Debug, Clone)]
enum SourceKind {
    /// The table whose rows are changed.
    Target(Arc<Relation>),
    Table(Arc<Relation>),
    Derived(Outputs),
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq)]
enum Column {
    Target(String, String),
    Table(String, String),
    Feeds(Vec<From>),
    Unknown,
}

impl Column {
    /// The table and column, if it is one.
    fn place(&self) -> Option<(&str, &str)> {
        match self {
            Self::Target(table, column) | Self::Table(table, column) => Some((table, column)),
            Self::Feeds(_) | Self::Unknown => None,
        }
    }
}

struct Finder<'a> {
    catalog: &'a Catalog,
    functions: &'a BTreeSet<String>,
    ctes: Vec<(String, Outputs)>,
    scopes: Vec<Vec<Source>>,
    /// What the statement around does, if it changes something.
    writes: Option<TableOperation>,
    flows: Vec<Flow>,
    steps: usize,
}

impl Finder<'_> {
    /// Counts steps, so that no statement takes long however it refers to itself.
    fn step(&mut self, steps: usize) -> Result<(), Refused> {
        self.steps += steps;
        match self.steps > MOST_STEPS {
            true => Err(Refused::syntax(
                "where the values of the statement go is too much to follow; write several of it",
            )),
            false => Ok(()),
        }
    }

    fn statement(&mut self, statement: &Statement) -> Result<Outputs, Refused> {
        match statement {
            Statement::Query(query) => self.whole(query),
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => self.update(update),
            Statement::Delete(delete) => self.delete(delete),
            Statement::Copy { .. } => self.copy(statement).map(|()| None),
            // What it gives is a plan.
            Statement::Explain { statement, .. } => self.statement(statement).map(|_| None),
            Statement::Declare { stmts, .. } => {
                for Declare { for_query, .. } in stmts {
                    if let Some(query) = for_query {
                        self.whole(query)?;
                    }
                }
                Ok(None)
            }
            // What it gives was chosen when the cursor was made, and by how far it is read.
            Statement::Fetch { .. } => {
                self.flow(None, self.choosing(), vec![From::Computed]);
                Ok(None)
            }
            // They touch nothing.
            _ => Ok(None),
        }
    }

    /// A query that is the statement. If it changes something on the way, all of it decides.
    fn whole(&mut self, query: &Query) -> Result<Outputs, Refused> {
        self.writes = changes(query);
        self.query(query)
    }

    /// The way in which values decide that choose rows.
    fn choosing(&self) -> Steers {
        Steers::Compared(self.writes.unwrap_or(TableOperation::Select))
    }

    /// Notes that values decide about a column.
    fn flow(&mut self, place: Option<(&str, &str)>, steers: Steers, feeds: Vec<From>) {
        let (of, column) = place.unwrap_or_default();
        for from in feeds {
            if self.flows.len() > MOST_FLOWS {
                return;
            }
            self.flows.push(Flow {
                of: of.to_owned(),
                column: column.to_owned(),
                steers,
                from,
            });
        }
    }

    /// The table that a name stands for; none where the statement goes nowhere anyway.
    fn table(&self, name: &ObjectName) -> Result<Option<Arc<Relation>>, Refused> {
        let (schema, table) = split(name)?;
        let found = self.catalog.resolve(schema.as_deref(), &table);
        Ok(found
            .filter(|found| !self.catalog.is_hidden(found))
            .cloned())
    }

    /// What a bare name stands for.
    fn bare(&self, name: &str) -> Column {
        for scope in self.scopes.iter().rev() {
            if let Some(found) = scope.iter().find_map(|source| source.column(name)) {
                return found;
            }
            let could = |source: &Source| matches!(source.kind, SourceKind::Derived(None));
            if scope.iter().any(could) {
                return Column::Unknown;
            }
        }
        Column::Unknown
    }

    /// What `table.column` stands for.
    fn qualified(&self, alias: &str, name: &str) -> Column {
        let mut scopes = self.scopes.iter().rev();
        let found = scopes.find_map(|scope| scope.iter().find(|source| source.alias == alias));
        found
            .and_then(|source| source.column(name))
            .unwrap_or(Column::Unknown)
    }

    fn named(&self, parts: &[Ident]) -> Result<Column, Refused> {
        Ok(match parts {
            [name] => self.bare(&fold(name)?),
            [alias, name] => self.qualified(&fold(alias)?, &fold(name)?),
            _ => Column::Unknown,
        })
    }

    /// Whether a function is one of those that the configuration adds.
    fn is_added(&self, name: &ObjectName) -> Result<bool, Refused> {
        let (schema, name) = split(name)?;
        let builtin = schema.is_none_or(|schema| schema == "pg_catalog");
        Ok(self.functions.contains(&name) && !(builtin && super::functions::is_harmless(&name)))
    }
}

impl Source {
    fn column(&self, name: &str) -> Option<Column> {
        let of = |table: &Relation| {
            let has = table.columns.iter().any(|column| column == name);
            has.then(|| (table.full_name(), name.to_owned()))
        };
        match &self.kind {
            SourceKind::Target(table) => of(table).map(|(t, c)| Column::Target(t, c)),
            SourceKind::Table(table) => of(table).map(|(t, c)| Column::Table(t, c)),
            SourceKind::Derived(outputs) => {
                let mut outputs = outputs.iter().flatten();
                let found = outputs.find(|output| output.name == name)?;
                Some(Column::Feeds(found.feeds.clone()))
            }
        }
    }
}

/// Adds sources of a value to others. When there are too many, all that is said is that it is computed.
fn add(feeds: &mut Vec<From>, more: Vec<From>) {
    for one in more {
        if feeds.len() >= MOST_FEEDS {
            *feeds = vec![From::Computed];
            return;
        }
        if !feeds.contains(&one) {
            feeds.push(one);
        }
    }
}

/// What a query changes on its way, in its common table expressions or its body.
fn changes(query: &Query) -> Option<TableOperation> {
    let within = query.with.iter().flat_map(|with| &with.cte_tables);
    let mut within = within.filter_map(|cte| changes(&cte.query));
    within.next().or_else(|| body_changes(&query.body))
}

fn body_changes(body: &SetExpr) -> Option<TableOperation> {
    match body {
        SetExpr::Insert(_) => Some(TableOperation::Insert),
        SetExpr::Update(_) => Some(TableOperation::Update),
        SetExpr::Delete(_) => Some(TableOperation::Delete),
        SetExpr::Query(query) => changes(query),
        SetExpr::SetOperation { left, right, .. } => {
            body_changes(left).or_else(|| body_changes(right))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
