//! The ledger of one task: what it has seen, and from where.

mod check;
mod derive;
mod entry;
mod index;
mod known;
mod notes;
mod recall;
mod rows;
mod statement;

use std::collections::HashMap;
use std::sync::Arc;

pub use notes::Called;
pub use recall::{Malformed, Mark, Recalled};
pub use rows::{Asking, RowColumn, RowNotes};

use jiff::civil::Date;

use crate::verdict::Origin;
use entry::Entry;
use index::WordIndex;
use known::{Known, Listed};

/// How much a ledger holds, in bytes of what it indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of what may steer calls: the task's inputs and trusted results, each.
    pub trusted: usize,
    /// Of untrusted content, which is kept only to say where a value was seen.
    pub untrusted: usize,
    /// Sources: fields of results, inputs.
    pub sources: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            trusted: 1 << 20,
            untrusted: 2 << 20,
            sources: 20_000,
        }
    }
}

/// Everything that one task has seen, labelled by where it came from. Bounded: what does not fit
/// is not known, so that calls which depend on it are asked about, and
/// [`Ledger::is_full`] says so.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    limits: Limits,
    today: Option<Date>,
    sources: Vec<Origin>,
    /// What may steer calls, by level: the task's own inputs; results whose source the task itself
    /// names; other trusted results.
    known: [Known; 3],
    listed: HashMap<(Box<str>, Box<str>), Listed>,
    /// Untrusted words, as a careless reader sees them.
    seen: WordIndex,
    calls: u32,
    full: bool,
    /// Whether it may lack something that the task has read, as after a crash.
    missed: bool,
    /// The run of the process that the last result was noted in; 0 before the first.
    run: u64,
    /// The run to write entries for, if they are to be kept.
    keeping: Option<u64>,
    /// What is being noted, as it is kept.
    entry: Option<Entry>,
    /// The ledger of the task that delegated to this one, as it was then.
    parent: Option<Arc<Ledger>>,
}

/// How far down the levels of trust a value may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// The task's inputs.
    Task = 1,
    /// And results whose source the task names.
    Vouched = 2,
    /// And all trusted results.
    Trusted = 3,
}

/// The longest chain of delegations over which labels are carried.
const LONGEST_CHAIN: usize = 8;

impl Ledger {
    /// An empty ledger with the usual limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty ledger with these limits.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Whether the task has read more than its ledger holds. What did not fit is not accepted.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full || self.seen.is_full() || self.known.iter().any(Known::is_full)
    }

    /// The ledger of a task that this one delegates to. What was derivable here stays derivable
    /// there; what the delegating agent hands on in words (`inputs`) makes nothing derivable that
    /// was not, since those words may come from content that it has read.
    #[must_use]
    pub fn for_subtask(&self, inputs: &[&str]) -> Self {
        let chain = std::iter::successors(Some(self), |ledger| ledger.parent.as_deref()).count();
        let parent = (chain < LONGEST_CHAIN).then(|| Arc::new(self.clone()));
        let mut child = Self {
            limits: self.limits,
            today: self.today,
            full: self.full,
            missed: self.missed,
            parent,
            ..Self::default()
        };
        child.note_handed_on(inputs);
        child
    }

    /// The number of a new source; `None` when there are too many.
    fn source(&mut self, origin: Origin) -> Option<u32> {
        if self.sources.len() >= self.limits.sources {
            self.full = true;
            return None;
        }
        self.sources.push(origin);
        u32::try_from(self.sources.len() - 1).ok()
    }

    fn origin(&self, source: u32) -> Origin {
        self.sources
            .get(source as usize)
            .cloned()
            .unwrap_or(Origin::Purpose)
    }

    /// This ledger and those of the tasks that delegated down to it.
    fn chain(&self) -> impl Iterator<Item = &Ledger> {
        std::iter::successors(Some(self), |ledger| ledger.parent.as_deref())
    }

    /// What may steer calls at this level, nearest first, with the ledger that it is in.
    fn known(&self, level: Level) -> impl Iterator<Item = (&Ledger, &Known)> {
        self.chain().flat_map(move |ledger| {
            ledger.known[..level as usize]
                .iter()
                .map(move |known| (ledger, known))
        })
    }
}
