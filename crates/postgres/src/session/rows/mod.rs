//! Rows on their way to the agent: looked at before it has them, and noted where values come from. What
//! nobody looks for and nobody notes passes as it comes ([`super::upstream`]).

mod columns;
mod rewritten;
mod said;
mod withheld;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes};
use gateway::inspection::{About, Verdict, What};
use gateway::pipeline::RowNotes;
use model::Denial;

pub(super) use columns::Columns;
use columns::{FIGURE_BYTES, Legible, Written, plain, values};

use super::named::Prepared;
use super::relay::{End, Relay};
use super::steering::Sources;
use super::upstream::unclear;
use crate::sql::{Analysed, Flows};
use crate::wire::value::Formats;
use crate::wire::{self, HEADER};

/// How much is looked at together, in bytes.
const BATCH: usize = 48 << 10;
/// Longest copied data that is noted line by line, in bytes.
const COPIED_BYTES: usize = 64 << 10;

/// What is known of the rows of one statement.
#[derive(Default)]
pub(super) struct Rows {
    /// What the statement touches.
    pub(super) analysed: Option<Arc<Analysed>>,
    /// What its columns may be, where somebody asks.
    flows: Option<Arc<Flows>>,
    /// What the database says of its columns.
    pub(super) described: Described,
    /// Its columns, once a row has come.
    columns: Option<Arc<Columns>>,
    /// The formats that the client asked for.
    pub(super) asked: Option<Formats>,
    /// Whether data that is copied out is in binary form.
    pub(super) copies_binary: bool,
    look: Option<Look>,
    notes: Option<RowNotes>,
}

/// What the database says of the columns of a result.
#[derive(Default)]
pub(super) enum Described {
    /// Nothing so far.
    #[default]
    Not,
    /// This message.
    By(Bytes),
    /// What it says of a prepared statement, by the time that its rows come.
    As(Arc<Prepared>),
}

/// What there is to do with rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Nothing: they pass as they come.
    Never,
    /// Nothing, as long as a row is no longer than this.
    Longer(usize),
    /// Every row is looked at.
    Always,
}

impl Rows {
    /// The rows of a statement.
    pub(super) fn of(analysed: Option<&Arc<Analysed>>, flows: Option<Arc<Flows>>) -> Self {
        Self {
            analysed: analysed.cloned(),
            flows,
            ..Self::default()
        }
    }

    /// The rows of a prepared statement.
    pub(super) fn of_prepared(prepared: &Arc<Prepared>) -> Self {
        let flows = prepared.sources.as_ref().map(Sources::flows);
        Self {
            described: Described::As(Arc::clone(prepared)),
            ..Self::of(prepared.analysed.as_ref(), flows)
        }
    }

    /// Learns which columns there are, now that rows come.
    fn learn(&mut self) {
        self.columns = match &self.described {
            Described::Not => None,
            Described::By(message) => Columns::read(message).map(Arc::new),
            Described::As(prepared) => prepared.columns.get().cloned(),
        };
    }

    fn written(&self) -> Written<'_> {
        Written {
            columns: self.columns.as_deref(),
            asked: self.asked.as_ref(),
        }
    }

    /// The tables, for findings.
    fn target(&self) -> String {
        let mut tables: Vec<&str> = Vec::new();
        for access in self.analysed.iter().flat_map(|analysed| &analysed.accesses) {
            if !tables.contains(&access.table.as_str()) {
                tables.push(&access.table);
            }
        }
        tables.join(", ")
    }
}

impl Relay<'_> {
    /// Whether a row of this length must be here as a whole before any of it passes.
    pub(super) fn looks_at(&mut self, tag: u8, length: usize) -> bool {
        if self.withholding {
            return true;
        }
        let Some(running) = self.running() else {
            return false;
        };
        let look = match running.rows.look {
            Some(look) => look,
            None => {
                let look = self.look(tag);
                if let Some(running) = self.running() {
                    running.rows.look = Some(look);
                }
                look
            }
        };
        match look {
            Look::Never => false,
            Look::Longer(most) => length > most,
            Look::Always => true,
        }
    }

    fn look(&mut self, tag: u8) -> Look {
        let about = About {
            what: What::Rows,
            caller: &self.caller,
            server: &self.route.server,
            target: "",
            decision: None,
        };
        let looks = self.endpoint.pipeline.inspection().looks(&about);
        let Some(running) = self.running() else {
            return Look::Never;
        };
        let notes = running.permit.notes_rows();
        if looks || notes {
            running.rows.learn();
        }
        if notes {
            return Look::Always;
        }
        match (looks, &running.rows.columns) {
            (false, _) => Look::Never,
            (true, Some(columns)) if tag == b'D' && columns.are_figures() => {
                Look::Longer(HEADER + 2 + columns.count() * (4 + FIGURE_BYTES))
            }
            (true, _) => Look::Always,
        }
    }

    /// Takes the rows that have arrived as a whole. False when the first has not.
    pub(super) fn take_rows(&mut self, tag: u8) -> Result<bool, End> {
        let mut taken: Vec<Bytes> = Vec::new();
        let mut size = 0;
        let mut over = Ok(());
        while size < BATCH {
            let next = wire::peek(&self.from_upstream).map_err(|_| unclear())?;
            let Some((next, length)) = next else { break };
            if next != tag || length > self.longest_row || self.from_upstream.len() < length {
                break;
            }
            over = self.row(length);
            if over.is_err() {
                break;
            }
            size += length;
            taken.push(self.from_upstream.split_to(length).freeze());
        }
        // What came before it was used up goes out.
        if !taken.is_empty() && !self.withholding {
            self.pass_rows(tag, taken)?;
            return over.map(|()| true);
        }
        over.map(|()| !taken.is_empty())
    }

    fn pass_rows(&mut self, tag: u8, taken: Vec<Bytes>) -> Result<(), End> {
        let passed = match tag {
            b'D' => self.looked_at_rows(taken)?,
            _ => self.looked_at_copied(taken),
        };
        match passed {
            Ok(passed) => {
                let to_client = &mut self.to_client;
                passed.iter().for_each(|row| to_client.put_slice(row));
                if let Some(running) = self.running() {
                    passed.iter().for_each(|row| running.digest.update(row));
                }
            }
            Err(denial) => self.withhold(denial),
        }
        Ok(())
    }

    /// Rows as they may pass.
    fn looked_at_rows(&mut self, taken: Vec<Bytes>) -> Result<Result<Vec<Bytes>, Denial>, End> {
        let running = self.running().ok_or_else(unclear)?;
        let target = running.rows.target();
        let decision = running.permit.decision();
        let rows = taken
            .iter()
            .map(|row| values(row.get(HEADER..).unwrap_or_default()));
        let rows: Option<Vec<_>> = rows.collect();
        let rows = rows.ok_or_else(unclear)?;
        // What is read, with its place: row, column, and the bytes before it.
        let written = running.rows.written();
        let mut texts: Vec<(usize, usize, Option<usize>, Cow<'_, str>)> = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            for (column, value) in row.iter().enumerate() {
                let Some(value) = value else { continue };
                match Legible::of(written.of(column), value) {
                    Legible::Nothing => {}
                    Legible::Text(text, before) => {
                        texts.push((at, column, Some(before), Cow::Borrowed(text)));
                    }
                    Legible::Opaque(text) => texts.push((at, column, None, Cow::Owned(text))),
                }
            }
        }
        let columns = running.rows.columns.clone();
        let named = Written {
            columns: columns.as_deref(),
            asked: None,
        };
        let fields = texts
            .iter()
            .map(|(_, column, _, text)| (named.name(*column), &**text));
        let fields: Vec<(&str, &str)> = fields.collect();
        let about = About {
            what: What::Rows,
            caller: &self.caller,
            server: &self.route.server,
            target: &target,
            decision: Some(decision),
        };
        let verdict = match fields.is_empty() {
            true => Verdict::Pass,
            false => self.endpoint.pipeline.inspection().fields(&about, &fields),
        };
        let passed = match verdict {
            Verdict::Pass => Ok(None),
            Verdict::Blocked(denial) => Err(denial),
            Verdict::Redacted(others) => {
                let changed =
                    texts
                        .iter()
                        .zip(others)
                        .filter_map(|((row, column, before, _), other)| {
                            Some((*row, *column, *before, other?))
                        });
                let written = self.running().ok_or_else(unclear)?.rows.written();
                Ok(Some(rewritten::rows(&taken, &rows, changed, written)))
            }
        };
        let passed = match passed {
            Ok(changed) => changed,
            Err(denial) => return Ok(Err(denial)),
        };
        self.note_rows(&rows);
        Ok(Ok(passed.unwrap_or_else(|| taken.clone())))
    }

    /// Notes where the values of rows come from, before the agent has them.
    fn note_rows(&mut self, rows: &[Vec<Option<&[u8]>>]) {
        let Some(running) = self.running() else {
            return;
        };
        if !running.permit.notes_rows() {
            return;
        }
        let first = rows.first().map_or(0, Vec::len);
        let mut notes = match running.rows.notes.take() {
            Some(notes) => notes,
            None => RowNotes::new(running.rows.origins(first)),
        };
        let written = running.rows.written();
        let plain: Vec<Vec<Option<Cow<'_, str>>>> = rows
            .iter()
            .map(|row| {
                let values = row.iter().enumerate();
                values
                    .map(|(column, value)| plain(written.of(column), (*value)?))
                    .collect()
            })
            .collect();
        let rows = plain.iter().map(|row| row.iter().map(Option::as_deref));
        running.permit.note_rows(&mut notes, rows);
        running.rows.notes = Some(notes);
    }

    /// Data that is copied out, as it may pass.
    fn looked_at_copied(&mut self, taken: Vec<Bytes>) -> Result<Vec<Bytes>, Denial> {
        let Some(running) = self.running() else {
            return Ok(taken);
        };
        let (target, decision) = (running.rows.target(), running.permit.decision());
        let is_binary = running.rows.copies_binary;
        let body = |data: &Bytes| data.slice(HEADER.min(data.len())..);
        let bodies: Vec<Bytes> = taken.iter().map(body).collect();
        let texts: Vec<Cow<'_, str>> = bodies
            .iter()
            .map(|body| String::from_utf8_lossy(body))
            .collect();
        let fields: Vec<(&str, &str)> = texts.iter().map(|text| ("", &**text)).collect();
        let about = About {
            what: What::Rows,
            caller: &self.caller,
            server: &self.route.server,
            target: &target,
            decision: Some(decision),
        };
        let passed = match self.endpoint.pipeline.inspection().fields(&about, &fields) {
            Verdict::Pass => taken,
            Verdict::Blocked(denial) => return Err(denial),
            Verdict::Redacted(others) => rewritten::copied(&taken, &texts, others, is_binary)
                .ok_or_else(|| rewritten::cannot(self.route.server.as_str(), is_binary))?,
        };
        if let Some(running) = self.running()
            && running.permit.notes_rows()
        {
            let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
            if is_binary || longest > COPIED_BYTES {
                running.permit.miss_rows();
            } else {
                let mut notes = match running.rows.notes.take() {
                    Some(notes) => notes,
                    None => RowNotes::new(vec![Rows::unknown("COPY")]),
                };
                let rows = texts.iter().map(|text| std::iter::once(Some(&**text)));
                running.permit.note_rows(&mut notes, rows);
                running.rows.notes = Some(notes);
            }
        }
        Ok(passed)
    }
}

impl Rows {
    /// Whether a result is to come that is looked at, and so may not pass.
    fn may_be_withheld(&self) -> bool {
        let reads = self
            .analysed
            .as_ref()
            .is_some_and(|analysed| only_reads(analysed));
        let known = match (&self.columns, &self.described) {
            (Some(columns), _) => Some(columns),
            (None, Described::As(prepared)) => prepared.columns.get(),
            (None, _) => None,
        };
        let is_figures = known.is_some_and(|columns| columns.are_figures());
        reads && !is_figures && self.look != Some(Look::Never)
    }
}

/// Whether a statement gives rows and changes nothing.
fn only_reads(analysed: &Analysed) -> bool {
    matches!(analysed.method, "SELECT" | "FETCH" | "EXPLAIN")
        && analysed
            .accesses
            .iter()
            .all(|access| access.operation == model::TableOperation::Select)
}
