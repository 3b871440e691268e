//! What is true right now: the world, the open tasks, and the switches that end them.
//!
//! The world is an immutable snapshot behind an atomic pointer. A task's own state sits behind a
//! lock of its own that is held for microseconds. Ending anything follows one order, so that it
//! holds for the very next action (R5): set the state, cancel what is in flight, wait until nothing
//! is on its way to an upstream any more, return.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use audit::AuditLog;
use jiff::Timestamp;
use model::record::Record;
use model::{AgentName, InstanceId, ServerName, Task, TaskId, TaskStatus};
use policy::{Usage, World};
use tokio::sync::watch;

use crate::approvals::Approvals;
use crate::pace;
use crate::provenance::{Annotated, Keeping};

mod agents;
mod paces;
mod task;

use agents::Agents;

pub(crate) use task::State;
pub use task::{CutSignal, ENDED_WITH_PARENT, Ending, LiveTask};

/// What is true right now.
pub struct Live {
    world: ArcSwap<World>,
    tasks: papaya::HashMap<TaskId, Arc<LiveTask>>,
    revoked_tokens: papaya::HashMap<[u8; 32], Timestamp>,
    /// Tokens that an agent was given up to this moment are refused.
    token_floors: papaya::HashMap<AgentName, Timestamp>,
    disabled_instances: papaya::HashMap<InstanceId, ()>,
    annotated: ArcSwap<Annotated>,
    keeping: OnceLock<Arc<Keeping>>,
    /// Counts how often the tools of some server began to stand differently.
    tools_changed: watch::Sender<u64>,
    approvals: Approvals,
    agents: Agents,
    rates: pace::Limits,
    audit: Arc<AuditLog>,
}

impl Live {
    /// Begins with a world and no tasks.
    #[must_use]
    pub fn new(world: World, audit: Arc<AuditLog>) -> Self {
        Self {
            world: ArcSwap::from_pointee(world),
            tasks: papaya::HashMap::new(),
            revoked_tokens: papaya::HashMap::new(),
            token_floors: papaya::HashMap::new(),
            disabled_instances: papaya::HashMap::new(),
            annotated: ArcSwap::default(),
            keeping: OnceLock::new(),
            tools_changed: watch::Sender::new(0),
            approvals: Approvals::default(),
            agents: Agents::default(),
            rates: pace::Limits::default(),
            audit,
        }
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> &Arc<AuditLog> {
        &self.audit
    }

    /// Writes a record and waits until it is durable.
    ///
    /// # Errors
    /// Whatever keeps the log from being written; then nothing may go ahead (R4).
    pub async fn record(&self, record: Record) -> Result<u64, audit::AuditError> {
        self.audit.append(written(record)).await
    }

    /// Lets a record be written, without waiting for it.
    ///
    /// # Errors
    /// When the record is too long, too much waits to be written, or the log is closed.
    pub fn submit(&self, record: Record) -> Result<(), audit::AuditError> {
        self.audit.submit(written(record))
    }

    /// What needs a person's approval, and where people are asked.
    #[must_use]
    pub fn approvals(&self) -> &Approvals {
        &self.approvals
    }

    /// What is known about the tools of the servers that are annotated.
    #[must_use]
    pub fn annotated(&self) -> arc_swap::Guard<Arc<Annotated>> {
        self.annotated.load()
    }

    /// Takes other annotations into use, for the very next call.
    pub fn set_annotated(&self, annotated: Annotated) {
        self.annotated.store(Arc::new(annotated));
    }

    /// Says that the tools of some server stand differently from now on, so that agents which listen are told.
    pub fn tell_tools_changed(&self) {
        self.tools_changed.send_modify(|times| *times += 1);
    }

    /// Tells when the tools of some server stand differently.
    pub(crate) fn tools_changes(&self) -> watch::Receiver<u64> {
        self.tools_changed.subscribe()
    }

    /// Says where what tasks have seen is kept over the end of the process; once, before any task is open.
    pub fn keep_ledgers_in(&self, journals: Arc<vault::Journals>) {
        let keeping = Keeping::new(journals, Arc::clone(&self.audit));
        // The first one stays: what is kept in it would be lost otherwise.
        let _ = self.keeping.set(Arc::new(keeping));
    }

    /// Destroys what is kept of what tasks have seen that are not open here.
    pub fn forget_other_ledgers(&self) {
        if let Some(keeping) = self.keeping.get() {
            let open = self.tasks().into_iter();
            let open = open.filter(|task| task.ending().is_none());
            keeping.keep_only(open.map(|task| task.task().id).collect());
        }
    }

    /// The world as it is now.
    #[must_use]
    pub fn world(&self) -> arc_swap::Guard<Arc<World>> {
        self.world.load()
    }

    /// Changes the world by a function of the present one; concurrent changes are applied one
    /// after the other, none is lost. Returns the new world.
    pub fn change_world(&self, change: impl Fn(&World) -> World) -> Arc<World> {
        self.world.rcu(|world| change(world));
        self.world.load_full()
    }

    /// Makes a task known and open, with what it has used so far.
    pub fn open(&self, task: Task, salt: &[u8], usage: Usage) -> Arc<LiveTask> {
        let parent = task.parent.and_then(|id| self.task(&id));
        let agent = self.agents.of(&task.agent);
        let live = Arc::new(LiveTask::new(task, parent, agent, salt, usage));
        if let Some(keeping) = self.keeping.get() {
            live.memory().keep(keeping);
        }
        self.tasks.pin().insert(live.task().id, Arc::clone(&live));
        live
    }

    /// How bad an agent looks right now: 0 to 100.
    #[must_use]
    pub fn agent_risk(&self, agent: &AgentName) -> u8 {
        self.agents.known(agent).map_or(0, |known| known.risk.get())
    }

    /// Says how bad an agent looks, for the very next decision about it.
    pub fn set_agent_risk(&self, agent: &AgentName, score: u8) {
        self.agents.of(agent).risk.set(score);
    }

    /// Says how bad a task looks, for the very next decision about it. Nothing happens when it is not
    /// known here.
    pub fn set_task_risk(&self, id: &TaskId, score: u8) {
        if let Some(task) = self.task(id) {
            task.set_risk(score);
        }
    }

    /// A task that was opened here and has not been forgotten.
    #[must_use]
    pub fn task(&self, id: &TaskId) -> Option<Arc<LiveTask>> {
        self.tasks.pin().get(id).cloned()
    }

    /// All tasks known here.
    #[must_use]
    pub fn tasks(&self) -> Vec<Arc<LiveTask>> {
        self.tasks.pin().values().cloned().collect()
    }

    /// How many tasks are known here.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.tasks.pin().len()
    }

    /// Ends a task: nothing of it is forwarded once this has returned, and what is streaming is
    /// cut; the same holds for the tasks that are a part of it. Returns false when the task is not
    /// known here or has ended before.
    pub async fn end(&self, id: &TaskId, status: TaskStatus, at: Timestamp, because: &str) -> bool {
        self.end_with_parts(id, status, at, because).await.0
    }

    /// The same; also says which of its parts were open until now.
    pub async fn end_with_parts(
        &self,
        id: &TaskId,
        status: TaskStatus,
        at: Timestamp,
        because: &str,
    ) -> (bool, Vec<TaskId>) {
        let Some(task) = self.task(id) else {
            return (false, Vec::new());
        };
        let first = task.set_ended(status, at, because);
        let mut parts = self.parts_of(id);
        parts.retain(|part| part.set_ended(TaskStatus::Revoked, at, ENDED_WITH_PARENT));
        let cuts = parts.iter().map(|part| part.cut());
        futures_util::future::join(task.cut(), futures_util::future::join_all(cuts)).await;
        (first, parts.iter().map(|part| part.task().id).collect())
    }

    /// The tasks that are a part of a task, at any depth.
    #[must_use]
    pub fn parts_of(&self, id: &TaskId) -> Vec<Arc<LiveTask>> {
        let mut parts = self.tasks();
        parts.retain(|task| task.ancestors().any(|above| above.task().id == *id));
        parts
    }

    /// Drops ended tasks from memory; they remain in the store.
    pub fn forget_ended(&self, now: Timestamp, keep: jiff::SignedDuration) {
        let tasks = self.tasks.pin();
        tasks.retain(|_, task| {
            let ending = task.ending();
            ending.is_none_or(|ended| now.duration_since(ended.at) < keep)
        });
    }

    /// Cuts everything in flight that the selection names and waits until nothing of it is on its
    /// way to an upstream. Publish the state that forbids it first.
    pub async fn cut(&self, of: Cut<'_>) {
        self.cut_where(|task| match of {
            Cut::Agent(agent) => {
                let of = |task: &Arc<LiveTask>| task.task().agent == *agent;
                of(task) || task.ancestors().any(of)
            }
            Cut::Instance(instance) => {
                let of = |task: &Arc<LiveTask>| {
                    task.task().instance.is_none_or(|owner| owner == *instance)
                };
                of(task) || task.ancestors().any(of)
            }
            Cut::Server(server) => task
                .task()
                .grant
                .permissions
                .iter()
                .any(|p| p.server == *server),
            Cut::All => true,
        })
        .await;
    }

    /// Cuts everything in flight of the tasks that a condition holds for, and waits until nothing of it is
    /// on its way to an upstream. Publish the state that forbids it first.
    pub async fn cut_where(&self, hit: impl Fn(&Arc<LiveTask>) -> bool) {
        let hit: Vec<_> = self.tasks().into_iter().filter(|task| hit(task)).collect();
        let cuts = hit.iter().map(|task| task.cut());
        futures_util::future::join_all(cuts).await;
    }

    /// Refuses a token from now on (RFC 7009), and cuts what its task has in flight.
    /// `token` is its SHA-256 hash; the entry is dropped after `expires`.
    pub async fn revoke_token(&self, token: [u8; 32], expires: Timestamp, task: Option<&TaskId>) {
        self.revoked_tokens.pin().insert(token, expires);
        if let Some(task) = task.and_then(|id| self.task(id)) {
            task.cut().await;
        }
    }

    /// Whether a token was revoked.
    #[must_use]
    pub fn is_revoked(&self, token: &[u8; 32]) -> bool {
        self.revoked_tokens.pin().contains_key(token)
    }

    /// Refuses every token that an agent was given up to a moment, and cuts what it has in flight.
    pub async fn refuse_tokens_until(&self, agent: &AgentName, moment: Timestamp) {
        {
            let floors = self.token_floors.pin();
            if floors.get(agent).is_none_or(|before| *before < moment) {
                floors.insert(agent.clone(), moment);
            }
        }
        self.cut(Cut::Agent(agent)).await;
    }

    /// Whether a token of an agent is refused, by when it was issued (in seconds since 1970). A token of
    /// the very second in which the tokens were refused is refused too.
    #[must_use]
    pub fn refuses_issued(&self, agent: &AgentName, issued: i64) -> bool {
        let floors = self.token_floors.pin();
        floors
            .get(agent)
            .is_some_and(|moment| issued <= moment.as_second())
    }

    /// Forgets revoked tokens that have expired anyway.
    pub fn forget_expired_tokens(&self, now: Timestamp) {
        self.revoked_tokens
            .pin()
            .retain(|_, expires| *expires > now);
    }

    /// Disables an instance and cuts what it has in flight.
    pub async fn disable_instance(&self, id: InstanceId) {
        self.disabled_instances.pin().insert(id, ());
        self.cut(Cut::Instance(&id)).await;
    }

    /// Whether an instance was disabled.
    #[must_use]
    pub fn is_disabled(&self, id: &InstanceId) -> bool {
        self.disabled_instances.pin().contains_key(id)
    }
}

/// What to cut.
#[derive(Debug, Clone, Copy)]
pub enum Cut<'a> {
    /// Everything of one agent.
    Agent(&'a AgentName),
    /// Everything of one instance.
    Instance(&'a InstanceId),
    /// Everything at one server.
    Server(&'a ServerName),
    /// Everything.
    All,
}

/// A record as it goes into the log. Whoever follows the log in this process gets the record itself.
fn written(record: Record) -> audit::NewRecord {
    audit::NewRecord::written_from(record.to_bytes(), Arc::new(record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Grant;
    use policy::Policies;
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn now() -> Timestamp {
        Timestamp::now()
    }

    fn task(n: u8) -> Task {
        let grant: Grant = serde_json::from_value(json!({
            "permissions": [{ "type": "sallyport_mcp", "server": "files" }],
            "budget": { "calls": 5 },
            "proof": "dpop",
        }))
        .unwrap();
        Task {
            id: TaskId::new(now(), [n; 10]),
            agent: AgentName::parse("triage").unwrap(),
            instance: None,
            parent: None,
            template: model::TemplateName::parse("triage").unwrap(),
            parameters: BTreeMap::new(),
            purpose: String::new(),
            grant,
            opened_at: now(),
            expires_at: now().checked_add(Duration::from_secs(60)).unwrap(),
            status: TaskStatus::Open,
            ended_at: None,
            ended_because: None,
        }
    }

    fn live() -> (Arc<Live>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let options = audit::Options::new("test.example.org/audit", dir.path().join("key"));
        let (audit, _) = AuditLog::open(&dir.path().join("log"), options).unwrap();
        let world = World::new(Arc::new(Policies::compile(&[]).unwrap()));
        (Arc::new(Live::new(world, audit)), dir)
    }

    #[tokio::test]
    async fn ending_waits_for_what_is_on_its_way_and_lets_nothing_follow() {
        let (live, _dir) = live();
        let task = live.open(task(1), b"salt", Usage::default());
        let signal = task.lock().cut_signal();
        let under_way = task.begin_dispatch(&signal, now()).unwrap();
        let (ender, id) = (Arc::clone(&live), task.task().id);
        let end =
            tokio::spawn(async move { ender.end(&id, TaskStatus::Revoked, now(), "test").await });
        signal.cut().await;
        assert!(task.begin_dispatch(&signal, now()).is_none());
        let later = task.lock().cut_signal();
        assert!(
            task.begin_dispatch(&later, now()).is_none(),
            "a fresh signal does not help"
        );
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(!end.is_finished(), "it waits for what is on its way");
        drop(under_way);
        assert!(end.await.unwrap());
        assert_eq!(task.status_at(now()), TaskStatus::Revoked);
        assert!(!live.end(&id, TaskStatus::Completed, now(), "again").await);
        assert_eq!(
            task.ending().unwrap().because,
            "test",
            "the first end is the one that counts"
        );
    }

    #[tokio::test]
    async fn a_cut_also_waits_for_what_an_earlier_one_still_waits_for() {
        let (live, _dir) = live();
        let task = live.open(task(1), b"salt", Usage::default());
        let signal = task.lock().cut_signal();
        let under_way = task.begin_dispatch(&signal, now()).unwrap();
        let cut = || {
            let live = Arc::clone(&live);
            tokio::spawn(async move {
                let triage = AgentName::parse("triage").unwrap();
                live.cut(Cut::Agent(&triage)).await;
            })
        };
        let first = cut();
        signal.cut().await;
        let second = cut();
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(!first.is_finished() && !second.is_finished());
        drop(under_way);
        first.await.unwrap();
        second.await.unwrap();
        assert!(task.lock().draining.is_empty(), "nothing is left behind");
    }

    #[tokio::test]
    async fn cuts_hit_what_they_name_and_leave_tasks_open() {
        let (live, _dir) = live();
        let (one, other) = (live.open(task(1), b"s", Usage::default()), task(2));
        let other = live.open(
            Task {
                agent: AgentName::parse("billing").unwrap(),
                ..other
            },
            b"s",
            Usage::default(),
        );
        let signals = || (one.lock().cut_signal(), other.lock().cut_signal());
        let (first, second) = signals();
        live.cut(Cut::Agent(&AgentName::parse("triage").unwrap()))
            .await;
        assert!(first.is_cut() && !second.is_cut());
        let (first, second) = signals();
        live.cut(Cut::Server(&ServerName::parse("git").unwrap()))
            .await;
        assert!(!first.is_cut() && !second.is_cut());
        live.cut(Cut::Server(&ServerName::parse("files").unwrap()))
            .await;
        assert!(first.is_cut() && second.is_cut());
        let (first, _) = signals();
        assert!(
            one.begin_dispatch(&first, now()).is_some(),
            "new actions may begin"
        );
    }

    #[tokio::test]
    async fn what_has_ended_is_forgotten_after_a_while() {
        let (live, _dir) = live();
        let (one, two) = (task(1), task(2));
        live.open(one.clone(), b"s", Usage::default());
        live.open(two, b"s", Usage::default());
        live.end(&one.id, TaskStatus::Completed, now(), "done")
            .await;
        live.forget_ended(now(), jiff::SignedDuration::from_secs(60));
        assert_eq!(live.task_count(), 2);
        live.forget_ended(now(), jiff::SignedDuration::ZERO);
        assert_eq!(live.task_count(), 1);
        let soon = now().checked_add(Duration::from_secs(5)).unwrap();
        live.revoke_token([7; 32], soon, None).await;
        live.forget_expired_tokens(now());
        assert!(live.is_revoked(&[7; 32]));
        live.forget_expired_tokens(soon);
        assert!(!live.is_revoked(&[7; 32]));
    }

    #[test]
    fn an_expired_task_is_over_whoever_noticed() {
        let task = LiveTask::new(task(1), None, Arc::default(), b"s", Usage::default());
        let signal = task.lock().cut_signal();
        assert!(
            task.begin_dispatch(&signal, task.task().expires_at)
                .is_none()
        );
        assert!(task.begin_dispatch(&signal, now()).is_some());
    }
}
