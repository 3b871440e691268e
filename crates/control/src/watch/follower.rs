//! Follows the records of the audit log, in their order, and feeds the detectors of behaviour.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use audit::{Tap, Tapped};
use gateway::inspection::{Observed, What as Looked};
use jiff::Timestamp;
use model::config::Monitor;
use model::record::{Event, Found, Record};
use model::{DecisionId, TaskId};
use monitor::behaviour::{Behaviour, Part, Settings};
use monitor::incidents::Origin;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::desk::Seen;
use super::{Watch, records};

/// Records that may wait for the follower in memory, and their bytes. What is beyond is read from the disk.
const ROOM: usize = 16_384;
const ROOM_BYTES: usize = 32 << 20;
/// Records that are followed before something else gets its turn.
const AT_ONCE: usize = 256;
/// Findings of inspection that are taken before something else gets its turn.
const FINDINGS_AT_ONCE: usize = 64;
/// How often there is a look at what is due.
const TICK: Duration = Duration::from_millis(250);
/// How often scores are published as they fade.
const FADE: Duration = Duration::from_secs(1);
/// How often what is known is kept. After a crash so much of the log is followed again.
const KEEP: Duration = Duration::from_secs(30);
/// Parts that are put to be kept at once, so that nothing waits for long.
const PARTS: usize = 64;
/// How often what is old is thrown away.
const PRUNE: Duration = Duration::from_secs(3_600);
/// The newest records of a log that is followed for the first time: what agents usually do is learnt from
/// them, and nothing is told about them.
const FIRST: u64 = 1_000_000;
/// What tells findings of one log apart: the record that they are about, the rule and the task.
type Told = (u64, String, Option<TaskId>);

/// Follows until `stop` is cancelled.
pub(super) async fn run(watch: Arc<Watch>, stop: CancellationToken) {
    let tap = watch.live.audit().tap(ROOM, ROOM_BYTES);
    let mut inbox = watch.pipeline.inspection().sink().take();
    if inbox.is_none() {
        tracing::error!("findings of inspection go elsewhere: they are not watched here");
    }
    let mut follower = Follower::new(watch);
    follower.catch_up();
    follower.watch.caught_up.send_replace(true);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut observed = Vec::with_capacity(FINDINGS_AT_ONCE);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            count = next_findings(&mut inbox, &mut observed) => {
                if count == 0 {
                    inbox = None;
                }
                follower.watch.take(observed.drain(..).map(seen), None);
            }
            records = tap.next(AT_ONCE) => match records {
                Some(records) => follower.follow_all(records),
                None => break,
            },
            _ = tick.tick() => follower.tick(&tap).await,
        }
    }
    if let Some(mut inbox) = inbox {
        let rest = std::iter::from_fn(|| inbox.try_recv().ok());
        follower.watch.take(rest.map(seen), None);
    }
    while tap.waiting() > 0
        && let Some(records) = tap.next(AT_ONCE).await
    {
        follower.follow_all(records);
    }
    follower.keep_everything().await;
}

/// The next findings of inspection; never, when there is no queue of them.
async fn next_findings(inbox: &mut Option<Receiver<Observed>>, into: &mut Vec<Observed>) -> usize {
    match inbox {
        Some(inbox) => inbox.recv_many(into, FINDINGS_AT_ONCE).await,
        None => std::future::pending().await,
    }
}

/// A finding of inspection. What an agent asks for is its own doing; all else it was given, also what it
/// passes on to a model, since that is mostly what others wrote.
fn seen(observed: Observed) -> Seen {
    let Observed {
        at,
        what,
        decision,
        response,
        finding,
    } = observed;
    Seen {
        origin: match what {
            Looked::Arguments => Origin::Done,
            _ => Origin::Received,
        },
        finding,
        at,
        seen_in: what.as_str(),
        response: Some(response),
        decision,
        about: None,
        recorded: None,
    }
}

struct Follower {
    watch: Arc<Watch>,
    behaviour: Behaviour,
    settings: Arc<Monitor>,
    /// The index of the next record.
    position: u64,
    /// Findings about records before this index were told before.
    told_below: u64,
    /// Findings that were told by a process that could not keep them any more.
    told: HashSet<Told>,
    /// What is still to be put to be kept, and where the follower was when that began.
    to_keep: Option<(Vec<Part>, u64)>,
    evicted: [u64; 3],
    faded: Instant,
    kept: Instant,
    pruned: Option<Instant>,
}

impl Follower {
    fn new(watch: Arc<Watch>) -> Self {
        let settings = watch.settings.load_full();
        let restored = watch.restored.lock().take();
        let size = watch.live.audit().size();
        let (position, parts) = match restored {
            Some(restored) => (restored.position, restored.parts),
            None => (None, Vec::new()),
        };
        let (behaviour, wrong) = Behaviour::restored(Settings::of(&settings), parts);
        for error in wrong {
            tracing::error!(%error, "a baseline was not restored");
        }
        let (position, told_below) = match position {
            Some(kept) => (kept.observed.min(size), kept.told.max(kept.observed)),
            None => (size.saturating_sub(FIRST), size),
        };
        {
            let mut desk = watch.desk.lock();
            desk.observed(position);
            desk.told(told_below);
        }
        let now = Instant::now();
        Self {
            evicted: behaviour.evicted(),
            watch,
            behaviour,
            settings,
            position,
            told_below,
            told: HashSet::new(),
            to_keep: None,
            faded: now,
            kept: now,
            pruned: None,
        }
    }

    /// Follows what is in the log already.
    fn catch_up(&mut self) {
        let size = self.watch.live.audit().size();
        if self.position >= size {
            return;
        }
        let from = self.position;
        tracing::debug!(from, to = size, "following what was recorded before");
        let last = self.watch.desk.lock().last;
        // What was recorded but not kept any more: it is known, and not told again.
        self.read(from, size, |follower, _, record| {
            if let Event::Finding(found) = &record.event
                && found.finding > last
            {
                follower.import(record.time, found);
            }
        });
        self.read(from, size, |follower, index, record| {
            follower.observe(index, record);
        });
        self.watch.publish_scores(Timestamp::now());
    }

    fn import(&mut self, at: Timestamp, found: &Found) {
        if let Some(about) = found.about {
            self.told.insert((about, found.rule.clone(), found.task));
        }
        let (finding, origin) = records::finding(found);
        let seen = Seen {
            finding,
            origin,
            at,
            seen_in: if found.about.is_some() { BEHAVIOUR } else { "" },
            response: None,
            decision: found.decision,
            about: found.about,
            recorded: Some(found.finding),
        };
        self.watch.take([seen], None);
    }

    /// Reads records from the disk. What cannot be read is left out, and said.
    fn read(&mut self, from: u64, to: u64, mut act: impl FnMut(&mut Self, u64, &Record)) {
        let reader = match audit::Reader::open(&self.watch.log_dir) {
            Ok(reader) => reader,
            Err(error) => {
                tracing::error!(%error, from, to, "records were not followed");
                return;
            }
        };
        for entry in reader.entries(from..to) {
            match entry {
                Ok((index, bytes)) => match serde_json::from_slice::<Record>(&bytes) {
                    Ok(record) => act(self, index, &record),
                    Err(error) => self.unreadable(index, &error),
                },
                Err(error) => {
                    tracing::error!(%error, from, to, "records were not followed");
                    return;
                }
            }
        }
    }

    fn unreadable(&self, index: u64, error: &serde_json::Error) {
        tracing::error!(%error, index, "a record was not followed");
        self.watch.meters.unreadable.inc();
    }

    /// Follows records as they come. Those that found no room before them are read from the disk.
    fn follow_all(&mut self, records: Vec<Tapped>) {
        for Tapped {
            index,
            bytes,
            companion,
        } in records
        {
            if index < self.position {
                continue;
            }
            if index > self.position {
                let from = self.position;
                self.read(from, index, |follower, index, record| {
                    follower.observe(index, record);
                });
            }
            match companion.as_ref().and_then(|of| of.downcast_ref()) {
                Some(record) => self.observe(index, record),
                None => match serde_json::from_slice::<Record>(&bytes) {
                    Ok(record) => self.observe(index, &record),
                    Err(error) => self.unreadable(index, &error),
                },
            }
            self.at(index + 1);
        }
    }

    fn at(&mut self, position: u64) {
        self.position = position;
        self.watch.position.store(position, Ordering::Release);
    }

    fn observe(&mut self, index: u64, record: &Record) {
        let findings = self.behaviour.observe(record);
        self.watch.meters.followed.inc();
        if let (Event::Change(_), Some(tell)) = (&record.event, self.watch.on_change.get()) {
            tell(index, record);
        }
        if let Event::Change(change) = &record.event
            && matches!(
                change.change.as_str(),
                "task.completed" | "task.expired" | "task.revoked"
            )
            && let Ok(task) = TaskId::parse(&change.subject)
        {
            self.watch.forget_task(&task);
        }
        self.at(index + 1);
        if findings.is_empty() || index < self.told_below {
            return;
        }
        let decision = decision(record);
        let told = &mut self.told;
        let new = findings.into_iter().filter(|finding| {
            let key = (index, finding.rule.clone(), finding.subject.task);
            !told.remove(&key)
        });
        let seen = new.map(|finding| Seen {
            finding,
            origin: Origin::Done,
            at: record.time,
            seen_in: BEHAVIOUR,
            response: None,
            decision,
            about: Some(index),
            recorded: None,
        });
        self.watch.take(seen, Some(index + 1));
    }

    async fn tick(&mut self, tap: &Tap) {
        let settings = self.watch.settings.load_full();
        if !Arc::ptr_eq(&settings, &self.settings) {
            self.behaviour.set(Settings::of(&settings));
            self.settings = settings;
        }
        self.watch.write_owed();
        self.watch.meters.left_out.set(tap.left_out());
        let (baselines, _) = self.behaviour.baselines();
        self.watch
            .meters
            .baselines
            .set(u64::try_from(baselines).unwrap_or(u64::MAX));
        let now = Instant::now();
        if now - self.faded >= FADE {
            self.faded = now;
            self.watch.publish_scores(Timestamp::now());
        }
        if now - self.kept >= KEEP && self.to_keep.is_none() {
            self.kept = now;
            self.to_keep = Some((self.behaviour.changed(), self.position));
        }
        self.put_parts(PARTS);
        if self.pruned.is_none_or(|last| now - last >= PRUNE) {
            self.pruned = Some(now);
            self.prune().await;
        }
    }

    /// Puts parts to be kept: at most so many, and only while few others wait for it. What changes while
    /// they are put is kept with them, so that after a crash a little may be counted twice.
    fn put_parts(&mut self, most: usize) {
        let Some((parts, position)) = &mut self.to_keep else {
            return;
        };
        let mut desk = self.watch.desk.lock();
        if desk.waiting_parts() < most {
            let count = parts.len().min(most);
            let behaviour = &self.behaviour;
            desk.put_parts(
                parts
                    .drain(..count)
                    .map(|part| (part.name(), behaviour.part(&part))),
            );
            if parts.is_empty() {
                desk.observed(*position);
                self.to_keep = None;
            }
            drop(desk);
            self.watch.changed.notify_one();
        }
    }

    async fn prune(&mut self) {
        if let Err(error) = self.watch.prune(Timestamp::now()).await {
            tracing::warn!(%error, "old findings were not thrown away");
        }
        let evicted = self.behaviour.evicted();
        if evicted == self.evicted {
            return;
        }
        self.evicted = evicted;
        let behaviour = &self.behaviour;
        match self
            .watch
            .store
            .prune_parts(|name| behaviour.has(name))
            .await
        {
            Ok(count) => tracing::debug!(count, "baselines that left for want of room are gone"),
            Err(error) => tracing::warn!(%error, "old baselines were not thrown away"),
        }
    }

    /// Keeps all that is known, at the end.
    async fn keep_everything(&mut self) {
        let mut parts = self.behaviour.changed();
        if let Some((more, _)) = self.to_keep.take() {
            parts.extend(more);
        }
        self.watch.write_owed();
        while !parts.is_empty() {
            let chunk = parts.split_off(parts.len().saturating_sub(PARTS));
            let behaviour = &self.behaviour;
            let texts = chunk.iter().map(|part| (part.name(), behaviour.part(part)));
            self.watch.desk.lock().put_parts(texts);
            if let Err(error) = self.watch.save().await {
                tracing::error!(%error, "what is known of agents' behaviour was not kept");
                return;
            }
        }
        self.watch.desk.lock().observed(self.position);
        if let Err(error) = self.watch.save().await {
            tracing::error!(%error, "what is known of agents' behaviour was not kept");
        }
    }
}

/// What findings about records were seen in.
const BEHAVIOUR: &str = "behaviour";

/// The decision that a record is about.
fn decision(record: &Record) -> Option<DecisionId> {
    match &record.event {
        Event::Intent(intent) => Some(intent.decision),
        Event::Result(result) => Some(result.decision),
        Event::Refusal(_) | Event::Change(_) | Event::Finding(_) | Event::Incident(_) => None,
    }
}
