//! Keeping a ledger over the end of the process: what each call adds is handed out as an entry, and a ledger
//! is made anew from entries that were kept.
//!
//! Entries only add what may steer calls, so one that is lost can only make calls be asked about. What is
//! read back is never more than what was noted: a part of a task is given what its whole knew when the part
//! began, not what it learnt later.

use std::collections::HashMap;

use super::Ledger;
use super::entry::{self, Entry, Read, Value};
use super::notes::Reading;
use crate::verdict::Origin;

/// A state of a ledger: the run of the process that the last call was noted in, and that call's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Names the run; 0 before the first call.
    pub run: u64,
    /// The number of the call, counted from 1.
    pub call: u32,
}

/// An entry cannot be read: it was written by another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry of a ledger has a form that this version does not know")]
pub struct Malformed;

/// What is known of a ledger that was kept.
#[derive(Debug, Default)]
pub struct Recalled {
    begins: Option<Mark>,
    results: Vec<Read>,
    malformed: bool,
}

impl Recalled {
    /// Reads entries in the order in which they were kept, up to the first that cannot be read.
    pub fn read<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut recalled = Self::default();
        for (at, bytes) in entries.into_iter().enumerate() {
            match Read::parse(bytes) {
                Ok(Read::Begins(mark)) if at == 0 => recalled.begins = Some(mark),
                Ok(read @ Read::Result { .. }) => recalled.results.push(read),
                Ok(Read::Begins(_)) | Err(Malformed) => {
                    recalled.malformed = true;
                    break;
                }
            }
        }
        recalled
    }

    /// The state of the whole's ledger that this one, of a part, began with.
    #[must_use]
    pub fn begins(&self) -> Option<Mark> {
        self.begins
    }

    /// How many results there are.
    #[must_use]
    pub fn results(&self) -> usize {
        self.results.len()
    }

    /// Leaves out what was noted after a state. Where that state is not known, less is left than there was
    /// then, never more.
    #[must_use]
    pub fn until(mut self, mark: Mark) -> Self {
        if mark == Mark::default() {
            self.results.clear();
            return self;
        }
        let within = |read: &Read| match read {
            Read::Result { mark: other, .. } => other.run == mark.run && other.call <= mark.call,
            Read::Begins(_) => false,
        };
        let last = self.results.iter().rposition(within);
        self.results.truncate(last.map_or(0, |last| last + 1));
        let found =
            |read: &Read| matches!(read, Read::Result { mark: other, .. } if *other == mark);
        self.malformed |= !self.results.last().is_some_and(found);
        self
    }
}

impl Ledger {
    /// From now on hands out what each call adds: see [`Self::take_entry`]. `run` names the run of the
    /// process, differently for each, and never 0; with `None`, nothing is handed out any more.
    pub fn keep(&mut self, run: Option<u64>) {
        self.keeping = run;
    }

    /// The state that it is in.
    #[must_use]
    pub fn mark(&self) -> Mark {
        match self.run {
            0 => Mark::default(),
            run => Mark {
                run,
                call: self.calls,
            },
        }
    }

    /// Whether it may lack something that the task has read, as after a crash.
    #[must_use]
    pub fn lacks_some(&self) -> bool {
        self.missed
    }

    /// How many results it has taken in.
    #[must_use]
    pub fn results(&self) -> u32 {
        self.calls
    }

    /// The entry that comes first in what is kept of a part: the state of the whole that it began with.
    #[must_use]
    pub fn begins_with(mark: Mark) -> Vec<u8> {
        entry::begins(mark)
    }

    /// What the result that was noted last has added, to be kept; it holds it in clear. `None` where
    /// nothing is kept.
    pub fn take_entry(&mut self) -> Option<Vec<u8>> {
        let all = !self.is_full();
        self.entry.take().map(|entry| entry.finish(all))
    }

    /// Takes in what was kept of this ledger, which so far has what its task was opened with. `expected` is
    /// how many results it had taken in; if not all of them are there, it is known to lack some.
    pub fn recall(&mut self, recalled: Recalled, expected: u32) {
        let Recalled {
            results, malformed, ..
        } = recalled;
        let mut missed = malformed;
        for read in results {
            let Read::Result {
                mark,
                origin,
                values,
                all,
            } = read
            else {
                continue;
            };
            let Origin::Result {
                server,
                tool,
                call,
                arguments,
                at,
                decision,
                ..
            } = origin
            else {
                missed = true;
                continue;
            };
            missed |= self.calls.checked_add(1) != Some(mark.call);
            // Only what did not fit into the ledger itself is missing from a ledger without a crash too.
            self.full |= !all;
            self.calls = self.calls.max(mark.call);
            self.run = mark.run;
            let reading = Reading {
                server: &server,
                tool: &tool,
                call,
                arguments,
                at,
                decision,
            };
            // Rows of one result share the sources of its columns.
            let mut sources: HashMap<&str, Option<u32>> = HashMap::new();
            for value in &values {
                match value {
                    Value::Seen { level, place, text } => {
                        let source = sources.entry(place.as_str());
                        let source = source.or_insert_with(|| self.source(reading.at(place)));
                        if let Some(source) = *source {
                            self.note_from(source, text, place, *level);
                        }
                    }
                    Value::Listed {
                        how,
                        of,
                        place,
                        identifier,
                    } => {
                        self.note_listed(of, identifier, *how, place, &reading);
                    }
                }
            }
        }
        if missed || self.calls < expected {
            self.miss_some();
        }
        self.calls = self.calls.max(expected);
    }

    /// Begins the entry of a result that is noted now.
    pub(super) fn begin_entry(&mut self, origin: &Reading<'_>) {
        let Some(run) = self.keeping else { return };
        self.run = run;
        self.entry = Some(Entry::new(self.mark(), &origin.at("")));
    }
}
