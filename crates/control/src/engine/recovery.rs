//! The start: what the store and the log say becomes live again.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use gateway::provenance::Before;
use gateway::redaction::Redactor;
use jiff::Timestamp;
use model::record::{Event, Record};
use model::{DecisionId, TaskId, TaskStatus};
use policy::Usage;
use store::OpenTask;

use super::approvals::StoreDesk;
use super::restriction::Owed;
use super::setup::loaded;
use super::{Actor, Engine, EngineError, EngineParts};
use crate::watch::Watch;

impl Engine {
    /// Puts the engine together and makes live what was before: agents, disabled instances and
    /// servers, revoked tokens, and open tasks with what they have used. Call it before anything
    /// is served.
    ///
    /// # Errors
    /// [`EngineError`] when the store or the log cannot be read, or the start cannot be recorded.
    pub async fn start(parts: EngineParts) -> Result<Arc<Self>, EngineError> {
        let EngineParts {
            store,
            pipeline,
            keys,
            authority,
            log_dir,
            setup,
            settings,
            sweep,
        } = parts;
        let redactor = Redactor::new(&setup.redaction)
            .map_err(|error| EngineError::Redaction(error.to_string()))?;
        pipeline.set_redactor(redactor);
        let watch = Watch::open(
            Arc::clone(&pipeline),
            store.clone(),
            log_dir.clone(),
            setup.monitor.clone(),
        )
        .await?;
        let now = Timestamp::now();
        let control_url = settings.control_url.clone();
        let desk = StoreDesk::new(store.clone(), pipeline.live(), control_url);
        let desk = Arc::new(desk);
        pipeline.live().approvals().set_desk(desk.clone());
        let engine = Arc::new(Self {
            desk,
            watch,
            store,
            pipeline,
            keys,
            authority,
            settings,
            servers: arc_swap::ArcSwap::default(),
            sweep,
            started_at: now,
            changes: tokio::sync::RwLock::new(()),
            owed: Owed::default(),
            contacts: super::tools::Contacts::default(),
            setup_problem: arc_swap::ArcSwapOption::empty(),
        });
        let pins = Self::stored_pins(&engine.store).await?;
        engine.publish_pins(&setup.servers, &pins);
        engine.watch_canaries().await?;
        engine.publish_setup(&setup);
        let book = super::tools::Book(Arc::downgrade(&engine));
        engine.pipeline.inspection().set_book(Arc::new(book));
        for name in engine.store.disabled_servers().await? {
            engine
                .live()
                .change_world(|world| world.with_server_enabled(&name, false));
        }
        for agent in engine.store.agents().await? {
            engine.publish_agent(&agent);
        }
        for instance in engine.store.instances(None).await? {
            if instance.disabled {
                engine.live().disable_instance(instance.id).await;
            }
        }
        for (token, expires) in engine.store.revoked_tokens(now).await? {
            engine.live().revoke_token(token, expires, None).await;
        }
        engine.restore_holds().await?;
        let subject = engine.settings.trust_domain.as_str();
        engine
            .record(loaded(
                &Actor::Sallyport,
                "sallyport.started",
                subject,
                &setup,
            ))
            .await?;
        engine.owed.inherit(engine.store.owed().await?);
        engine.pay_owed().await;
        engine.restore_tasks(log_dir).await?;
        engine.restore_approvals().await?;
        // Tasks that are open again look as bad as before.
        engine.watch.publish_scores(Timestamp::now());
        engine.expire_tasks(Timestamp::now()).await;
        Ok(engine)
    }

    async fn restore_tasks(&self, log_dir: std::path::PathBuf) -> Result<(), EngineError> {
        let open = self.store.open_tasks().await?;
        let mut used = HashMap::with_capacity(open.len());
        for task in &open {
            used.insert(task.task.id, Counted::from_snapshot(task)?);
        }
        let used = tokio::task::spawn_blocking(move || replay(&log_dir, used))
            .await
            .map_err(|error| EngineError::Recovery(error.to_string()))??;
        for OpenTask { task, salt, .. } in open {
            let counted = used.get(&task.id);
            let usage = counted.map(|counted| counted.usage.clone());
            let usage = usage.unwrap_or_default();
            debug_assert_eq!(task.status, TaskStatus::Open);
            let kept = self.pipeline.contents().vault();
            let kept = kept.and_then(|vault| vault.holding(&task.id));
            let before = Before {
                noted: usage.noted(),
                has_acted: usage.calls() > 0,
                has_unfinished: counted.is_some_and(|counted| !counted.unfinished.is_empty()),
                is_destroyed: kept.is_some_and(|kept| kept.destroyed),
            };
            let live = self.live().open(task, &salt, usage);
            live.recall(before);
            if let Some(ending) = live.ending() {
                // The process ended between its parent's end and its own.
                let id = live.task().id;
                let (status, because) = (ending.status, ending.because);
                self.write_end(&Actor::Sallyport, id, status, Timestamp::now(), &because)
                    .await;
            }
        }
        self.live().forget_other_ledgers();
        Ok(())
    }
}

/// What a task has used, and from where on the log is still to be counted.
struct Counted {
    usage: Usage,
    from: u64,
    /// Actions whose end is not on record.
    unfinished: HashSet<DecisionId>,
}

impl Counted {
    fn from_snapshot(open: &OpenTask) -> Result<Self, EngineError> {
        match &open.usage {
            None => Ok(Self {
                usage: Usage::default(),
                from: open.log_index,
                unfinished: HashSet::new(),
            }),
            Some(snapshot) => Ok(Self {
                usage: serde_json::from_str(&snapshot.usage).map_err(|error| {
                    EngineError::Recovery(format!("the usage of {}: {error}", open.task.id))
                })?,
                from: snapshot.log_index,
                unfinished: HashSet::new(),
            }),
        }
    }
}

/// Counts what the log has beyond the snapshots. An action that was charged while a snapshot was
/// taken may be counted twice: a crash can cost a task some of its budget, never give it more.
fn replay(
    log_dir: &Path,
    mut used: HashMap<TaskId, Counted>,
) -> Result<HashMap<TaskId, Counted>, EngineError> {
    let Some(first) = used.values().map(|counted| counted.from).min() else {
        return Ok(used);
    };
    let failed = |error: &dyn std::fmt::Display| EngineError::Recovery(error.to_string());
    let reader = audit::Reader::open(log_dir).map_err(|error| failed(&error))?;
    let size = reader.size();
    // What actions that have not ended yet hold back.
    let mut held = HashMap::new();
    for entry in reader.entries(first..size) {
        let (index, entry) = entry.map_err(|error| failed(&error))?;
        let record: Record = serde_json::from_slice(&entry)
            .map_err(|error| failed(&format!("record {index}: {error}")))?;
        match record.event {
            Event::Intent(intent) if intent.permitted => {
                for above in &intent.within {
                    if let Some(counted) = used.get_mut(&above.task)
                        && index >= counted.from
                    {
                        counted.usage.replay_within(&intent, above.permission);
                        if !intent.expected.is_nothing() {
                            held.insert((above.task, intent.decision), intent.expected);
                        }
                    }
                }
                if let Some(counted) = used.get_mut(&intent.task)
                    && index >= counted.from
                {
                    counted.usage.replay(&intent);
                    counted.unfinished.insert(intent.decision);
                    if !intent.expected.is_nothing() {
                        held.insert((intent.task, intent.decision), intent.expected);
                    }
                }
            }
            Event::Result(end) => {
                for task in std::iter::once(&end.task).chain(&end.within) {
                    if let Some(counted) = used.get_mut(task)
                        && index >= counted.from
                    {
                        let expected = held.remove(&(*task, end.decision)).unwrap_or_default();
                        counted.usage.replay_end(&end, expected);
                    }
                }
                if let Some(counted) = used.get_mut(&end.task) {
                    counted.usage.replay_noted(&end);
                    counted.unfinished.remove(&end.decision);
                }
            }
            _ => {}
        }
    }
    // Actions whose end is not on record may have used up all that they were expected to; what they
    // held back stays counted.
    for counted in used.values_mut() {
        counted.usage.keep_held();
    }
    Ok(used)
}
