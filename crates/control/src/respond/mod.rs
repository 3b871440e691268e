//! What is done about incidents: playbooks are begun, go on, wait for people and are recorded.
//!
//! - this file: runs, and what people say to them;
//! - `beginning`: what begins a run, and what it is about;
//! - `acts`: what each act does;
//! - `evidence`: records with their proofs, in one file;
//! - `telling`: webhooks, tickets and e-mail;
//! - `reach`: how far an agent or a task could reach.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use model::config::Response;
use model::record::Record;
use model::{AgentName, SegmentName};
use monitor::incidents::{Incident, IncidentStatus, What};
use parking_lot::Mutex;
use response::means::{self, Means, StepOf};
use response::run::{Answer, NotWaiting};
use response::{Act, Modes, Playbook, Run};
use serde::{Deserialize, Serialize};
use store::RunRow;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::engine::{Actor, Engine, EngineError};
use crate::http_api::Reloader;

mod acts;
mod beginning;
pub(crate) mod evidence;
mod reach;
mod telling;

pub use telling::{Teller, TellingError};

/// How often runs are looked at that wait for a moment.
const TICK: Duration = Duration::from_secs(1);

/// The playbooks that there are, by name.
pub type Playbooks = BTreeMap<String, Arc<Known>>;

/// A playbook that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// The playbook.
    pub playbook: Playbook,
    /// Its text.
    pub text: String,
    /// Whether it came with the program.
    pub bundled: bool,
}

/// Carries out playbooks.
pub struct Responder {
    engine: Arc<Engine>,
    current: ArcSwap<Current>,
    /// Where evidence is put.
    evidence: PathBuf,
    log_dir: PathBuf,
    reload: OnceLock<Reloader>,
    /// One at a time goes on with a run.
    going: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// When runs are to be looked at again by themselves.
    looks: Mutex<HashMap<String, Timestamp>>,
    /// One beginning at a time, so that nothing is begun twice.
    beginning: tokio::sync::Mutex<()>,
}

struct Current {
    settings: Response,
    modes: Modes,
    playbooks: Playbooks,
    teller: Teller,
}

impl Current {
    fn new(settings: Response, playbooks: Playbooks, teller: Teller) -> Self {
        let modes = Modes {
            default: settings.mode,
            by_act: settings.modes.clone(),
        };
        Self {
            settings,
            modes,
            playbooks,
            teller,
        }
    }
}

/// A run as the store has it: with the text that it began with, so that a change of the playbook does not
/// change what is under way.
#[derive(Serialize, Deserialize)]
struct Kept {
    run: Run,
    text: String,
}

impl Responder {
    /// Puts the responder together. Nothing is done before [`Self::start`].
    ///
    /// `evidence` is the folder for evidence, which is made when something is put there.
    #[must_use]
    pub fn new(
        engine: Arc<Engine>,
        settings: Response,
        playbooks: Playbooks,
        teller: Teller,
        log_dir: PathBuf,
        evidence: PathBuf,
    ) -> Arc<Self> {
        Arc::new(Self {
            engine,
            current: ArcSwap::from_pointee(Current::new(settings, playbooks, teller)),
            evidence,
            log_dir,
            reload: OnceLock::new(),
            going: Mutex::default(),
            looks: Mutex::default(),
            beginning: tokio::sync::Mutex::default(),
        })
    }

    /// Takes other settings and playbooks into use; runs that have begun go on with the text that they began
    /// with, and with the new modes.
    pub fn configure(&self, settings: Response, playbooks: Playbooks, teller: Teller) {
        let current = Current::new(settings, playbooks, teller);
        self.current.store(Arc::new(current));
    }

    /// Says how the setup is read anew, for credentials. Once: a second time nothing changes.
    pub fn reload_with(&self, reload: Reloader) {
        let _ = self.reload.set(reload);
    }

    /// The playbooks that there are.
    #[must_use]
    pub fn playbooks(&self) -> Playbooks {
        self.current.load().playbooks.clone()
    }

    /// How far the process goes by itself.
    #[must_use]
    pub fn modes(&self) -> Modes {
        self.current.load().modes.clone()
    }

    /// Follows incidents and goes on with runs until `stop` is cancelled. Runs that were under way when the
    /// process ended go on first.
    pub fn start(self: &Arc<Self>, stop: CancellationToken) -> tokio::task::JoinHandle<()> {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let mut changes = this.engine.watch().subscribe();
            this.take_up().await;
            this.look_at_all().await;
            let mut tick = tokio::time::interval(TICK);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    _ = tick.tick() => this.go_on_with_all(),
                    change = changes.recv() => match change {
                        Ok(change) => {
                            if matches!(change.what, What::Opened | What::Grown | What::Raised) {
                                this.triggered(&change.incident).await;
                            }
                        }
                        // What was missed stands in the incidents themselves.
                        Err(RecvError::Lagged(_)) => this.look_at_all().await,
                        Err(RecvError::Closed) => break,
                    },
                }
            }
        })
    }

    async fn look_at_all(self: &Arc<Self>) {
        let open: Vec<Incident> = self.engine.watch().look(|incidents| {
            let open = incidents
                .iter()
                .filter(|it| it.status == IncidentStatus::Open);
            open.cloned().collect()
        });
        for incident in &open {
            self.triggered(incident).await;
        }
    }

    /// Takes up the runs that were under way when the process ended.
    async fn take_up(&self) {
        let open = match self.engine.store().runs(None, beginning::OPEN, true).await {
            Ok(open) => open,
            Err(error) => {
                tracing::error!(%error, "runs of playbooks that were under way are not gone on with");
                return;
            }
        };
        for row in open {
            match serde_json::from_str::<Kept>(&row.body) {
                Ok(kept) => self.wait_for(&kept.run),
                Err(error) => {
                    tracing::error!(%error, run = row.id, "a run of a playbook cannot be read");
                }
            }
        }
    }

    /// Notes when a run is to be looked at again.
    fn wait_for(&self, run: &Run) {
        let now = Timestamp::now();
        let next = match run.due(now) {
            Some(_) => Some(now),
            None => run.next_look(),
        };
        let mut looks = self.looks.lock();
        match next {
            Some(next) if !run.state.is_over() => {
                looks.insert(run.id.clone(), next);
            }
            _ => {
                looks.remove(&run.id);
            }
        }
    }

    fn go_on_with_all(self: &Arc<Self>) {
        let now = Timestamp::now();
        let due: Vec<String> = {
            let looks = self.looks.lock();
            let due = looks.iter().filter(|(_, at)| **at <= now);
            due.map(|(id, _)| id.clone()).collect()
        };
        for id in due {
            if !self.is_going(&id) {
                self.spawn(id);
            }
        }
        // Of runs that nobody goes on with, nothing is kept here.
        self.going
            .lock()
            .retain(|_, lock| Arc::strong_count(lock) > 1);
    }

    fn is_going(&self, id: &str) -> bool {
        let going = self.going.lock();
        going.get(id).is_some_and(|lock| lock.try_lock().is_err())
    }

    fn spawn(self: &Arc<Self>, id: String) {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = this.go_on(&id).await {
                tracing::error!(%error, run = id, "a playbook's run does not go on");
            }
        });
    }

    /// Goes on with a run as far as it goes.
    async fn go_on(self: &Arc<Self>, id: &str) -> Result<(), EngineError> {
        let lock = self.lock_of(id);
        let _one = lock.lock().await;
        let mut kept = self.kept(id).await?;
        self.go(&mut kept).await
    }

    async fn go(self: &Arc<Self>, kept: &mut Kept) -> Result<(), EngineError> {
        if kept.run.state.is_over() {
            return Ok(());
        }
        let playbook = Playbook::parse(&kept.text).map_err(|wrong| {
            let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
            EngineError::invalid(format!("the run's playbook: {}", wrong.join("; ")))
        })?;
        let modes = self.modes();
        let hands = Hands {
            responder: Arc::clone(self),
            text: kept.text.clone(),
        };
        let went = means::go_on(&mut kept.run, &playbook, &modes, &hands).await;
        if kept.run.state.is_over() {
            self.note_run(&kept.run, "playbook.ended").await;
        }
        went.map_err(EngineError::Held)
    }

    fn lock_of(&self, id: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut going = self.going.lock();
        Arc::clone(going.entry(id.to_owned()).or_default())
    }

    async fn kept(&self, id: &str) -> Result<Kept, EngineError> {
        let row = self.engine.store().run(id).await?;
        let row = row.ok_or_else(|| EngineError::not_found("run", id))?;
        serde_json::from_str(&row.body)
            .map_err(|error| EngineError::invalid(format!("the run cannot be read: {error}")))
    }

    async fn keep(&self, kept: &Kept) -> Result<(), EngineError> {
        let run = &kept.run;
        let row = RunRow {
            id: run.id.clone(),
            playbook: run.playbook.clone(),
            subject: beginning::subject_of(run),
            over: run.state.is_over(),
            started_at: run.started_at,
            body: serde_json::to_string(kept)
                .map_err(|error| EngineError::invalid(error.to_string()))?,
        };
        self.engine.store().keep_run(&row).await?;
        self.wait_for(run);
        Ok(())
    }

    /// One run, as it is now.
    ///
    /// # Errors
    /// [`EngineError`] when there is none, or the store cannot be read.
    pub async fn run(&self, id: &str) -> Result<Run, EngineError> {
        Ok(self.kept(id).await?.run)
    }

    /// The runs before one, the latest first.
    ///
    /// # Errors
    /// [`EngineError`] when the store cannot be read.
    pub async fn runs(
        &self,
        before: Option<&str>,
        limit: u32,
        open: bool,
    ) -> Result<Vec<Run>, EngineError> {
        let rows = self.engine.store().runs(before, limit, open).await?;
        let runs = rows
            .iter()
            .filter_map(|row| serde_json::from_str::<Kept>(&row.body).ok())
            .map(|kept| kept.run);
        Ok(runs.collect())
    }

    /// A person says something about a step of a run, which then goes on.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such run, the step does not wait for that, or the log or the store
    /// cannot be written: nothing is approved that is not on record.
    pub async fn answer(
        self: &Arc<Self>,
        actor: &Actor,
        id: &str,
        step: usize,
        answer: Answer,
        person: Option<&str>,
        note: &str,
    ) -> Result<Run, EngineError> {
        let note = crate::engine::words("note", note)?;
        let person = person
            .map(|person| crate::engine::words("by", person))
            .transpose()?;
        {
            let lock = self.lock_of(id);
            let _one = lock.lock().await;
            let mut kept = self.kept(id).await?;
            kept.run
                .answer(step, answer, person.as_deref(), &note)
                .map_err(not_waiting)?;
            let word = serde_json::to_value(answer).unwrap_or_default();
            let record = step_record(&kept.run, step, &actor.to_string(), "playbook.answered")
                .with("answer", word)
                .with("by", person);
            self.engine.record(record).await?;
            self.keep(&kept).await?;
        }
        self.go_on(id).await?;
        self.run(id).await
    }

    /// A person ends a run. What was done stays done.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such run, it is over, or the store cannot be written.
    pub async fn abort(self: &Arc<Self>, id: &str) -> Result<Run, EngineError> {
        let lock = self.lock_of(id);
        let _one = lock.lock().await;
        let mut kept = self.kept(id).await?;
        kept.run.abort(Timestamp::now()).map_err(not_waiting)?;
        self.keep(&kept).await?;
        self.note_run(&kept.run, "playbook.ended").await;
        Ok(kept.run)
    }

    /// Carries out one act by itself, as the step of a playbook would.
    ///
    /// # Errors
    /// Why it could not be done.
    pub async fn act(self: &Arc<Self>, actor: Actor, act: &Act) -> Result<String, EngineError> {
        let because = format!("asked for by {actor} as a single response");
        let key = run_id(Timestamp::now());
        acts::carry_out(self, actor, act, &because, &key, None).await
    }

    async fn note_run(&self, run: &Run, change: &str) {
        let about = serde_json::to_value(&run.about).unwrap_or_default();
        let record = Record::change(Timestamp::now(), run.by.as_str(), change, run.id.as_str())
            .with("playbook", run.playbook.as_str())
            .with("hash", run.hash.as_str())
            .with("about", about)
            .with("agent", run.about.agent.as_ref().map(AgentName::as_str))
            .with("state", run.state.as_str());
        self.engine.record_or_owe(&record).await;
    }
}

fn not_waiting(why: NotWaiting) -> EngineError {
    EngineError::conflict(
        why.to_string(),
        "look at the run: `sallyport playbook runs`, then `sallyport playbook status RUN`",
    )
}

/// The id of a run: later ones are greater.
fn run_id(now: Timestamp) -> String {
    let random: [u8; 6] = crate::engine::random();
    let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
    format!("run_{millis:012x}{}", gateway::hex(&random))
}

/// The record of a step.
fn step_record(run: &Run, number: usize, actor: &str, change: &str) -> Record {
    let record = Record::change(Timestamp::now(), actor, change, run.id.as_str())
        .with("playbook", run.playbook.as_str())
        .with("step", number)
        .with("incident", run.about.incident.as_deref())
        .with("agent", run.about.agent.as_ref().map(AgentName::as_str))
        .with(
            "segment",
            run.about.segment.as_ref().map(SegmentName::as_str),
        );
    let Some(visit) = run.visits.get(number) else {
        return record;
    };
    let acts: Vec<String> = visit.acts.iter().map(Act::in_words).collect();
    record
        .with("name", visit.name.as_str())
        .with("acts", acts)
        .with("mode", visit.mode.as_str())
        .with("state", visit.state.as_str())
        .with("note", visit.note.as_str())
}

/// What carries out acts for runs.
struct Hands {
    responder: Arc<Responder>,
    text: String,
}

impl Means for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn carry_out<'a>(
        &'a self,
        act: &'a Act,
        of: StepOf<'a>,
    ) -> means::BoxFuture<'a, Result<String, String>> {
        Box::pin(async move {
            let because = format!("playbook {} ({})", of.run.playbook, of.run.id);
            let (key, run) = (of.key(), Some(of.run));
            acts::carry_out(&self.responder, Actor::Sallyport, act, &because, &key, run)
                .await
                .map_err(|error| error.to_string())
        })
    }

    fn keep<'a>(&'a self, run: &'a Run) -> means::BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let kept = Kept {
                run: run.clone(),
                text: self.text.clone(),
            };
            let kept = self.responder.keep(&kept).await;
            kept.map_err(|error| error.to_string())
        })
    }

    fn note<'a>(&'a self, run: &'a Run, number: usize) -> means::BoxFuture<'a, ()> {
        Box::pin(async move {
            let record = step_record(run, number, "sallyport", "playbook.step");
            self.responder.engine.record_or_owe(&record).await;
        })
    }
}
