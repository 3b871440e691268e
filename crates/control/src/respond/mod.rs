//! What is done about incidents: playbooks are begun, go on, wait for people and are recorded.
//!
//! - this file: runs, from their beginning to their end;
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
use model::config::{Response, Trigger};
use model::record::Record;
use model::{AgentName, SegmentName};
use monitor::incidents::{Incident, IncidentStatus, What};
use parking_lot::Mutex;
use response::means::{self, Means, StepOf};
use response::run::{About, Answer, NotWaiting};
use response::{Act, Modes, Playbook, Run};
use serde::{Deserialize, Serialize};
use store::RunRow;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::engine::{Actor, Engine, EngineError};
use crate::http_api::Reloader;

mod acts;
pub(crate) mod evidence;
mod reach;
mod telling;

pub use telling::{Teller, TellingError};

/// Most runs that are not over.
const OPEN: u32 = 200;
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
            this.look_at_all().await;
            let mut tick = tokio::time::interval(TICK);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    _ = tick.tick() => this.go_on_with_all().await,
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

    async fn go_on_with_all(self: &Arc<Self>) {
        let open = match self.engine.store().runs(None, OPEN, true).await {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(%error, "runs of playbooks cannot be looked at");
                return;
            }
        };
        let now = Timestamp::now();
        for row in open {
            let Ok(kept) = serde_json::from_str::<Kept>(&row.body) else {
                continue;
            };
            let run = &kept.run;
            let due = run.due(now).is_some() || run.next_look().is_some_and(|at| now >= at);
            if due && !self.is_going(&row.id) {
                self.spawn(row.id);
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

    /// Begins the playbook that the configuration has for an incident, unless it has run for it already.
    async fn triggered(self: &Arc<Self>, incident: &Incident) {
        let current = self.current.load_full();
        let fits = |trigger: &&Trigger| {
            incident.severity >= trigger.severity
                && (trigger.rules.is_empty()
                    || trigger
                        .rules
                        .iter()
                        .any(|pattern| incident.rules.iter().any(|rule| pattern.matches(rule))))
        };
        let Some(trigger) = current.settings.triggers.iter().find(fits) else {
            return;
        };
        let about = About {
            incident: Some(incident.id.to_string()),
            ..About::default()
        };
        match self
            .begin(Actor::Sallyport, &trigger.playbook, about, false, true)
            .await
        {
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, incident = incident.id, "a playbook could not be begun");
            }
        }
    }

    /// Begins a run. A dry one does nothing, is not kept, and shows what would be done. With `once`, a run of
    /// the same playbook about the same incident that was as bad is given back instead.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such playbook, or what it is about is not there, too many runs are
    /// open, or the store cannot be used.
    pub async fn begin(
        self: &Arc<Self>,
        actor: Actor,
        name: &str,
        about: About,
        dry: bool,
        once: bool,
    ) -> Result<Run, EngineError> {
        let current = self.current.load_full();
        let known = current
            .playbooks
            .get(name)
            .ok_or_else(|| EngineError::not_found("playbook", name))?;
        let about = self.complete(about).await?;
        let now = Timestamp::now();
        let id = run_id(now);
        let mut run = Run::begin(
            id.clone(),
            name,
            &known.playbook,
            about,
            actor.to_string(),
            dry,
            now,
        );
        if dry {
            run.go_on(&known.playbook, &current.modes, now);
            self.note_run(&run, "playbook.rehearsed").await;
            return Ok(run);
        }
        let _one = self.beginning.lock().await;
        let open = self.engine.store().runs(None, OPEN, false).await?;
        if open.iter().filter(|row| !row.over).count() >= OPEN as usize {
            return Err(EngineError::TooMany(format!(
                "{OPEN} runs of playbooks are not over"
            )));
        }
        let subject = subject_of(&run);
        if once
            && let Some(before) = open
                .iter()
                .filter(|row| row.subject == subject && row.playbook == name)
                .filter_map(|row| serde_json::from_str::<Kept>(&row.body).ok())
                .find(|kept| rank(&kept.run.about) >= rank(&run.about))
        {
            return Ok(before.run);
        }
        self.note_run(&run, "playbook.started").await;
        let kept = Kept {
            run: run.clone(),
            text: known.text.clone(),
        };
        self.keep(&kept).await?;
        self.spawn(id);
        Ok(run)
    }

    /// Fills in what follows from what is known.
    async fn complete(&self, mut about: About) -> Result<About, EngineError> {
        if let Some(id) = &about.incident {
            let number = id.parse::<u64>().ok();
            let incident = match number {
                Some(number) => self.engine.watch().incident(number).await?,
                None => None,
            };
            let incident = incident.ok_or_else(|| EngineError::not_found("incident", id))?;
            let worst = incident
                .findings
                .iter()
                .max_by_key(|it| it.finding.severity);
            about.agent = about.agent.or_else(|| incident.agents.first().cloned());
            about.task = about.task.or_else(|| incident.tasks.last().copied());
            about.server = about.server.or_else(|| incident.servers.first().cloned());
            about.severity = Some(incident.severity.as_str().to_owned());
            if let Some(worst) = worst {
                about.tool = about.tool.or_else(|| worst.finding.subject.target.clone());
                about.summary = about
                    .summary
                    .or_else(|| Some(worst.finding.explanation.clone()));
            }
        }
        if let Some(task) = &about.task {
            let task = self.engine.visible_task(&Actor::Operator, task).await;
            match (task, &about.agent, &about.incident) {
                (Ok(task), None, _) => about.agent = Some(task.agent),
                (Ok(task), Some(agent), None) if task.agent != *agent => {
                    return Err(EngineError::invalid("the task is not the agent's"));
                }
                (Ok(_), ..) => {}
                // What an incident names may be over and gone.
                (Err(_), _, Some(_)) => about.task = None,
                (Err(error), _, None) => return Err(error),
            }
        }
        let world = self.engine.live().world();
        if let Some(agent) = &about.agent {
            match world.agent(agent) {
                Some(facts) => about.segment = about.segment.or_else(|| facts.segment.clone()),
                None => return Err(EngineError::not_found("agent", agent)),
            }
        }
        if let Some(server) = &about.server
            && world.server(server).is_none()
            && about.incident.is_none()
        {
            return Err(EngineError::not_found("server", server));
        }
        Ok(about)
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
            subject: subject_of(run),
            over: run.state.is_over(),
            started_at: run.started_at,
            body: serde_json::to_string(kept)
                .map_err(|error| EngineError::invalid(error.to_string()))?,
        };
        Ok(self.engine.store().keep_run(&row).await?)
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

/// What a run is about, in one word.
fn subject_of(run: &Run) -> String {
    let about = &run.about;
    match (&about.incident, &about.task, &about.agent, &about.server) {
        (Some(incident), ..) => format!("incident/{incident}"),
        (None, Some(task), ..) => task.to_string(),
        (None, None, Some(agent), _) => format!("agent/{agent}"),
        (None, None, None, Some(server)) => format!("server/{server}"),
        _ => "nothing".to_owned(),
    }
}

/// How bad what a run is about was.
fn rank(about: &About) -> Option<model::inspection::Severity> {
    about
        .severity
        .as_deref()
        .and_then(model::inspection::Severity::parse)
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
