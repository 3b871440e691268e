//! Records of requests that did not become actions. Anyone can send those, so the number of records is
//! bounded, and the number of requests that they tell of is not: what comes too fast to be recorded singly is
//! counted by what it was, and each second's counts are records of their own. Nothing is left out, so whoever
//! follows the log can count.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::record::{Event, Record, Refusal};
use model::{AgentName, DecisionId, Denial, Rule, TaskId};
use parking_lot::Mutex;

use crate::live::Live;
use crate::pipeline::random;
use crate::redaction::shorten;

/// Most refusals that are recorded singly in one second.
const PER_SECOND: u32 = 50;
/// Most kinds of refusals that are told apart in one second beyond that, of callers who are known and of
/// others each. What is beyond is told apart by the rule alone.
const KINDS: usize = 64;
/// How long counts wait at most before they are records.
const EACH: Duration = Duration::from_secs(1);
/// Longest endpoint in a record, in characters.
const ENDPOINT_CHARACTERS: usize = 200;
/// Longest reason and remedy in a record, in characters.
const REASON_CHARACTERS: usize = 1_024;
/// What stands for the endpoint where there are several.
pub const SEVERAL: &str = "*";

/// Who was refused, as far as it was established.
#[derive(Debug, Clone, Default)]
pub struct Whom<'a> {
    /// Such as an instance's id.
    pub caller: Option<Cow<'a, str>>,
    /// The agent.
    pub agent: Option<&'a AgentName>,
    /// The task.
    pub task: Option<TaskId>,
}

/// Writes bounded records of refusals.
pub struct Refusals(Arc<Inner>);

struct Inner {
    live: Arc<Live>,
    window: Mutex<Window>,
    /// Kinds are told apart by hashes that nobody outside can aim at.
    hasher: RandomState,
}

#[derive(Default)]
struct Window {
    second: i64,
    /// How many were recorded singly in it.
    written: u32,
    /// What was counted: of those whose agent is known, and of others.
    counts: [HashMap<u64, Counted>; 2],
    /// Whether somebody will come for the counts.
    awaited: bool,
}

/// Refusals of one kind: the first of them, with how many there are, and when the last one was.
struct Counted {
    refusal: Refusal,
    first: Timestamp,
    last: Timestamp,
}

impl Refusals {
    /// Writes into the log of this `Live`.
    #[must_use]
    pub fn new(live: Arc<Live>) -> Self {
        Self(Arc::new(Inner {
            live,
            window: Mutex::default(),
            hasher: RandomState::new(),
        }))
    }

    /// Records a refusal, singly or in a count.
    pub fn note(&self, now: Timestamp, endpoint: &str, caller: Option<String>, denial: Denial) {
        let whom = Whom {
            caller: caller.map(Cow::Owned),
            ..Whom::default()
        };
        self.note_of(now, endpoint, &whom, denial);
    }

    /// The same, of somebody who is known better.
    pub fn note_of(&self, now: Timestamp, endpoint: &str, whom: &Whom<'_>, denial: Denial) {
        self.put(now, endpoint, whom, denial, false);
    }

    /// The same; gives back what the refused can be told that names the record. Those that are in one count
    /// are told the same.
    pub fn note_named(
        &self,
        now: Timestamp,
        endpoint: &str,
        whom: &Whom<'_>,
        denial: Denial,
    ) -> DecisionId {
        self.put(now, endpoint, whom, denial, true)
            .unwrap_or_else(|| DecisionId::new(now, random()))
    }

    /// Writes what was counted until now. Called at the end; otherwise it happens by itself.
    pub fn flush(&self) {
        self.0.flush();
    }

    fn put(
        &self,
        now: Timestamp,
        endpoint: &str,
        whom: &Whom<'_>,
        denial: Denial,
        named: bool,
    ) -> Option<DecisionId> {
        let inner = &self.0;
        let made = || named.then(|| DecisionId::new(now, random()));
        let mut window = inner.window.lock();
        let before = window.turn(now.as_second());
        let singly = window.written < PER_SECOND;
        let id = if singly {
            window.written += 1;
            made()
        } else {
            let key = inner.key(
                (
                    endpoint,
                    whom.caller.as_deref(),
                    whom.task,
                    denial.reason.as_str(),
                ),
                denial.rule,
                whom.agent,
            );
            let single = || refusal(endpoint, whom, &denial, made());
            let id = window.count(&key, (now, now), 1, single);
            inner.await_counts(&mut window);
            id
        };
        drop(window);
        let mut due = before;
        if singly {
            due.push((now, refusal(endpoint, whom, &denial, id)));
        }
        inner.write(due);
        id
    }
}

/// What a refusal is counted by.
struct Key {
    /// By all that is told apart.
    kind: u64,
    /// By its rule and agent.
    rough: u64,
    /// Whether its agent is known.
    known: bool,
}

fn refusal(
    endpoint: &str,
    whom: &Whom<'_>,
    denial: &Denial,
    decision: Option<DecisionId>,
) -> Refusal {
    let denial = Denial {
        rule: denial.rule,
        reason: shorten(&denial.reason, REASON_CHARACTERS),
        remedy: shorten(&denial.remedy, REASON_CHARACTERS),
    };
    Refusal {
        caller: whom.caller.as_deref().map(str::to_owned),
        agent: whom.agent.cloned(),
        task: whom.task,
        decision,
        ..Refusal::new(shorten(endpoint, ENDPOINT_CHARACTERS), denial)
    }
}

impl Inner {
    fn key(
        &self,
        (endpoint, caller, task, reason): (&str, Option<&str>, Option<TaskId>, &str),
        rule: Rule,
        agent: Option<&AgentName>,
    ) -> Key {
        Key {
            kind: self
                .hasher
                .hash_one((endpoint, caller, task, reason, rule, agent)),
            rough: self.hasher.hash_one((rule, agent)),
            known: agent.is_some(),
        }
    }

    fn flush(self: &Arc<Self>) {
        let due = {
            let mut window = self.window.lock();
            window.awaited = false;
            window.take()
        };
        self.write(due);
    }

    /// Writes records. What the log does not take now stays counted.
    fn write(self: &Arc<Self>, refusals: Vec<(Timestamp, Refusal)>) {
        for (last, refusal) in refusals {
            let first = refusal.since.unwrap_or(last);
            let record = Record::new(last, Event::Refusal(Box::new(refusal)));
            let Err(error) = self.live.submit(record.clone()) else {
                continue;
            };
            tracing::warn!(%error, "a refusal is not recorded yet");
            let Event::Refusal(refusal) = record.event else {
                continue;
            };
            let key = self.key(
                (
                    refusal.endpoint.as_str(),
                    refusal.caller.as_deref(),
                    refusal.task,
                    refusal.denial.reason.as_str(),
                ),
                refusal.denial.rule,
                refusal.agent.as_ref(),
            );
            let times = refusal.times;
            let mut window = self.window.lock();
            window.count(&key, (first, last), times, || *refusal);
            self.await_counts(&mut window);
        }
    }

    /// Sees to it that somebody comes for the counts. Where there is no runtime, the next refusal does, or
    /// the end.
    fn await_counts(self: &Arc<Self>, window: &mut Window) {
        if window.awaited {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            window.awaited = true;
            let inner = Arc::clone(self);
            runtime.spawn(async move {
                tokio::time::sleep(EACH).await;
                inner.flush();
            });
        }
    }
}

impl Window {
    /// Begins a new second, if it is one; gives back what was counted in those before.
    fn turn(&mut self, second: i64) -> Vec<(Timestamp, Refusal)> {
        if self.second == second {
            return Vec::new();
        }
        self.second = second;
        self.written = 0;
        self.take()
    }

    /// All that was counted, each with when the last of its kind was.
    fn take(&mut self) -> Vec<(Timestamp, Refusal)> {
        let counts = self.counts.iter_mut().flat_map(HashMap::drain);
        let counts = counts.map(|(_, counted)| {
            let mut refusal = counted.refusal;
            refusal.since = (refusal.times > 1).then_some(counted.first);
            (counted.last, refusal)
        });
        counts.collect()
    }

    /// Counts so many refusals of a kind; says what names their record, if they have a name.
    fn count(
        &mut self,
        key: &Key,
        (first, last): (Timestamp, Timestamp),
        times: u64,
        single: impl FnOnce() -> Refusal,
    ) -> Option<DecisionId> {
        let counts = &mut self.counts[usize::from(key.known)];
        let is_told_apart = counts.contains_key(&key.kind) || counts.len() < KINDS;
        let number = if is_told_apart { key.kind } else { key.rough };
        let counted = match counts.entry(number) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let mut refusal = single();
                refusal.times = 0;
                if !is_told_apart {
                    SEVERAL.clone_into(&mut refusal.endpoint);
                    "of several kinds".clone_into(&mut refusal.denial.reason);
                    refusal.caller = None;
                    refusal.task = None;
                }
                entry.insert(Counted {
                    refusal,
                    first,
                    last,
                })
            }
        };
        counted.refusal.times = counted.refusal.times.saturating_add(times);
        counted.first = counted.first.min(first);
        counted.last = counted.last.max(last);
        counted.refusal.decision
    }
}

#[cfg(test)]
mod tests;
