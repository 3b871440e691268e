//! The path of one action, written once and shared by every enforcement point.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use model::record::{ActionResult, Ended, Event, Intent, Record, Within};
use model::{Action, Decision, DecisionId, Denial, Operation, Outcome, Rule, ServerName, Spent};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::caller::{Asked, Authenticator, Caller, Credentials, Unauthenticated};
use crate::hex;
use crate::live::{CutSignal, Live, LiveTask};
use crate::metrics::Metrics;
use crate::provenance::{self, Reading};
use crate::redaction::{Redactor, shorten};
use crate::refusals::Refusals;
use crate::resource::Route;

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
    metrics: Arc<Metrics>,
}

/// An action that was refused, with what the agent is told.
#[derive(Debug, Clone)]
pub struct Denied {
    /// Names the decision in the record.
    pub decision: DecisionId,
    /// The rule, the reason and what would lift it.
    pub denial: Denial,
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
            live,
            authenticator,
            redactor: arc_swap::ArcSwap::from_pointee(redactor),
            metrics,
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
    pub fn authenticate(
        &self,
        method: &http::Method,
        route: &Route,
        rest: &str,
        base_url: &str,
        headers: &HeaderMap,
    ) -> Result<Caller, Unauthenticated> {
        match Credentials::of(headers) {
            Ok(credentials) => {
                let method = method.as_str();
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
        self.authenticator
            .authenticate(&self.live, &asked, credentials, Timestamp::now())
            .map_err(|refused| self.unauthenticated(route, refused))
    }

    fn unauthenticated(&self, route: &Route, refused: Unauthenticated) -> Unauthenticated {
        self.metrics.refused();
        let now = Timestamp::now();
        self.refusals
            .note(now, &route.path(), None, refused.denial());
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
        let caller = caller.map(|caller| caller.instance.to_string());
        self.refusals
            .note(Timestamp::now(), endpoint, caller, denial);
    }

    /// Steps 4 and 5: decides the action and records the intent durably. The permit is the only
    /// way to go on, and holds only until something ends the task, the agent or the server.
    ///
    /// # Errors
    /// [`Denied`] when the decision is to deny, or when the log cannot be written (R4).
    pub async fn attempt(&self, caller: &Caller, action: Action) -> Result<Permit, Denied> {
        let started = Instant::now();
        let now = Timestamp::now();
        let id = DecisionId::new(now, random());
        let (decision, within) = self.decide(caller, &action, now, id);
        let expected = if action.operation.is_charged() {
            action.expected
        } else {
            Spent::default()
        };
        let reading = decision
            .is_permit()
            .then(|| Reading::of(&self.live.annotated(), &caller.task, &action))
            .flatten();
        let intent = self.intent(caller, action, &decision, within);
        let server = intent.server.clone();
        let record = Record::new(now, Event::Intent(Box::new(intent)));
        let denied = |denial| {
            let known = self.live.world().server(&server).is_some();
            self.metrics.denied(known.then_some(&server), &denial);
            Err(Denied {
                decision: id,
                denial,
            })
        };
        // Made before the wait, so that an agent that goes away meanwhile leaves a result behind:
        // results follow their intents through one queue. Given out only after it.
        let mut permit = decision.is_permit().then(|| Permit {
            decision: id,
            held: expected,
            spent: Spent::default(),
            notes: BTreeMap::new(),
            reading,
            task: Arc::clone(&caller.task),
            live: Arc::clone(&self.live),
            signal: caller.signal.clone(),
            started,
            metrics: Arc::clone(&self.metrics),
            forwarded: false,
            finished: false,
        });
        if let Err(error) = self.live.record(&record).await {
            tracing::error!(%error, "the audit log cannot be written: denying");
            // Nothing was recorded, so there is no result either. What was charged stays charged:
            // the budget errs on the side of less.
            if let Some(permit) = &mut permit {
                permit.finished = true;
                permit.release(permit.held);
            }
            return denied(audit_unavailable());
        }
        match (decision.outcome, permit) {
            (Outcome::Deny(denial), _) => denied(denial),
            (Outcome::Permit { .. }, permit) => {
                self.metrics.permitted(&server);
                Ok(permit.expect("made above for every permit"))
            }
        }
    }

    /// Step 4: the pure decision on what is true right now, charging the budget in the same breath.
    fn decide(
        &self,
        caller: &Caller,
        action: &Action,
        now: Timestamp,
        id: DecisionId,
    ) -> (Decision, Vec<Within>) {
        let mut state = caller.task.lock();
        // After the lock and after the caller's signal was taken: a world that withdraws something
        // is published before the cut, so either it is seen here or the signal is cancelled.
        let world = self.live.world();
        let mut decision = match state.ended_status() {
            Some(status) => Decision {
                id,
                outcome: Outcome::Deny(Denial {
                    rule: Rule::TaskNotOpen,
                    reason: format!("the task is {}", status.as_str()),
                    remedy: "open a new task".to_owned(),
                }),
                policies: Vec::new(),
                policy_version: world.policies().version().to_owned(),
            },
            None => policy::decide(
                &world,
                &policy::Attempt {
                    caller: caller.facts(),
                    task: caller.task.task(),
                    grant: caller.task.grant(),
                    usage: &state.usage,
                    action,
                    now,
                    id,
                },
            ),
        };
        if decision.is_permit() {
            let annotated = self.live.annotated();
            let shown = |text: &str| self.shown(text);
            if let Some(denial) = provenance::check(&annotated, &caller.task, action, shown) {
                decision.outcome = Outcome::Deny(denial);
            }
        }
        let mut within = Vec::new();
        if decision.is_permit() {
            match self.within(caller, action, &world, now, id) {
                Ok((found, policies)) => {
                    within = found;
                    decision.policies.extend(policies);
                    decision.policies.sort_unstable();
                    decision.policies.dedup();
                }
                Err(denial) => decision.outcome = Outcome::Deny(denial),
            }
        }
        state.usage.charge(action, &decision.outcome);
        (decision, within)
    }

    /// Decides the action once more for each task that the caller's is a part of, as if whose task that
    /// is attempted it, and charges it to all of them or to none. So no chain of tasks permits what its
    /// first one does not, however often and by whomever.
    fn within(
        &self,
        caller: &Caller,
        action: &Action,
        world: &policy::World,
        now: Timestamp,
        id: DecisionId,
    ) -> Result<(Vec<Within>, Vec<String>), Denial> {
        let refuse = |rule, reason: &str| Denial {
            rule,
            reason: reason.to_owned(),
            remedy:
                "whoever delegated the task can see what it allows; open a task of your own if \
                     you may"
                    .to_owned(),
        };
        let mut held = Vec::new();
        let (mut within, mut policies) = (Vec::new(), Vec::new());
        // Always from a part to the whole, so that two never wait for each other.
        for above in caller.task.ancestors() {
            let state = above.lock();
            let task = above.task();
            let instance = task.instance.unwrap_or(caller.instance);
            if state.ended_status().is_some()
                || task
                    .instance
                    .is_some_and(|owner| self.live.is_disabled(&owner))
            {
                return Err(refuse(
                    Rule::TaskNotOpen,
                    "the task that this one is a part of is over",
                ));
            }
            let decision = policy::decide(
                world,
                &policy::Attempt {
                    caller: policy::Caller {
                        agent: &task.agent,
                        instance: &instance,
                        proof: caller.proof,
                    },
                    task,
                    grant: above.grant(),
                    usage: &state.usage,
                    action,
                    now,
                    id,
                },
            );
            policies.extend(decision.policies);
            match decision.outcome {
                Outcome::Permit { permission, tool } => {
                    within.push(Within {
                        task: task.id,
                        permission: (permission, tool),
                    });
                    held.push((state, decision.outcome));
                }
                // Its reasons are not the caller's to know.
                Outcome::Deny(denial) => {
                    return Err(refuse(
                        denial.rule,
                        "the task that this one is a part of does not allow it",
                    ));
                }
            }
        }
        for (mut state, outcome) in held {
            state.usage.charge(action, &outcome);
        }
        Ok((within, policies))
    }

    fn intent(
        &self,
        caller: &Caller,
        action: Action,
        decision: &Decision,
        within: Vec<Within>,
    ) -> Intent {
        let (permission, denial) = match &decision.outcome {
            Outcome::Permit { permission, tool } => (Some((*permission, *tool)), None),
            Outcome::Deny(denial) => (None, Some(denial.clone())),
        };
        let denial = denial.map(|denial| Denial {
            rule: denial.rule,
            reason: shorten(&denial.reason, REASON_CHARACTERS),
            remedy: shorten(&denial.remedy, REASON_CHARACTERS),
        });
        let target = shorten(&action.operation.target(), TARGET_CHARACTERS);
        let hash = |text: &[u8]| Some(hex(hmac::sign(caller.task.salt(), text).as_ref()));
        let (arguments, arguments_hash) = match action.operation {
            Operation::CallTool { arguments, .. }
            | Operation::Request { arguments, .. }
            | Operation::Generate { arguments, .. }
            | Operation::Message { arguments, .. } => {
                let tag = hash(&serde_json::to_vec(&arguments).unwrap_or_default());
                let shown = self
                    .redactor
                    .load()
                    .view(arguments, caller.task.grant(), permission);
                (Some(shown), tag)
            }
            Operation::Query { statement } => {
                let shown = self.redactor.load().statement(&statement);
                (Some(shown), hash(statement.text.as_bytes()))
            }
            Operation::ReadResource { .. }
            | Operation::GetPrompt { .. }
            | Operation::Converse
            | Operation::Answer { .. } => (None, None),
        };
        Intent {
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
            within,
            expected: action.expected,
        }
    }
}

/// Leave to forward one action, once. Its existence proves that the caller was authenticated, the
/// decision was to permit, and the intent is durable (R1). Dropped without [`Permit::finish`], it
/// records that the action was not forwarded, or that the agent went away.
pub struct Permit {
    decision: DecisionId,
    /// What is held back from the budget for it.
    held: Spent,
    /// What it has used up so far.
    spent: Spent,
    /// What the enforcement point saw in it.
    notes: BTreeMap<String, serde_json::Value>,
    /// What its result is noted by.
    reading: Option<Reading>,
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
            }),
        }
    }

    /// Adds to the record of its end what the enforcement point saw in it: names, sizes and salted
    /// hashes, never content. Keep it well below 16 KiB in all.
    pub fn note(&mut self, name: &str, what: impl Into<serde_json::Value>) {
        self.notes.insert(name.to_owned(), what.into());
    }

    /// Whether the result of the action is of use to [`Self::note_result`].
    pub(crate) fn notes_result(&self) -> bool {
        self.reading.is_some()
    }

    /// Step 7: notes where the values in its result come from, before the agent has them.
    pub(crate) fn note_result(&self, result: &serde_json::Value) {
        if let Some(reading) = &self.reading {
            reading.note(result);
        }
    }

    /// Step 8: records what became of it, with the hash of what the agent got.
    pub fn finish(mut self, ended: Ended, answer: Digest) {
        let tag = hex(answer.context.sign().as_ref());
        self.conclude(ended, answer.bytes, Some(tag));
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
        let result = ActionResult {
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
        let record = Record::new(Timestamp::now(), Event::Result(Box::new(result)));
        if let Err(error) = self.live.audit().submit(Bytes::from(record.to_bytes())) {
            // The intent is durable, so the action is not lost; a missing result shows as such.
            tracing::error!(%error, decision = %self.decision, "the result was not recorded");
            self.metrics.result_lost();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let ended = match (self.forwarded, self.signal.is_cut()) {
            (false, _) => Ended::NotForwarded,
            (true, true) => Ended::Cut,
            (true, false) => Ended::Cancelled,
        };
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

/// The salted hash and the length of an answer, taken while it passes.
#[derive(Clone)]
pub struct Digest {
    context: hmac::Context,
    bytes: u64,
}

impl Digest {
    /// Begins the hash of an answer, keyed with the salt of the task that it is for.
    #[must_use]
    pub fn new(task: &LiveTask) -> Self {
        Self {
            context: hmac::Context::with_key(task.salt()),
            bytes: 0,
        }
    }

    /// Takes in the next bytes of the answer.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// The salted hash of what was taken in so far, in hexadecimal.
    #[must_use]
    pub fn tag(&self) -> String {
        hex(self.context.clone().sign().as_ref())
    }
}

fn audit_unavailable() -> Denial {
    Denial {
        rule: Rule::AuditUnavailable,
        reason: "the audit log cannot be written, so nothing may be forwarded".to_owned(),
        remedy: "an operator must make the log writable again (see /readyz); then retry".to_owned(),
    }
}

/// Ten random bytes for an identifier.
pub(crate) fn random() -> [u8; 10] {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}
