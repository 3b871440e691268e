//! Noting what a database answers, row by row, before the agent has it.

use jiff::Timestamp;
use model::{DecisionId, Statement, Steering, TableOperation};
use serde_json::Value;

use super::notes::Reading;
use super::{Ledger, Level};
use crate::annotations::{Annotations, Choose, Kind, Sink, Table};
use crate::text;
use crate::verdict::visible;

/// Most columns of one result that are told apart.
const MOST_COLUMNS: usize = 256;
/// Longest statement in an origin, in characters.
const QUOTED: usize = 120;

/// A statement whose rows are noted.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The server.
    pub server: &'a str,
    /// The statement.
    pub statement: &'a Statement,
    /// When it was decided.
    pub at: Option<Timestamp>,
    /// The decision that permitted it.
    pub decision: Option<DecisionId>,
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowColumn {
    /// Its name in the result.
    pub name: String,
    /// The table and column whose value it is, unchanged, where the database says so.
    pub of: Option<(String, String)>,
}

/// How the rows of one result are noted.
#[derive(Debug, Clone)]
pub struct RowNotes {
    columns: Vec<RowColumn>,
    /// Known once the first rows came.
    judged: Option<Judged>,
}

#[derive(Debug, Clone, Default)]
struct Judged {
    columns: Vec<Noted>,
    narrowed: bool,
    /// The number of the result that the rows began as.
    call: u32,
}

#[derive(Debug, Clone)]
struct Noted {
    source: Option<u32>,
    is_trusted: bool,
    /// What its values are identifiers of, and the place of the column that has the names.
    lists: Option<(String, Option<usize>)>,
}

impl RowNotes {
    /// Begins with a result that has these columns.
    #[must_use]
    pub fn new(columns: Vec<RowColumn>) -> Self {
        Self {
            columns,
            judged: None,
        }
    }
}

impl Ledger {
    /// Notes rows of a result: the values of its columns in order, `None` for what cannot be read. What is
    /// trusted is the value of a trusted column, unchanged, in a row that only derivable values chose, of a
    /// statement that only reads.
    pub fn note_rows<'v, R>(
        &mut self,
        annotations: Option<&Annotations>,
        asking: &Asking<'_>,
        notes: &mut RowNotes,
        rows: impl Iterator<Item = R>,
    ) where
        R: Iterator<Item = Option<&'v str>>,
    {
        self.calls = self.calls.saturating_add(1);
        let reading = Reading {
            server: asking.server,
            tool: &visible(&asking.statement.target(), QUOTED),
            call: notes
                .judged
                .as_ref()
                .map_or(self.calls, |judged| judged.call),
            arguments: visible(&asking.statement.shape, QUOTED),
            at: asking.at,
            decision: asking.decision,
        };
        self.begin_entry(&reading);
        if notes.judged.is_none() {
            notes.judged =
                Some(self.judged(annotations, asking.statement, &notes.columns, &reading));
        }
        let Some(judged) = &notes.judged else { return };
        for row in rows {
            let values: Vec<Option<&str>> = row.take(MOST_COLUMNS).collect();
            for (column, (about, value)) in
                judged.columns.iter().zip(notes.columns.iter().zip(&values))
            {
                let (Some(source), Some(value)) = (column.source, *value) else {
                    continue;
                };
                let level = column.is_trusted.then_some(Level::Trusted);
                let fits = match level {
                    Some(level) => {
                        self.note_trusted(value, source, level);
                        true
                    }
                    None => self.note_untrusted(value, source),
                };
                if let Some(entry) = self.entry.as_mut().filter(|_| fits) {
                    entry.value(level, &about.name, value);
                }
                if let Some((of, name)) = &column.lists {
                    let name = name.and_then(|place| values.get(place).copied().flatten());
                    let how = self.how_chosen(name, judged.narrowed);
                    self.note_listed(of, value, how, &about.name, &reading);
                }
            }
        }
    }

    fn judged(
        &mut self,
        annotations: Option<&Annotations>,
        statement: &Statement,
        columns: &[RowColumn],
        reading: &Reading<'_>,
    ) -> Judged {
        let chosen = annotations.and_then(|annotations| {
            let narrowed = self.chosen_by(annotations, statement)?;
            Some((annotations, narrowed))
        });
        if columns.len() > MOST_COLUMNS {
            self.full = true;
        }
        let noted = columns.iter().take(MOST_COLUMNS).map(|column| {
            let about = chosen.and_then(|(annotations, _)| {
                let (of, name) = column.of.as_ref()?;
                let table = annotations.tables.get(of)?;
                is_alone(annotations, statement, of).then_some((of, name, table))
            });
            Noted {
                source: self.source(reading.at(&visible(&column.name, QUOTED))),
                is_trusted: about.is_some_and(|(_, name, table)| table.trusts(name)),
                lists: about.and_then(|(of, name, table)| listing(columns, of, name, table)),
            }
        });
        Judged {
            columns: noted.collect(),
            narrowed: chosen.is_some_and(|(_, narrowed)| narrowed),
            call: reading.call,
        }
    }

    /// What `chosen_rows` says of a statement that only reads.
    fn chosen_by(&self, annotations: &Annotations, statement: &Statement) -> Option<bool> {
        let mut accesses = statement.accesses.iter();
        let reads = accesses.all(|access| access.operation == TableOperation::Select);
        match &statement.steering {
            Steering::Known(steered) if reads => self.chosen_rows(annotations, steered),
            _ => None,
        }
    }

    fn how_chosen(&self, name: Option<&str>, narrowed: bool) -> Choose {
        let named = name.is_some_and(|name| {
            let says = text::words(name);
            let sink = Sink {
                kind: Kind::Name,
                ..Sink::default()
            };
            text::say_enough(&says)
                && self
                    .derive(&Value::String(says.join(" ")), &sink, Level::Vouched)
                    .is_some()
        });
        match (named, narrowed) {
            (true, _) => Choose::Named,
            (false, true) => Choose::Narrowed,
            (false, false) => Choose::Listed,
        }
    }
}

/// Whether nothing else chose the rows of a table: every other table that the statement reads is
/// trusted, as far as it reads it.
fn is_alone(annotations: &Annotations, statement: &Statement, table: &str) -> bool {
    let others = statement
        .accesses
        .iter()
        .filter(|access| access.table != table);
    let mut others = others.map(|access| (annotations.tables.get(&access.table), &access.columns));
    others.all(|(known, columns)| {
        let trusts = |column: &String| known.is_some_and(|table| table.trusts(column));
        columns
            .as_ref()
            .is_some_and(|columns| columns.iter().all(trusts))
    })
}

fn listing(
    columns: &[RowColumn],
    of: &str,
    column: &str,
    table: &Table,
) -> Option<(String, Option<usize>)> {
    let (what, name) = table.lists.get(column)?;
    let place = name.as_ref().and_then(|name| {
        let is_it = |(table, column): &(String, String)| table == of && column == name;
        columns
            .iter()
            .position(|one| one.of.as_ref().is_some_and(is_it))
    });
    Some((what.clone(), place))
}
