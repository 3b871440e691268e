//! The path of one action, written once and shared by every enforcement point.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use identity::svid::Svid;
use jiff::Timestamp;
use model::record::{ActionResult, Ended, Event, Intent, Record};
use model::{
    Action, ApprovalId, DecisionId, Denial, Operation, Outcome, Rule, ServerName, Spent, TaskId,
};
use policy::NOTED;
use tokio_util::task::task_tracker::TaskTrackerToken;
use vault::{Bundle, Payload};

use crate::approvals::Requested;
use crate::caller::{Asked, Authenticator, Caller, Credentials, Principal, Unauthenticated};
use crate::content::{self, Contents, Treatment};
use crate::inspection::Inspection;
use crate::live::{CutSignal, Live, LiveTask};
use crate::metrics::Metrics;
use crate::provenance::{Reading, RowReading};
use crate::redaction::{Redactor, shorten};
use crate::refusals::Refusals;
use crate::resource::Route;
use crate::sources::Sources;

mod deciding;
mod paced;

pub use ::provenance::{RowColumn, RowNotes};

pub use crate::content::Digest;
use deciding::Decided;

/// Longest tool name, URI or prompt name in a record, in characters.
const TARGET_CHARACTERS: usize = 512;
/// Longest method in a record, in characters.
const METHOD_CHARACTERS: usize = 128;
/// Longest reason and remedy in a record, in characters: reasons may quote names that agents chose,
/// and a record that is over the log's 64 KiB would be refused.
const REASON_CHARACTERS: usize = 1_024;

/// The shared pipeline.
pub struct Pipeline {
    live: Arc<Live>,
    authenticator: Authenticator,
    redactor: arc_swap::ArcSwap<Redactor>,
    refusals: Refusals,
    sources: Sources,
    metrics: Arc<Metrics>,
    inspection: Arc<Inspection>,
    contents: Contents,
}

/// An action that was refused, with what the agent is told.
#[derive(Debug, Clone)]
pub struct Denied {
    /// Names the decision in the record.
    pub decision: DecisionId,
    /// The rule, the reason and what would lift it.
    pub denial: Denial,
    /// The request for a person's approval that waits, if one could lift it.
    pub requested: Option<Box<Requested>>,
    /// How long until the same may pass, where waiting is all that it takes.
    pub retry_after: Option<Duration>,
}

impl Pipeline {
    /// Puts the pipeline together.
    #[must_use]
    pub fn new(
        live: Arc<Live>,
        authenticator: Authenticator,
        redactor: Redactor,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            refusals: Refusals::new(Arc::clone(&live)),
            sources: Sources::default(),
            live,
            authenticator,
            redactor: arc_swap::ArcSwap::from_pointee(redactor),
            metrics,
            inspection: Arc::default(),
            contents: Contents::default(),
        }
    }

    /// What is true right now.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What looks at what passes, with the rules that come with the program until others are set.
    #[must_use]
    pub fn inspection(&self) -> &Arc<Inspection> {
        &self.inspection
    }

    /// How the content of what passes is treated.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Takes new redaction rules into use.
    pub fn set_redactor(&self, redactor: Redactor) {
        self.redactor.store(Arc::new(redactor));
    }

    /// Text of others as it may be seen: without secrets, and not long.
    #[must_use]
    pub fn shown(&self, text: &str) -> String {
        self.redactor.load().clean(text)
    }

    /// Step 2: who is calling the resource at this route, or something behind it (`rest`, from its
    /// `/` on). A refusal is recorded.
    ///
    /// # Errors
    /// [`Unauthenticated`] with the challenge to answer with.
    pub fn authenticate<B>(
        &self,
        request: &http::Request<B>,
        route: &Route,
        rest: &str,
        base_url: &str,
    ) -> Result<Caller, Unauthenticated> {
        match Credentials::of(request) {
            Ok(credentials) => {
                let method = request.method().as_str();
                self.authenticate_with(method, route, rest, base_url, &credentials)
            }
            Err(refused) => Err(self.unauthenticated(route, refused)),
        }
    }

    /// Step 2 where credentials do not come in HTTP headers.
    ///
    /// # Errors
    /// [`Unauthenticated`]; it is recorded.
    pub fn authenticate_with(
        &self,
        method: &str,
        route: &Route,
        rest: &str,
        base_url: &str,
        credentials: &Credentials<'_>,
    ) -> Result<Caller, Unauthenticated> {
        let resource = route.resource(base_url);
        let url = match rest {
            "" => Cow::Borrowed(resource.as_str()),
            rest => Cow::Owned(format!("{resource}{rest}")),
        };
        let asked = Asked {
            resource: &resource,
            method,
            url: &url,
            task: route.task.as_ref(),
        };
        self.authenticate_at(&route.path(), &asked, credentials)
    }

    /// Step 2 for what has an address of its own, apart from the gateway's: `endpoint` is how records
    /// of refusals name it.
    ///
    /// # Errors
    /// [`Unauthenticated`]; it is recorded.
    pub fn authenticate_at(
        &self,
        endpoint: &str,
        asked: &Asked<'_>,
        credentials: &Credentials<'_>,
    ) -> Result<Caller, Unauthenticated> {
        self.authenticator
            .authenticate(&self.live, asked, credentials, Timestamp::now())
            .map_err(|refused| self.unauthenticated_at(endpoint, refused))
    }

    /// Step 2 for who presents an SVID in place of a token, and names a task.
    ///
    /// # Errors
    /// [`Unauthenticated`]; it is recorded.
    pub fn authenticate_by_svid(
        &self,
        route: &Route,
        svid: &Svid,
        task: &TaskId,
    ) -> Result<Caller, Unauthenticated> {
        Authenticator::authenticate_by_svid(&self.live, svid, task, Timestamp::now())
            .map_err(|refused| self.unauthenticated(route, refused))
    }

    /// The one for whom an upstream sends what it was asked for before, by itself: a notification. Only
    /// for what arrives at an address that the gateway made up, gave to that upstream alone, and whose
    /// knowledge was proved; never for what agents send. `None` when the task or the instance is over.
    #[must_use]
    pub fn expecting(&self, principal: Principal, proof: model::Proof) -> Option<Caller> {
        Caller::expecting(&self.live, principal, proof)
    }

    fn unauthenticated(&self, route: &Route, refused: Unauthenticated) -> Unauthenticated {
        self.unauthenticated_at(&route.path(), refused)
    }

    /// Records that a request had no caller.
    pub fn unauthenticated_at(&self, endpoint: &str, refused: Unauthenticated) -> Unauthenticated {
        self.metrics.refused();
        let now = Timestamp::now();
        self.refusals.note(now, endpoint, None, refused.denial());
        refused
    }

    /// Whether a caller's task may ever use an item of a server's listing.
    #[must_use]
    pub fn may_list(&self, caller: &Caller, server: &ServerName, item: policy::Listed<'_>) -> bool {
        policy::may_list(
            &self.live.world(),
            &caller.facts(),
            caller.task.task(),
            caller.task.grant(),
            server,
            item,
            Timestamp::now(),
        )
    }

    /// Records a request that did not become an action, with its caller as far as known.
    pub fn refuse(&self, endpoint: &str, caller: Option<&Caller>, denial: Denial) {
        self.metrics.refused();
        let whom = caller.map(|caller| self.whom(caller)).unwrap_or_default();
        self.refusals
            .note_of(Timestamp::now(), endpoint, &whom, denial);
    }

    /// Steps 4 and 5: decides the action and records the intent durably. The permit is the only
    /// way to go on, and holds only until something ends the task, the agent or the server.
    ///
    /// # Errors
    /// [`Denied`] when it comes too soon after others, when the decision is to deny, or when the log cannot
    /// be written (R4).
    pub async fn attempt(&self, caller: &Caller, action: Action) -> Result<Permit, Denied> {
        let started = Instant::now();
        if let Err(too_fast) = self.live.pace(&caller.task, started) {
            return Err(self.too_fast(caller, &action.server, too_fast));
        }
        self.attempt_since(started, caller, action).await
    }

    /// The same for what comes from an upstream, by itself or in an answer, and not from the agent: it takes
    /// nothing from how fast the agent may go.
    ///
    /// # Errors
    /// As of [`Self::attempt`].
    pub async fn attempt_expected(
        &self,
        caller: &Caller,
        action: Action,
    ) -> Result<Permit, Denied> {
        self.attempt_since(Instant::now(), caller, action).await
    }

    async fn attempt_since(
        &self,
        started: Instant,
        caller: &Caller,
        action: Action,
    ) -> Result<Permit, Denied> {
        let now = Timestamp::now();
        let id = DecisionId::new(now, random());
        // Read once, so that the record has what was decided by.
        let facts = caller.facts();
        let decided = self.decided(caller, facts, &action, now, id).await;
        let expected = if action.operation.is_charged() {
            action.expected
        } else {
            Spent::default()
        };
        let reading = decided
            .decision
            .is_permit()
            .then(|| Reading::of(&self.live.annotated(), &caller.task, &action, id, now))
            .flatten();
        let rows = decided
            .decision
            .is_permit()
            .then(|| RowReading::of(&self.live.annotated(), &caller.task, &action, id, now))
            .flatten();
        let treatment = self.contents.of(&action.server);
        let (intent, asked) = self.intent(caller, action, &decided, facts.risk, &treatment);
        let payload = asked.and_then(|asked| {
            let hash = intent.arguments_hash.clone();
            treatment.payload(content::ARGUMENTS, &asked, hash)
        });
        let server = intent.server.clone();
        let record = Record::new(now, Event::Intent(Box::new(intent)));
        let Decided {
            decision,
            requested,
            approval,
            ..
        } = decided;
        let denied = |denial, requested| {
            let known = self.live.world().server(&server).is_some();
            self.metrics.denied(known.then_some(&server), &denial);
            Err(Denied {
                decision: id,
                denial,
                requested,
                retry_after: None,
            })
        };
        // Made before the wait, so that an agent that goes away meanwhile leaves a result behind:
        // results follow their intents through one queue. Given out only after it.
        let mut permit = decision.is_permit().then(|| Permit {
            decision: id,
            approval,
            held: expected,
            spent: Spent::default(),
            notes: BTreeMap::new(),
            reading,
            rows,
            treatment,
            payloads: payload.into_iter().collect(),
            task: Arc::clone(&caller.task),
            live: Arc::clone(&self.live),
            signal: caller.signal.clone(),
            started,
            metrics: Arc::clone(&self.metrics),
            forwarded: false,
            finished: false,
        });
        if let Err(error) = self.live.record(record).await {
            tracing::error!(%error, "the audit log cannot be written: denying");
            // Nothing was recorded, so there is no result either. What was charged stays charged:
            // the budget errs on the side of less.
            if let Some(permit) = &mut permit {
                permit.finished = true;
                permit.release(permit.held);
            }
            return denied(audit_unavailable(), None);
        }
        match (decision.outcome, permit) {
            (Outcome::Deny(denial) | Outcome::Ask { denial, .. }, _) => denied(denial, requested),
            (Outcome::Permit { .. }, permit) => {
                self.metrics.permitted(&server);
                Ok(permit.expect("made above for every permit"))
            }
        }
    }

    /// The record of a decision, and what was asked for, in case it is kept: not what is asked of models,
    /// of which a decision sees sizes only.
    fn intent(
        &self,
        caller: &Caller,
        action: Action,
        decided: &Decided,
        risk: u8,
        treatment: &Treatment,
    ) -> (Intent, Option<Bytes>) {
        let Decided { decision, .. } = decided;
        let permission = match &decision.outcome {
            Outcome::Permit { permission, tool } => Some((*permission, *tool)),
            Outcome::Ask { .. } | Outcome::Deny(_) => None,
        };
        let denial = decision.outcome.denial().map(|denial| Denial {
            rule: denial.rule,
            reason: shorten(&denial.reason, REASON_CHARACTERS),
            remedy: shorten(&denial.remedy, REASON_CHARACTERS),
        });
        let target = shorten(&action.operation.target(), TARGET_CHARACTERS);
        let hash = |text: &[u8]| treatment.hash(&caller.task, text);
        let is_of_models = matches!(action.operation, Operation::Generate { .. });
        let mut asked = None;
        let (arguments, arguments_hash) = match action.operation {
            Operation::CallTool { arguments, .. }
            | Operation::Request { arguments, .. }
            | Operation::Generate { arguments, .. }
            | Operation::Message { arguments, .. } => {
                let text = Bytes::from(serde_json::to_vec(&arguments).unwrap_or_default());
                let tag = hash(&text);
                asked = (!is_of_models).then_some(text);
                let shown = self
                    .redactor
                    .load()
                    .view(arguments, caller.task.grant(), permission);
                (Some(shown), tag)
            }
            Operation::Query { statement } => {
                let shown = self.redactor.load().statement(&statement);
                let text = Bytes::from(statement.text);
                let tag = hash(&text);
                asked = Some(text);
                (Some(shown), tag)
            }
            Operation::ReadResource { .. }
            | Operation::GetPrompt { .. }
            | Operation::Converse
            | Operation::Answer { .. }
            | Operation::Connect { .. } => (None, None),
        };
        let intent = Intent {
            decision: decision.id,
            agent: caller.agent.clone(),
            instance: caller.instance,
            proof: caller.proof,
            task: caller.task.task().id,
            server: action.server,
            method: shorten(&action.method, METHOD_CHARACTERS),
            target,
            arguments,
            arguments_hash,
            permitted: denial.is_none(),
            denial,
            policies: decision.policies.clone(),
            policy_version: decision.policy_version.clone(),
            permission,
            within: decided.within.clone(),
            approval: decided.approval,
            approval_level: decided.level,
            provenance: decided.checked.clone(),
            expected: action.expected,
            risk,
        };
        (intent, asked)
    }
}

/// Leave to forward one action, once. Its existence proves that the caller was authenticated, the
/// decision was to permit, and the intent is durable (R1). Dropped without [`Permit::finish`], it
/// records that the action was not forwarded, or that the agent went away.
pub struct Permit {
    decision: DecisionId,
    /// The approval that it used.
    approval: Option<ApprovalId>,
    /// What is held back from the budget for it.
    held: Spent,
    /// What it has used up so far.
    spent: Spent,
    /// What the enforcement point saw in it.
    notes: BTreeMap<String, serde_json::Value>,
    /// What its result is noted by.
    reading: Option<Reading>,
    /// What its rows are noted by.
    rows: Option<Box<RowReading>>,
    treatment: Treatment,
    /// What of its content is to be kept.
    payloads: Vec<Payload>,
    task: Arc<LiveTask>,
    live: Arc<Live>,
    signal: CutSignal,
    started: Instant,
    metrics: Arc<Metrics>,
    forwarded: bool,
    finished: bool,
}

/// Held while an action is on its way to an upstream. Whoever ends the task waits for it.
#[must_use = "drop it only when the request was handed over or abandoned"]
pub struct Dispatch {
    _token: TaskTrackerToken,
}

impl Permit {
    /// The decision that permits it.
    #[must_use]
    pub fn decision(&self) -> DecisionId {
        self.decision
    }

    /// The approval by a person that lets it through, if it needed one.
    #[must_use]
    pub fn approval(&self) -> Option<ApprovalId> {
        self.approval
    }

    /// Tells when the action must stop.
    #[must_use]
    pub fn signal(&self) -> CutSignal {
        self.signal.clone()
    }

    /// Step 6 begins: the last look at what is true before the request leaves. Hold the result
    /// until the upstream has the request or the attempt is abandoned, and race it against
    /// [`CutSignal::cut`].
    ///
    /// # Errors
    /// The permit is over: the task, the agent or the server was ended meanwhile. It is recorded.
    pub fn dispatch(&mut self) -> Result<Dispatch, Denied> {
        match self.task.begin_dispatch(&self.signal, Timestamp::now()) {
            Some(token) => {
                self.forwarded = true;
                Ok(Dispatch { _token: token })
            }
            None => {
                self.conclude(Ended::NotForwarded, 0, None);
                Err(self.cut_off())
            }
        }
    }

    /// What the agent is told when its action was cut off.
    #[must_use]
    pub fn cut_off(&self) -> Denied {
        Denied {
            decision: self.decision,
            denial: Denial {
                rule: Rule::TaskNotOpen,
                reason: "the task, the agent or the server was ended while this was under way"
                    .to_owned(),
                remedy: "see the audit log for who ended it and why; open a new task if you may"
                    .to_owned(),
            },
            requested: None,
            retry_after: None,
        }
    }

    /// Counts what the action has used up since the last time this was called: tokens, money, rows or
    /// bytes.
    ///
    /// # Errors
    /// [`Denied`] when an amount of the task's budget is used up now, so that the action must not go
    /// on. It is counted all the same.
    pub fn spend(&mut self, amount: Spent) -> Result<(), Denied> {
        self.spent = self.spent.plus(amount);
        // What was held back for it becomes what it spent.
        let left = self.held.minus(amount);
        let back = std::mem::replace(&mut self.held, left).minus(left);
        let mut over = None;
        for task in self.tasks() {
            let mut state = task.lock();
            state.usage.release(back);
            state.usage.spend(amount);
            let used = state.usage.spent();
            let mut amounts = task.grant().budget().amounts();
            over = over.or_else(|| amounts.find(|(_, limit, of)| of(&used) > *limit));
        }
        match over {
            None => Ok(()),
            Some((name, limit, _)) => Err(Denied {
                decision: self.decision,
                denial: Denial {
                    rule: Rule::BudgetExhausted,
                    reason: format!("the task allows {limit} {name} in all, and all were used"),
                    remedy: "open a new task for further work".to_owned(),
                },
                requested: None,
                retry_after: None,
            }),
        }
    }

    /// Adds to the record of its end what the enforcement point saw in it: names, sizes and salted
    /// hashes, never content. Keep it well below 16 KiB in all.
    pub fn note(&mut self, name: &str, what: impl Into<serde_json::Value>) {
        self.notes.insert(name.to_owned(), what.into());
    }

    /// The salted hash of a part of its content, for its notes; nothing at servers whose content is not
    /// hashed.
    #[must_use]
    pub fn hash(&self, part: &[u8]) -> Option<String> {
        self.treatment.hash(&self.task, part)
    }

    /// Keeps a part of its content, at servers whose content is sealed. `hash` is the part's
    /// [`Self::hash`]. Arguments and answers are kept by themselves.
    pub fn keep(&mut self, part: &'static str, content: &Bytes, hash: Option<String>) {
        self.payloads
            .extend(self.treatment.payload(part, content, hash));
    }

    /// Begins what its answer has to be passed through, for [`Self::finish`].
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.treatment, &self.task)
    }

    /// Whether the result of the action is of use to [`Self::note_result`].
    #[must_use]
    pub fn notes_result(&self) -> bool {
        self.reading.is_some()
    }

    /// Step 7: notes where the values in its result come from, before the agent has them. In one that
    /// failed nothing is trusted; results of MCP say so themselves.
    pub fn note_result(&self, result: &serde_json::Value, failed: bool) {
        if let Some(reading) = &self.reading {
            reading.note(result, failed);
        }
    }

    /// Whether rows that it gives are of use to [`Self::note_rows`].
    #[must_use]
    pub fn notes_rows(&self) -> bool {
        self.rows.is_some()
    }

    /// Step 7 at databases: notes where the values of rows come from, before the agent has them. `None`
    /// stands for a value that cannot be read.
    pub fn note_rows<'v, R>(&self, notes: &mut RowNotes, rows: impl Iterator<Item = R>)
    where
        R: Iterator<Item = Option<&'v str>>,
    {
        if let Some(reading) = &self.rows {
            reading.note(notes, rows);
        }
    }

    /// Says that the agent is given what nobody can look into: nothing of it may steer a call, and
    /// whoever is asked about one is told.
    pub fn miss_rows(&self) {
        if let Some(rows) = &self.rows {
            rows.miss();
        }
    }

    /// Step 8: records what became of it, with the hash of what the agent got.
    pub fn finish(mut self, ended: Ended, answer: Digest) {
        let (bytes, hash, payload) = answer.finish();
        self.payloads.extend(payload);
        self.conclude(ended, bytes, hash);
    }

    /// Ends it as dropping it does, with the hash of what the agent got until then.
    pub fn abandon(mut self, answer: Digest) {
        let (bytes, hash, payload) = answer.finish();
        self.payloads.extend(payload);
        let ended = self.dropped();
        self.conclude(ended, bytes, hash.filter(|_| bytes > 0));
    }

    /// How an action has ended whose permit goes without a word.
    fn dropped(&self) -> Ended {
        match (self.forwarded, self.signal.is_cut()) {
            (false, _) => Ended::NotForwarded,
            (true, true) => Ended::Cut,
            (true, false) => Ended::Cancelled,
        }
    }

    /// Gives back what was held for it, in its task and those that it is a part of.
    fn release(&self, held: Spent) {
        for task in self.tasks() {
            task.lock().usage.release(held);
        }
    }

    /// Its task, and those that it is a part of.
    fn tasks(&self) -> impl Iterator<Item = &Arc<LiveTask>> {
        std::iter::once(&self.task).chain(self.task.ancestors())
    }

    fn conclude(&mut self, ended: Ended, bytes: u64, hash: Option<String>) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let held = std::mem::take(&mut self.held);
        self.release(held);
        let taken = self.started.elapsed();
        self.metrics.ended(ended, taken);
        let mut result = ActionResult {
            decision: self.decision,
            task: self.task.task().id,
            within: self.task.ancestors().map(|above| above.task().id).collect(),
            ended,
            micros: u64::try_from(taken.as_micros()).unwrap_or(u64::MAX),
            bytes,
            hash,
            spent: self.spent,
            notes: std::mem::take(&mut self.notes),
        };
        let noted = self.reading.as_ref().and_then(Reading::noted);
        let noted = noted.or_else(|| self.rows.as_ref().and_then(|rows| rows.noted()));
        if let Some(noted) = noted {
            result.notes.insert(NOTED.to_owned(), noted.into());
        }
        let (live, metrics) = (Arc::clone(&self.live), Arc::clone(&self.metrics));
        let submit = move |result: ActionResult| {
            let decision = result.decision;
            let record = Record::new(Timestamp::now(), Event::Result(Box::new(result)));
            if let Err(error) = live.submit(record) {
                // The intent is durable, so the action is not lost; a missing result shows as such.
                tracing::error!(%error, %decision, "the result was not recorded");
                metrics.result_lost();
            }
        };
        let payloads = std::mem::take(&mut self.payloads);
        match &self.treatment {
            Treatment::Sealed(vault) if !payloads.is_empty() => {
                let metrics = Arc::clone(&self.metrics);
                let task = self.task.task();
                let (task, agent) = (task.id, task.agent.clone());
                // The record waits for the vault, so that it says what is so.
                vault.submit(Bundle::new(
                    task,
                    agent,
                    self.decision,
                    payloads,
                    move |kept| {
                        let lost = kept.iter().filter(|kept| kept.kept.is_err()).count();
                        metrics.contents_not_kept(lost as u64);
                        let noted = content::noted(&kept);
                        result.notes.insert("content".to_owned(), noted);
                        submit(result);
                    },
                ));
            }
            _ => submit(result),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let ended = self.dropped();
        self.conclude(ended, 0, None);
    }
}

impl Dispatch {
    /// Leave to tell an upstream that a request of its own was refused. That is no action of the
    /// agent, but it leaves only while the agent's task may still speak to the upstream.
    pub(crate) fn of_refusal(caller: &Caller) -> Option<Self> {
        caller.begin_dispatch().map(|token| Self { _token: token })
    }
}

fn audit_unavailable() -> Denial {
    Denial {
        rule: Rule::AuditUnavailable,
        reason: "the audit log cannot be written, so nothing may be forwarded".to_owned(),
        remedy: "an operator must make the log writable again (see /readyz); then retry".to_owned(),
    }
}

/// Ten random bytes for an identifier, drawn from the operating system for many of them at once: a
/// system call for each would be felt. They are unique, and nobody's secret.
pub(crate) fn random() -> [u8; 10] {
    const DRAWN: usize = 100;
    thread_local! {
        static LEFT: std::cell::RefCell<Vec<[u8; 10]>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    LEFT.with_borrow_mut(|left| {
        left.pop().unwrap_or_else(|| {
            let mut bytes = [[0; 10]; DRAWN];
            getrandom::fill(bytes.as_flattened_mut())
                .expect("the operating system gives randomness");
            left.extend_from_slice(&bytes[1..]);
            bytes[0]
        })
    })
}
