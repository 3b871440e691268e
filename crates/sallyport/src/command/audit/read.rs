//! `sallyport audit tail`, `query` and `show`: reading records.

use std::collections::VecDeque;
use std::time::Duration;

use ::audit::Reader;
use model::record::Record;
use serde_json::{Map, Value};

use super::select::Selection;
use super::view::{Columns, Row, View, sheet};
use super::{LogArgs, unreadable};
use crate::failure::Failure;
use crate::output::{self, FAINT, paint};

/// How long a followed log is waited for before it is looked at again.
const WAIT: Duration = Duration::from_secs(1);

/// Arguments of `sallyport audit tail`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport audit tail
  sallyport audit tail -n 100 --agent triage
  sallyport audit tail -f --denied")]
pub(super) struct TailArgs {
    /// How many records
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 20)]
    lines: usize,
    /// Go on as new records come
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    log: LogArgs,
    /// Print one JSON object on each line
    #[arg(long)]
    json: bool,
}

/// Arguments of `sallyport audit query`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport audit query --agent triage --denied --since 2h
  sallyport audit query --task …0a1b2c3d --json
  sallyport audit query --rule argument_refused --text payroll --limit 1000")]
pub(super) struct QueryArgs {
    /// At most this many: the latest
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    log: LogArgs,
    /// Print one JSON object on each line
    #[arg(long)]
    json: bool,
}

/// Arguments of `sallyport audit show`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport audit show 4711")]
pub(super) struct ShowArgs {
    /// The record's position in the log
    index: u64,
    #[command(flatten)]
    log: LogArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One record as it was found.
struct Found {
    index: u64,
    line: String,
    record: Option<Record>,
    row: Row,
}

impl Found {
    fn json(&self) -> Value {
        let mut map = Map::new();
        map.insert("index".to_owned(), self.index.into());
        match serde_json::from_str(&self.line) {
            Ok(Value::Object(members)) => map.extend(members),
            _ => {
                map.insert("text".to_owned(), self.line.clone().into());
            }
        }
        Value::Object(map)
    }
}

/// Goes through a log in order and keeps what is wanted.
struct Search {
    selection: Selection,
    view: View,
    next: u64,
}

impl Search {
    fn new(selection: &Selection, next: u64) -> Self {
        Self {
            selection: selection.clone(),
            view: View::default(),
            next,
        }
    }

    /// What is wanted of the records before `end`; of these at most the last `most`.
    fn go_on(
        &mut self,
        reader: &Reader,
        end: u64,
        most: usize,
    ) -> Result<VecDeque<Found>, Failure> {
        let mut found = VecDeque::new();
        for entry in reader.entries(self.next..end) {
            let (index, bytes) = entry.map_err(|error| unreadable(&error))?;
            self.next = index + 1;
            let line = String::from_utf8_lossy(&bytes).into_owned();
            let record: Option<Record> = serde_json::from_str(&line).ok();
            let wanted = match &record {
                Some(record) => self.selection.wants(record, &line),
                None => self.selection.is_everything(),
            };
            // Also of what is not wanted: results that are may follow.
            let row = self.view.row(index, record.as_ref());
            if wanted {
                if found.len() == most {
                    found.pop_front();
                }
                if most > 0 {
                    found.push_back(Found {
                        index,
                        line,
                        record,
                        row,
                    });
                }
            }
        }
        Ok(found)
    }
}

/// Shows the last records.
pub(super) fn tail(args: &TailArgs) -> Result<(), Failure> {
    let mut reader = args.log.open(None)?;
    // Without a filter only the end is read; a little more, so that results know their actions.
    let lines = u64::try_from(args.lines).unwrap_or(u64::MAX);
    let from = if args.selection.is_everything() {
        reader.size().saturating_sub(lines.saturating_mul(2))
    } else {
        0
    };
    let mut search = Search::new(&args.selection, from);
    let found = search.go_on(&reader, reader.size(), args.lines)?;
    let columns = print(
        found,
        args.json,
        if args.follow {
            None
        } else {
            Some("no records yet")
        },
    )?;
    if !args.follow {
        return Ok(());
    }
    loop {
        reader
            .wait(search.next, WAIT)
            .map_err(|error| unreadable(&error))?;
        for found in search.go_on(&reader, reader.size(), usize::MAX)? {
            if args.json {
                output::json_line(&found.json())?;
            } else {
                output::line(columns.line(&found.row))?;
            }
        }
    }
}

/// Finds records.
pub(super) fn query(args: &QueryArgs) -> Result<(), Failure> {
    let reader = args.log.open(None)?;
    let found = Search::new(&args.selection, 0).go_on(&reader, reader.size(), args.limit)?;
    let all = found.len() < args.limit;
    print(found, args.json, Some("no such records"))?;
    if !all && !args.json {
        output::note(paint(
            FAINT,
            format_args!(
                "the latest {}; there may be more before them (--limit)",
                args.limit
            ),
        ));
    }
    Ok(())
}

/// Shows everything of one record.
pub(super) fn show(args: &ShowArgs) -> Result<(), Failure> {
    let reader = args.log.open(None)?;
    if args.index >= reader.size() {
        let failure = Failure::new(format!("there is no record {}", args.index));
        return Err(failure.hint(match reader.size() {
            0 => "the log is empty".to_owned(),
            size => format!("the last one is {}", size - 1),
        }));
    }
    let mut search = Search::new(&Selection::default(), args.index);
    let found = search.go_on(&reader, args.index + 1, 1)?.pop_front();
    let found = found.ok_or_else(|| Failure::new(format!("there is no record {}", args.index)))?;
    match &found.record {
        _ if args.json => output::json(&found.json()),
        Some(record) => output::sheet(&sheet(found.index, record)),
        None => output::line(output::visible(&found.line)),
    }
}

fn print(found: VecDeque<Found>, json: bool, empty: Option<&str>) -> Result<Columns, Failure> {
    if json {
        for found in &found {
            output::json_line(&found.json())?;
        }
        return Ok(Columns::fit(&[]));
    }
    let rows: Vec<Row> = found.into_iter().map(|found| found.row).collect();
    let columns = Columns::fit(&rows);
    match empty {
        Some(empty) if rows.is_empty() => output::line(paint(FAINT, empty))?,
        _ => output::line(columns.heading())?,
    }
    for row in &rows {
        output::line(columns.line(row))?;
    }
    Ok(columns)
}
