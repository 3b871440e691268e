//! What a task has seen: its ledger, made when it first matters, kept over the end of the process, and gone
//! with the task.
//!
//! Each result adds an entry to the task's journal ([`vault::Journals`]); a journal is read back when its task
//! first needs its ledger again. The records of results say how many the ledger had taken in, so that a
//! journal that lacks some, whoever took them out, is known to: what is missing steers nothing, and whoever
//! is asked is told that something was forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use audit::AuditLog;
use jiff::Timestamp;
use model::TaskId;
use model::record::Record;
use parking_lot::Mutex;
use provenance::Ledger;
use provenance::ledger::{Mark, Recalled};
use vault::{Damage, Journals};

use crate::live::LiveTask;

/// Where the ledgers of open tasks are kept over the end of the process.
pub struct Keeping {
    journals: Arc<Journals>,
    /// Names this run of the process.
    run: u64,
    audit: Arc<AuditLog>,
}

impl Keeping {
    pub(crate) fn new(journals: Arc<Journals>, audit: Arc<AuditLog>) -> Self {
        let mut run = [0; 8];
        getrandom::fill(&mut run).expect("the operating system gives randomness");
        Self {
            journals,
            run: u64::from_be_bytes(run).max(1),
            audit,
        }
    }

    /// Destroys the ledgers of all tasks but these.
    pub(crate) fn keep_only(&self, tasks: BTreeSet<TaskId>) {
        self.journals.keep_only(tasks);
    }
}

/// What a task had done before the process began.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    /// How many results its ledger had taken in, as far as records say.
    pub noted: u32,
    /// Whether it has done anything.
    pub has_acted: bool,
    /// Whether something that it did has no end on record, so that a result may have been noted of which
    /// nothing says so.
    pub has_unfinished: bool,
    /// Whether nothing of it may be kept any more, since somebody destroyed what was.
    pub is_destroyed: bool,
}

/// What one task has seen.
#[derive(Default)]
pub(crate) struct Memory {
    seen: Mutex<Seen>,
    keeping: OnceLock<Arc<Keeping>>,
    before: OnceLock<Before>,
}

#[derive(Default)]
struct Seen {
    ledger: Option<Box<Ledger>>,
    /// Whether the task is over: then nothing is noted any more.
    over: bool,
}

impl Memory {
    /// Says where it is kept; before the task is known to anybody.
    pub(crate) fn keep(&self, keeping: &Arc<Keeping>) {
        // The first one stays.
        let _ = self.keeping.set(Arc::clone(keeping));
    }

    /// Forgets everything, also what is kept, once the task is over.
    pub(crate) fn end(&self, task: TaskId) {
        let mut seen = self.seen.lock();
        let had = seen.ledger.take().is_some() || self.before.get().is_some();
        if !std::mem::replace(&mut seen.over, true)
            && had
            && let Some(keeping) = self.keeping.get()
        {
            keeping.journals.destroy(task);
        }
    }
}

impl LiveTask {
    /// Does something with the ledger of this task.
    pub(super) fn with_ledger<R>(&self, act: impl FnOnce(&mut Ledger) -> R) -> R {
        let mut seen = self.memory().seen.lock();
        if seen.over {
            // Nothing of the task goes on any more, whatever is found.
            return act(&mut Ledger::new());
        }
        act(seen
            .ledger
            .get_or_insert_with(|| Box::new(self.first_ledger())))
    }

    /// Notes a result, and keeps what it added. Says how many results the ledger has taken in.
    pub(super) fn note_in_ledger(&self, note: impl FnOnce(&mut Ledger)) -> u32 {
        let noted = self.with_ledger(|ledger| {
            note(ledger);
            if let Some(entry) = ledger.take_entry()
                && let Some(keeping) = self.memory().keeping.get()
            {
                // One that is not kept is missed when the journal is read.
                keeping.journals.append(self.task().id, entry);
            }
            ledger.results()
        });
        self.lock().usage.note_results(noted);
        noted
    }

    /// Says what the task had done before the process began: what its ledger had is read back when it is
    /// first needed.
    pub fn recall(&self, before: Before) {
        // The first one stays.
        let _ = self.memory().before.set(before);
    }

    /// Destroys what is kept of its ledger, and keeps nothing more of it. The process itself goes on with
    /// what it knows.
    pub fn destroy_kept_ledger(&self) {
        let Some(keeping) = self.memory().keeping.get() else {
            return;
        };
        self.with_ledger(|ledger| {
            ledger.keep(None);
            keeping.journals.destroy(self.task().id);
        });
    }

    fn first_ledger(&self) -> Ledger {
        let memory = self.memory();
        let before = memory.before.get();
        let Some(keeping) = memory.keeping.get() else {
            let mut ledger = self.opened_with(|above, inputs| above.part_now(inputs).0);
            if before.is_some_and(|before| before.has_acted) {
                ledger.miss_some();
            }
            return ledger;
        };
        let id = self.task().id;
        let mut ledger = match before {
            Some(before) if before.is_destroyed => {
                keeping.journals.destroy(id);
                let mut ledger = self
                    .opened_with(|above, inputs| above.part_at(keeping, Mark::default(), inputs));
                ledger.miss_some();
                return ledger;
            }
            Some(before) => self.recalled(keeping, *before),
            None => {
                let mut began = None;
                let ledger = self.opened_with(|above, inputs| {
                    let (ledger, mark) = above.part_now(inputs);
                    began = Some(mark);
                    ledger
                });
                if let Some(mark) = began {
                    keeping.journals.append(id, Ledger::begins_with(mark));
                }
                ledger
            }
        };
        ledger.keep(Some(keeping.run));
        ledger
    }

    /// What the task was opened with, by whose words they are: those that its grant trusts may steer its
    /// calls; the others were written by an agent, and steer nothing. A part of another task starts from
    /// what may steer that one: `part` says from which state of it.
    fn opened_with(&self, part: impl FnOnce(&LiveTask, &[&str]) -> Ledger) -> Ledger {
        let task = self.task();
        let trusted = &task.grant.trusted_inputs;
        let (own, handed_on): (BTreeMap<_, _>, BTreeMap<_, _>) = task
            .parameters
            .clone()
            .into_iter()
            .partition(|(name, _)| trusted.parameters.contains(name));
        let mut inputs: Vec<&str> = handed_on.values().map(String::as_str).collect();
        if !trusted.purpose {
            inputs.push(&task.purpose);
        }
        inputs.retain(|input| !input.is_empty());
        let mut ledger = match self.ancestors().next() {
            // Locks go from a part to the whole, so that two never wait for each other.
            Some(above) => part(above, &inputs),
            None => {
                let mut ledger = Ledger::new();
                if !inputs.is_empty() {
                    ledger.note_handed_on(&inputs);
                }
                ledger
            }
        };
        let opened = jiff::tz::Offset::UTC.to_datetime(task.opened_at).date();
        let purpose = if trusted.purpose {
            task.purpose.as_str()
        } else {
            ""
        };
        ledger.note_input(purpose, &own, Some(opened));
        ledger
    }

    /// The ledger of a part that begins now, and the state of this one that it begins with.
    fn part_now(&self, inputs: &[&str]) -> (Ledger, Mark) {
        self.with_ledger(|ledger| (ledger.for_subtask(inputs), ledger.mark()))
    }

    /// The ledger of a part that began when this one was in a state. What this one learnt since then is no
    /// part of it.
    fn part_at(&self, keeping: &Keeping, mark: Mark, inputs: &[&str]) -> Ledger {
        let (part, lacks_some) = self.with_ledger(|ledger| {
            let is_that = ledger.mark() == mark;
            let part = is_that.then(|| ledger.for_subtask(inputs));
            (part, ledger.lacks_some())
        });
        part.unwrap_or_else(|| {
            let (kept, _) = self.read_kept(keeping);
            let kept = kept.until(mark);
            let mut then = self.began(keeping, &kept);
            then.recall(kept, mark.call);
            if lacks_some {
                then.miss_some();
            }
            then.for_subtask(inputs)
        })
    }

    /// The ledger as it began, by what was kept of it.
    fn began(&self, keeping: &Keeping, kept: &Recalled) -> Ledger {
        let mark = kept.begins().unwrap_or_default();
        self.opened_with(|above, inputs| above.part_at(keeping, mark, inputs))
    }

    /// The ledger as it was when the last process ended, as far as it was kept.
    fn recalled(&self, keeping: &Keeping, before: Before) -> Ledger {
        let is_part = self.ancestors().next().is_some();
        let (kept, damage) = self.read_kept(keeping);
        if is_part && kept.begins().is_none() && !before.has_acted {
            // It has not begun yet.
            let mut mark = Mark::default();
            let ledger = self.opened_with(|above, inputs| {
                let (ledger, now) = above.part_now(inputs);
                mark = now;
                ledger
            });
            let begins = Ledger::begins_with(mark);
            keeping.journals.append(self.task().id, begins);
            return ledger;
        }
        let mut ledger = self.began(keeping, &kept);
        let results = kept.results();
        let lacks_beginning = is_part && kept.begins().is_none();
        ledger.recall(kept, before.noted);
        // What acted before its ledger was kept, or counted, has read what nobody knows of.
        let uncounted = before.has_acted && before.noted == 0;
        if damage.is_some() || before.has_unfinished || uncounted || lacks_beginning {
            ledger.miss_some();
        }
        let is_short = u32::try_from(results).unwrap_or(u32::MAX) < before.noted;
        if is_short || damage.is_some_and(|damage| damage != Damage::HalfWritten) {
            self.record_loss(keeping, results, before.noted, damage);
        }
        ledger
    }

    fn read_kept(&self, keeping: &Keeping) -> (Recalled, Option<Damage>) {
        match keeping.journals.read(self.task().id) {
            Ok(kept) => {
                let entries = kept.entries.iter().map(|entry| entry.as_slice());
                (Recalled::read(entries), kept.damage)
            }
            Err(error) => {
                tracing::error!(%error, task = %self.task().id, "what the task has read cannot be read back: it is asked about");
                (Recalled::default(), Some(Damage::HalfWritten))
            }
        }
    }

    /// Puts on record that a ledger came back with less than it had.
    fn record_loss(&self, keeping: &Keeping, found: usize, noted: u32, damage: Option<Damage>) {
        let task = self.task().id;
        let why = damage.map_or_else(
            || "the last ones are not there".to_owned(),
            |damage| damage.to_string(),
        );
        tracing::warn!(%task, found, noted, why, "what a task has read was not kept as a whole");
        let subject = task.to_string();
        let record = Record::change(Timestamp::now(), "sallyport", "ledger.incomplete", subject)
            .with("results", found)
            .with("expected", noted)
            .with("why", why);
        if let Err(error) = keeping.audit.submit(record.to_bytes()) {
            tracing::error!(%error, %task, "that its ledger is incomplete was not recorded");
        }
    }
}

#[cfg(test)]
mod tests;
