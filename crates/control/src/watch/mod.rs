//! The watch: follows the audit log, takes in what detectors see, and keeps incidents and scores.
//!
//! ```text
//!  audit log ──tap──▶ follower ──behaviour──▶ findings ─┐
//!                                                       ├─▶ desk ─▶ incidents ─▶ records, broadcast, store
//!  inspection (step 7) ──bounded queue──▶ findings ─────┘      └──▶ scores ─▶ decisions
//! ```
//!
//! Nothing on an action's path waits for it: the log's writer pours records into a bounded queue after it
//! has told whoever waits, and what finds no room there is read from the disk later. A decision reads two
//! numbers ([`gateway::live::LiveTask::risk`]) and nothing else of all this.
//!
//! The follower has a thread of its own. What it knows is kept in the store: findings and incidents at once,
//! baselines every half minute. After a restart it goes on from there, without telling twice.

mod desk;
mod flood;
mod follower;
mod meters;
mod records;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use gateway::live::Live;
use gateway::pipeline::Pipeline;
use jiff::{SignedDuration, Timestamp};
use model::config::Monitor;
use model::record::Record;
use model::{AgentName, TaskId};
use monitor::incidents::{Floor, Incident, IncidentChange, Incidents, Known, What};
use parking_lot::Mutex;
use store::{FindingFilter, IncidentFilter, KNOWN, Store, StoreError, WatchPosition};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::api;
use desk::{Desk, News};
use meters::Meters;

pub(crate) use desk::Seen;

/// Changes of incidents that a subscriber may be behind; beyond it, it is told that it missed some.
const CHANGES: usize = 1_024;
/// How long what changed waits for company before it is kept.
const LINGER: Duration = Duration::from_millis(20);
/// How long keeping is not tried again after it failed.
const RETRY: Duration = Duration::from_secs(1);
/// Most incidents that are taken into memory at the start.
const RESTORED: u32 = 1_000;

/// The watch of one process.
pub struct Watch {
    live: Arc<Live>,
    pipeline: Arc<Pipeline>,
    store: Store,
    log_dir: PathBuf,
    settings: ArcSwap<Monitor>,
    desk: Mutex<Desk>,
    /// One who keeps at a time, so that what is older never replaces what is newer.
    keeping: tokio::sync::Mutex<()>,
    changed: Notify,
    changes: broadcast::Sender<IncidentChange>,
    /// Grows with each finding and each change of an incident.
    news: watch::Sender<u64>,
    caught_up: watch::Sender<bool>,
    /// The index of the next record to follow.
    position: AtomicU64,
    /// Who else is told of changes of the control plane.
    on_change: OnceLock<OnChange>,
    /// Where the follower goes on from, and what is known of behaviour, until it takes it.
    restored: Mutex<Option<Restored>>,
    /// Those whose scores are published and not 0.
    scored: Mutex<Scored>,
    meters: Meters,
}

/// Is told of a change of the control plane, with the index of its record.
pub(crate) type OnChange = Box<dyn Fn(u64, &Record) + Send + Sync>;

struct Restored {
    position: Option<WatchPosition>,
    parts: Vec<(String, String)>,
}

#[derive(Default)]
struct Scored {
    agents: BTreeSet<AgentName>,
    tasks: BTreeSet<TaskId>,
}

impl Watch {
    /// Goes on from what was kept. Nothing is followed until [`Watch::start`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn open(
        pipeline: Arc<Pipeline>,
        store: Store,
        log_dir: PathBuf,
        settings: Monitor,
    ) -> Result<Arc<Self>, StoreError> {
        let kept = store.watched().await?;
        let (last, incident, revision) = store.highest_findings().await?;
        let filter = IncidentFilter {
            status: Some("open".to_owned()),
            limit: RESTORED,
            ..IncidentFilter::default()
        };
        let mut open: Vec<Incident> = Vec::new();
        for body in store.incidents(&filter).await? {
            match serde_json::from_str(&body) {
                Ok(incident) => open.push(incident),
                Err(error) => tracing::error!(%error, "an incident in the store cannot be read"),
            }
        }
        let (known, parts): (Vec<_>, Vec<_>) =
            kept.parts.into_iter().partition(|(name, _)| name == KNOWN);
        let known = known.first().map_or(Ok(Known::default()), |(_, text)| {
            serde_json::from_str::<Known>(text)
        });
        let known = known.unwrap_or_else(|error| {
            tracing::error!(%error, "suppressions and scores in the store cannot be read; they begin anew");
            Known::default()
        });
        let mut incidents = Incidents::restored(incident, revision, known, open);
        incidents.set_scoring(settings.risk.clone());
        let meters = Meters::registered(pipeline.metrics());
        let restored = Restored {
            position: kept.position,
            parts,
        };
        Ok(Arc::new(Self {
            live: Arc::clone(pipeline.live()),
            pipeline,
            store,
            log_dir,
            settings: ArcSwap::from_pointee(settings),
            desk: Mutex::new(Desk::new(incidents, last)),
            keeping: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
            changes: broadcast::Sender::new(CHANGES),
            news: watch::Sender::new(0),
            caught_up: watch::Sender::new(false),
            position: AtomicU64::new(0),
            on_change: OnceLock::new(),
            restored: Mutex::new(Some(restored)),
            scored: Mutex::default(),
            meters,
        }))
    }

    /// Begins to follow the log, until `stop` is cancelled; then what is known is kept, and the handle
    /// ends. Call it once.
    pub fn start(self: &Arc<Self>, stop: CancellationToken) -> tokio::task::JoinHandle<()> {
        let (following, keeping) = (Arc::clone(self), Arc::clone(self));
        let (ended, end) = tokio::sync::oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        let stop_keeping = stop.clone();
        let thread = std::thread::Builder::new().name("sallyport-watch".to_owned());
        let begun = thread.spawn(move || {
            runtime.block_on(follower::run(following, stop));
            let _ = ended.send(());
        });
        if let Err(error) = begun {
            tracing::error!(%error, "the log is not followed, since no thread can be made for it");
        }
        tokio::spawn(async move {
            keeping.keep(stop_keeping).await;
            // The follower ends with keeping what it knows, or was never there.
            let _ = end.await;
        })
    }

    /// Follows what happens to incidents. A subscriber that is behind by more than 1,024 changes is told
    /// that it missed some; [`Watch::incident`] has how things are.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<IncidentChange> {
        self.changes.subscribe()
    }

    /// Tells one more of each change of the control plane that is followed from now on, in the order of
    /// the log. It must not wait for anything. Only the first who asks is told.
    pub(crate) fn on_change(&self, listener: OnChange) {
        if self.on_change.set(listener).is_err() {
            tracing::error!("somebody is told of changes already");
        }
    }

    /// The records before this index were followed.
    pub(crate) fn followed(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// The folder of the audit log.
    pub(crate) fn log_dir(&self) -> &Path {
        &self.log_dir
    }

    /// The scores of all agents that have one.
    pub(crate) fn agent_scores(&self, now: Timestamp) -> Vec<(AgentName, u8)> {
        self.desk.lock().incidents.agent_scores(now)
    }

    /// Takes another configuration into use.
    pub fn configure(&self, settings: Monitor) {
        let scoring = settings.risk.clone();
        self.desk.lock().incidents.set_scoring(scoring);
        self.settings.store(Arc::new(settings));
        self.publish_scores(Timestamp::now());
    }

    /// Waits until everything that was in the log at the start has been followed, at most for a time;
    /// whether it has.
    pub async fn caught_up(&self, most: Duration) -> bool {
        let mut caught_up = self.caught_up.subscribe();
        let waited = tokio::time::timeout(most, caught_up.wait_for(|yes| *yes)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// How many records of the log were not followed yet.
    #[must_use]
    pub fn lag(&self) -> u64 {
        let size = self.live.audit().size();
        size.saturating_sub(self.position.load(Ordering::Relaxed))
    }

    /// How many incidents nobody has dealt with, of those in memory.
    #[must_use]
    pub fn open_incidents(&self) -> usize {
        let desk = self.desk.lock();
        let open = desk.incidents.iter();
        open.filter(|incident| incident.status == api::IncidentStatus::Open)
            .count()
    }

    /// Measures what is measured only when somebody asks.
    pub(crate) fn measure(&self) {
        self.meters.lag.set(self.lag());
        self.meters
            .lost
            .set(self.pipeline.inspection().sink().lost());
        self.meters
            .open
            .set(u64::try_from(self.open_incidents()).unwrap_or(u64::MAX));
    }

    /// Takes in findings: numbers them, records them, finds their incidents, and lets them count for the
    /// very next decision. With them all findings about records before `told` have arrived.
    pub(crate) fn take(&self, findings: impl IntoIterator<Item = Seen>, told: Option<u64>) {
        let mut desk = self.desk.lock();
        for seen in findings {
            self.take_one(&mut desk, seen);
        }
        if let Some(index) = told {
            desk.told(index);
        }
        drop(desk);
        self.tell();
    }

    fn take_one(&self, desk: &mut Desk, mut seen: Seen) {
        if let Some(evidence) = &mut seen.finding.evidence {
            evidence.quote = self.pipeline.shown(&evidence.quote);
        }
        let rule = seen.finding.rule.clone();
        let severity = seen.finding.severity;
        let News {
            records,
            changes,
            suppressed,
            unrecorded,
            agent,
            task,
        } = desk.take(seen, Timestamp::now());
        // Under the lock, so that records and scores are in the order of the findings.
        for record in &records {
            self.submit(desk, record);
        }
        if let Some((task, score)) = task {
            self.scored.lock().tasks.insert(task);
            self.live.set_task_risk(&task, score);
        }
        if let Some((agent, score)) = agent {
            self.live.set_agent_risk(&agent, score);
            self.scored.lock().agents.insert(agent);
        }
        for change in changes {
            if change.what == What::Opened {
                self.meters.incidents.inc();
            }
            // Nobody needs to listen.
            let _ = self.changes.send(change);
        }
        if suppressed {
            self.meters.suppressed.inc();
        } else {
            self.meters.finding(&rule, severity);
        }
        if unrecorded {
            self.meters.unrecorded.inc();
        }
    }

    /// Something has changed that is to be kept and told.
    fn tell(&self) {
        self.changed.notify_one();
        self.news
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    fn submit(&self, desk: &mut Desk, record: &Record) {
        let bytes = Bytes::from(record.to_bytes());
        if let Err(error) = self.live.audit().submit(bytes.clone()) {
            tracing::error!(%error, "a finding is not recorded yet");
            desk.owe(bytes);
        }
    }

    /// Tries once more to write records that the log did not take.
    fn write_owed(&self) {
        let mut desk = self.desk.lock();
        while let Some(record) = desk.unwritten.front() {
            if self.live.audit().submit(record.clone()).is_err() {
                return;
            }
            desk.unwritten.pop_front();
        }
    }

    /// Keeps what changed, whenever something did, until `stop` is cancelled.
    async fn keep(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
            }
            tokio::time::sleep(LINGER).await;
            if let Err(error) = self.save().await {
                tracing::error!(%error, "findings were not kept; it is tried again");
                tokio::time::sleep(RETRY).await;
                self.changed.notify_one();
            }
        }
    }

    /// Keeps what changed.
    ///
    /// # Errors
    /// When the store cannot be written; then it is kept later.
    pub(crate) async fn save(&self) -> Result<(), StoreError> {
        let _alone = self.keeping.lock().await;
        let batch = self.desk.lock().batch();
        if batch.is_empty() {
            return Ok(());
        }
        let kept = self.store.keep_watch(&batch).await;
        if kept.is_err() {
            self.desk.lock().put_back(batch);
        }
        kept
    }

    /// Publishes the scores of all agents and tasks as they are now.
    pub(crate) fn publish_scores(&self, now: Timestamp) {
        let mut desk = self.desk.lock();
        let agents = desk.incidents.agent_scores(now);
        let tasks = desk.incidents.task_scores();
        let mut scored = self.scored.lock();
        let fresh = Scored {
            agents: agents.iter().map(|(agent, _)| agent.clone()).collect(),
            tasks: tasks.iter().map(|(task, _)| *task).collect(),
        };
        let before = std::mem::replace(&mut *scored, fresh);
        for (agent, score) in &agents {
            self.live.set_agent_risk(agent, *score);
        }
        for (task, score) in &tasks {
            self.live.set_task_risk(task, *score);
        }
        for agent in before.agents.difference(&scored.agents) {
            self.live.set_agent_risk(agent, 0);
        }
        for task in before.tasks.difference(&scored.tasks) {
            self.live.set_task_risk(task, 0);
        }
    }

    /// A task is over.
    fn forget_task(&self, task: &TaskId) {
        if self.scored.lock().tasks.remove(task) {
            let mut desk = self.desk.lock();
            desk.incidents.forget_task(task);
            desk.touch();
        }
    }

    /// Findings, the latest first, or those after one as soon as there are some.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn findings(
        &self,
        filter: &FindingFilter,
        wait: Duration,
    ) -> Result<Vec<api::Finding>, StoreError> {
        let mut waiting = self.waiting(filter.after.is_some(), wait);
        loop {
            // So that what was just told is there.
            self.save().await?;
            let found = read(self.store.findings(filter).await?, "finding");
            if !found.is_empty() || !waiting.for_more().await {
                return Ok(found);
            }
        }
    }

    /// Incidents, the latest first, or those that changed after a revision as soon as there are some.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn incidents(
        &self,
        filter: &IncidentFilter,
        wait: Duration,
    ) -> Result<Vec<Incident>, StoreError> {
        let mut waiting = self.waiting(filter.after.is_some(), wait);
        loop {
            self.save().await?;
            let found = read(self.store.incidents(filter).await?, "incident");
            if !found.is_empty() || !waiting.for_more().await {
                return Ok(found);
            }
        }
    }

    fn waiting(&self, may_wait: bool, most: Duration) -> Waiting {
        let most = if may_wait { most } else { Duration::ZERO };
        Waiting {
            until: tokio::time::Instant::now() + most,
            news: self.news.subscribe(),
        }
    }

    /// One finding.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn finding(&self, id: u64) -> Result<Option<api::Finding>, StoreError> {
        self.save().await?;
        let body = self.store.finding(id).await?;
        Ok(body.and_then(|body| read_one(&body, "finding")))
    }

    /// One incident, as it is now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn incident(&self, id: u64) -> Result<Option<Incident>, StoreError> {
        if let Some(incident) = self.desk.lock().incidents.get(id) {
            return Ok(Some(incident.clone()));
        }
        let body = self.store.incident(id).await?;
        Ok(body.and_then(|body| read_one(&body, "incident")))
    }

    /// Brings an incident into memory, so that it can be changed; false when there is none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn recall(&self, id: u64) -> Result<bool, StoreError> {
        let incident = self.incident(id).await?;
        let there = incident.is_some();
        if let Some(incident) = incident {
            self.desk.lock().adopt(incident);
        }
        Ok(there)
    }

    /// Changes an incident that is in memory; what it is after that. The change was recorded before.
    pub(crate) fn change_incident(
        &self,
        id: u64,
        what: What,
        now: Timestamp,
        change: impl FnOnce(&mut Incidents) -> bool,
    ) -> Option<Incident> {
        let changed = {
            let mut desk = self.desk.lock();
            if !change(&mut desk.incidents) {
                return None;
            }
            desk.touch_incident(id);
            desk.incidents.get(id).cloned()
        };
        if let Some(incident) = &changed {
            let _ = self.changes.send(IncidentChange {
                what,
                at: now,
                finding: None,
                incident: Arc::new(incident.clone()),
            });
        }
        self.publish_scores(now);
        self.tell();
        changed
    }

    /// The record of a change of an incident by a person.
    pub(crate) fn record_of_change(
        &self,
        id: u64,
        what: What,
        now: Timestamp,
        by: &str,
        note: &str,
    ) -> Option<Record> {
        let desk = self.desk.lock();
        let incident = desk.incidents.get(id)?;
        Some(records::incident_changed(
            now,
            what,
            incident,
            Some(by),
            Some(note),
        ))
    }

    /// Changes what is known besides incidents: suppressions, false alarms, scores.
    pub(crate) fn change<T>(&self, now: Timestamp, change: impl FnOnce(&mut Incidents) -> T) -> T {
        let done = {
            let mut desk = self.desk.lock();
            desk.touch();
            change(&mut desk.incidents)
        };
        self.publish_scores(now);
        self.tell();
        done
    }

    /// Looks at incidents, suppressions and scores.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Incidents) -> T) -> T {
        look(&self.desk.lock().incidents)
    }

    /// Replaces a finding by what it is with feedback.
    pub(crate) fn put_finding(&self, finding: api::Finding) {
        self.desk.lock().put_finding(finding);
        self.tell();
    }

    /// How bad an agent looks.
    #[must_use]
    pub fn risk(&self, agent: &AgentName, now: Timestamp) -> api::Risk {
        let desk = self.desk.lock();
        let mut tasks: Vec<api::TaskScore> = desk
            .incidents
            .tasks_of(agent)
            .map(|(task, score)| api::TaskScore { task, score })
            .filter(|score| self.live.task(&score.task).is_some())
            .collect();
        tasks.sort_by_key(|score| (std::cmp::Reverse(score.score), score.task));
        let floor: Option<&Floor> = desk.incidents.floor(agent, now);
        api::Risk {
            agent: agent.clone(),
            score: desk.incidents.agent_score(agent, now),
            floor: floor.cloned(),
            tasks,
        }
    }

    /// Throws away what is old.
    pub(crate) async fn prune(&self, now: Timestamp) -> Result<(), StoreError> {
        let days = i64::from(self.settings.load().keep_days.max(1));
        let keep = SignedDuration::from_hours(24 * days);
        self.store.prune_findings(now, keep).await
    }
}

/// Waits for something new to tell. Begun before the first look, so that nothing is missed in between.
struct Waiting {
    until: tokio::time::Instant,
    news: watch::Receiver<u64>,
}

impl Waiting {
    /// Whether there is something new, before the time is over.
    async fn for_more(&mut self) -> bool {
        let more = tokio::time::timeout_at(self.until, self.news.changed()).await;
        matches!(more, Ok(Ok(())))
    }
}

fn read<T: serde::de::DeserializeOwned>(bodies: Vec<String>, what: &str) -> Vec<T> {
    bodies
        .iter()
        .filter_map(|body| read_one(body, what))
        .collect()
}

fn read_one<T: serde::de::DeserializeOwned>(body: &str, what: &str) -> Option<T> {
    serde_json::from_str(body)
        .inspect_err(|error| tracing::error!(%error, "a {what} in the store cannot be read"))
        .ok()
}
