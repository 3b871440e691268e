//! Step 4: the decision on one action, and what of it a person must be asked.

use jiff::Timestamp;
use model::approval::{Approval, ApprovalLevel, ApprovalStatus};
use model::provenance::{Asked, Checked};
use model::record::Within;
use model::{
    Action, ApprovalId, Decision, DecisionId, Denial, Operation, Outcome, Rule, ServerName,
};
use monitor::{Asi, Finding, Severity, Subject};
use policy::Caution;

use super::{Pipeline, random};
use crate::approvals::{Call, Requested, Shown, Standing, Unfiled, asked_whole, changes};
use crate::caller::Caller;
use crate::inspection::{Observed, What};
use crate::provenance;

/// Longest tool name and the like in a request for approval, in characters.
const TARGET_CHARACTERS: usize = 512;

/// A decision, with all that its record says of it.
pub(super) struct Decided {
    pub(super) decision: Decision,
    /// What covered it in the tasks that the caller's is a part of.
    pub(super) within: Vec<Within>,
    /// How much needed a person then.
    pub(super) level: ApprovalLevel,
    /// What was found about where its arguments come from.
    pub(super) checked: Option<Box<Checked>>,
    /// The approval that lets it through, or that a person is asked for.
    pub(super) approval: Option<ApprovalId>,
    /// What the agent is told about that.
    pub(super) requested: Option<Box<Requested>>,
    /// What a person is to be asked.
    wanted: Option<Wanted>,
}

/// What a person is to be asked about an action.
struct Wanted {
    call: Call,
    asked: Vec<Asked>,
    standing: Standing,
}

impl Pipeline {
    /// Whether an argument may pass that nobody looks into: at servers without annotations, and where
    /// they say that it affects nobody whatever it says.
    #[must_use]
    pub fn may_pass_unseen(&self, server: &ServerName, target: &str, argument: &str) -> bool {
        let annotated = self.live.annotated();
        let annotations = annotated.get(server);
        annotations.is_none_or(|annotations| annotations.is_content(target, argument))
    }

    /// Whether somebody says of a server what in its calls decides who or what is affected.
    #[must_use]
    pub fn is_annotated(&self, server: &ServerName) -> bool {
        self.live.annotated().contains_key(server)
    }

    /// Why a statement may not be carried out that touches no table but hands values to functions, if a
    /// value is not derivable. People cannot be asked about it.
    #[must_use]
    pub fn refuses_values(
        &self,
        caller: &Caller,
        server: &ServerName,
        steered: &[model::Steered],
    ) -> Option<Denial> {
        let annotated = self.live.annotated();
        let shown = |text: &str| self.shown(text);
        provenance::refuses(&annotated, &caller.task, server, steered, shown)
    }

    /// The decision on what is true right now, charging the budget in the same breath; then what it
    /// needs of people, durably.
    pub(super) async fn decided(
        &self,
        caller: &Caller,
        facts: policy::Caller<'_>,
        action: &Action,
        now: Timestamp,
        id: DecisionId,
    ) -> Decided {
        let mut decided = self.decide(caller, facts, action, now, id);
        if let (true, Some(approval)) = (decided.decision.is_permit(), decided.approval) {
            self.claim(&mut decided, approval).await;
        }
        if let Some(wanted) = decided.wanted.take() {
            self.ask_people(caller, action, &mut decided, wanted, now)
                .await;
        }
        decided
    }

    /// The pure decision, and everything that is counted under the task's lock.
    fn decide(
        &self,
        caller: &Caller,
        facts: policy::Caller<'_>,
        action: &Action,
        now: Timestamp,
        id: DecisionId,
    ) -> Decided {
        // Before the lock: it takes as long as there is text.
        let blocked = self.inspection.action(caller, action, id);
        let annotated = self.live.annotated();
        let level = self.live.approvals().level(&caller.task, facts.risk, now);
        let caution = Caution {
            level,
            changes: !level.is_usual() && changes(&annotated, action),
        };
        let mut state = caller.task.lock();
        // After the lock and after the caller's signal was taken: a world that withdraws something
        // is published before the cut, so either it is seen here or the signal is cancelled.
        let world = self.live.world();
        let decision = match state.ended_status() {
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
                    caller: facts,
                    task: caller.task.task(),
                    grant: caller.task.grant(),
                    usage: &state.usage,
                    action,
                    caution,
                    now,
                    id,
                },
            ),
        };
        let mut decided = Decided {
            decision,
            within: Vec::new(),
            level,
            checked: None,
            approval: None,
            requested: None,
            wanted: None,
        };
        let Some((permission, tool)) = decided.decision.outcome.covered_by() else {
            return decided;
        };
        let mut why = decided.decision.outcome.denial().cloned();
        let mut asked = Vec::new();
        if let Some(found) = provenance::check(&annotated, &caller.task, action) {
            let shown = |text: &str| self.shown(text);
            decided.checked = Some(Box::new(found.for_record(shown)));
            if let Some(denial) = found.denial(shown) {
                why = Some(both(denial, why));
                asked = found.asked;
                if found.more {
                    // Nobody can judge what nobody is shown.
                    decided.decision.outcome = Outcome::Deny(why.unwrap_or_else(unjudged));
                    return decided;
                }
            }
        }
        let task = caller.task.task();
        if let Some(denial) = self.contents.refuses(task, &action.server) {
            decided.decision.outcome = Outcome::Deny(denial);
            return decided;
        }
        if let Some(denial) = blocked {
            decided.decision.outcome = Outcome::Deny(denial);
            return decided;
        }
        let above = match self.within(caller, action, &world, &annotated, now, id) {
            Ok(above) => above,
            Err(denial) => {
                decided.decision.outcome = Outcome::Deny(denial);
                return decided;
            }
        };
        decided.within = above.within;
        decided.decision.policies.extend(above.policies);
        decided.decision.policies.sort_unstable();
        decided.decision.policies.dedup();
        if let Some(denial) = above.asks {
            why = Some(match why {
                Some(own) => own,
                None => denial,
            });
        }
        decided.decision.outcome = match why {
            None => Outcome::Permit { permission, tool },
            Some(denial) => {
                let call = Call::new(&caller.task, action);
                decided.approval = state.book.take(&call, &asked, now);
                match decided.approval {
                    Some(_) => Outcome::Permit { permission, tool },
                    None if !asked_whole(&asked) => Outcome::Deny(denial),
                    None => {
                        let id = ApprovalId::new(now, random());
                        let ends = caller.task.task().expires_at;
                        let settings = self.live.approvals().settings();
                        let standing = state.book.request(&call, id, now, ends, &settings);
                        decided.wanted = Some(Wanted {
                            call,
                            asked,
                            standing,
                        });
                        Outcome::Ask {
                            permission,
                            tool,
                            denial,
                        }
                    }
                }
            }
        };
        if decided.decision.is_permit() {
            state.usage.charge(action, &decided.decision.outcome);
            for (mut state, outcome) in above.held {
                state.usage.charge(action, &outcome);
            }
        }
        decided
    }

    /// Counts the use of an approval where it stays counted, or refuses the action after all. What was
    /// charged stays charged: the budget errs on the side of less.
    async fn claim(&self, decided: &mut Decided, approval: ApprovalId) {
        let claimed = match self.live.approvals().desk() {
            Some(desk) => desk.claim(approval, decided.decision.id).await,
            None => false,
        };
        if !claimed {
            decided.decision.outcome = Outcome::Deny(Denial {
                rule: Rule::ApprovalNeeded,
                reason: "the approval for it is over, was taken back, or cannot be counted now"
                    .to_owned(),
                remedy: "send the same again: if it still needs a person, one is asked".to_owned(),
            });
        }
    }

    /// Leaves a request for approval on the desk, unless there is one, and says so in the denial. What
    /// cannot be asked is denied.
    async fn ask_people(
        &self,
        caller: &Caller,
        action: &Action,
        decided: &mut Decided,
        wanted: Wanted,
        now: Timestamp,
    ) {
        let Outcome::Ask { denial, .. } = &mut decided.decision.outcome else {
            return;
        };
        let deny = |mut denial: Denial, why: &str, remedy: &str| {
            denial.reason = format!("{} ({why})", denial.reason);
            denial.remedy = remedy.to_owned();
            Outcome::Deny(denial)
        };
        let (id, filed, until) = match &wanted.standing {
            Standing::Waiting { id, filed, until } => (*id, *filed, *until),
            Standing::Refused(id) => {
                decided.approval = Some(*id);
                let denial = denial.clone();
                decided.decision.outcome = deny(
                    denial,
                    "a person was asked and refused it",
                    "do without it; a person who changed their mind opens another task",
                );
                return;
            }
            Standing::TooMany { why, first } => {
                if *first {
                    self.report_pressure(caller, action, why, decided.decision.id, now);
                }
                decided.decision.outcome = deny(denial.clone(), why, DECIDE_FIRST);
                return;
            }
        };
        let Some(desk) = self.live.approvals().desk() else {
            caller.task.lock().book.forget(id);
            decided.decision.outcome = Outcome::Deny(denial.clone());
            return;
        };
        if !filed {
            let request = self.request(
                caller,
                action,
                denial,
                &wanted,
                id,
                until,
                now,
                decided.decision.id,
            );
            match desk.file(request).await {
                Ok(()) => caller.task.lock().book.filed(id),
                Err(error) => {
                    caller.task.lock().book.forget(id);
                    if matches!(error, Unfiled::TooMany(_)) {
                        let why = error.to_string();
                        self.report_pressure(caller, action, &why, decided.decision.id, now);
                    }
                    decided.decision.outcome =
                        deny(denial.clone(), &error.to_string(), DECIDE_FIRST);
                    return;
                }
            }
        }
        denial.remedy = format!(
            "a person must approve it: `sallyport approvals show {id}` shows what is asked; when it is \
             approved, send the same again"
        );
        decided.approval = Some(id);
        decided.requested = Some(Box::new(Requested {
            id,
            url: desk.url(id),
            expires_at: until,
        }));
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is a different thing, and they are put together once"
    )]
    fn request(
        &self,
        caller: &Caller,
        action: &Action,
        denial: &Denial,
        wanted: &Wanted,
        id: ApprovalId,
        until: Timestamp,
        now: Timestamp,
        decision: DecisionId,
    ) -> Approval {
        let redactor = self.redactor.load();
        let shown = Shown(&redactor);
        let task = caller.task.task();
        let arguments = match &action.operation {
            Operation::Query { statement } => shown.statement(&statement.text),
            operation => match operation.call() {
                Some((_, _, arguments)) => shown.arguments(arguments),
                None => serde_json::Value::Null,
            },
        };
        Approval {
            id,
            task: task.id,
            agent: task.agent.clone(),
            template: task.template.clone(),
            purpose: shown.text(&task.purpose, TARGET_CHARACTERS),
            decision,
            server: action.server.clone(),
            method: shown.text(&action.method, TARGET_CHARACTERS),
            kind: wanted.call.of.kind().to_owned(),
            target: shown.text(&action.operation.target(), TARGET_CHARACTERS),
            rule: denial.rule,
            reason: ::provenance::visible(&denial.reason, 1_000),
            asked: shown.asked(&wanted.asked),
            arguments,
            call: wanted.call.tag.clone(),
            asked_at: now,
            expires_at: until,
            status: ApprovalStatus::Pending,
            decided: None,
            used: 0,
        }
    }

    /// Says that an agent asks people too often: whoever is asked so often stops to read.
    fn report_pressure(
        &self,
        caller: &Caller,
        action: &Action,
        why: &str,
        decision: DecisionId,
        now: Timestamp,
    ) {
        self.inspection.sink().put(Observed {
            at: now,
            what: What::Arguments,
            decision: Some(decision),
            response: model::inspection::Response::Report,
            finding: Finding {
                rule: "approval-flood".to_owned(),
                severity: Severity::Medium,
                asi: Some(Asi::Asi09),
                atlas: None,
                subject: Subject {
                    agent: Some(caller.agent.clone()),
                    task: Some(caller.task.task().id),
                    server: Some(action.server.clone()),
                    target: Some(::provenance::visible(&action.operation.target(), 256)),
                },
                evidence: None,
                explanation: format!(
                    "Agent {} asks for more approvals than people can read: {why}",
                    caller.agent
                ),
            },
        });
    }

    /// Decides the action once more for each task that the caller's is a part of, as if whose task that
    /// is attempted it. So no chain of tasks permits what its first one does not, however often and by
    /// whomever. What comes back is to be charged to all of them or to none.
    fn within<'a>(
        &self,
        caller: &'a Caller,
        action: &Action,
        world: &policy::World,
        annotated: &provenance::Annotated,
        now: Timestamp,
        id: DecisionId,
    ) -> Result<Above<'a>, Denial> {
        let mut above = Above::default();
        // Always from a part to the whole, so that two never wait for each other.
        for whole in caller.task.ancestors() {
            let state = whole.lock();
            let task = whole.task();
            let instance = task.instance.unwrap_or(caller.instance);
            if state.ended_status().is_some()
                || task
                    .instance
                    .is_some_and(|owner| self.live.is_disabled(&owner))
            {
                return Err(not_within(
                    Rule::TaskNotOpen,
                    "the task that this one is a part of is over",
                ));
            }
            let risk = whole.risk();
            let level = self.live.approvals().level(whole, risk, now);
            let decision = policy::decide(
                world,
                &policy::Attempt {
                    caller: policy::Caller {
                        agent: &task.agent,
                        instance: &instance,
                        proof: caller.proof,
                        risk,
                    },
                    task,
                    grant: whole.grant(),
                    usage: &state.usage,
                    action,
                    caution: Caution {
                        level,
                        changes: !level.is_usual() && changes(annotated, action),
                    },
                    now,
                    id,
                },
            );
            above.policies.extend(decision.policies);
            match decision.outcome.covered_by() {
                Some(permission) => {
                    above.within.push(Within {
                        task: task.id,
                        permission,
                        risk,
                    });
                    if decision.outcome.denial().is_some() {
                        above.asks = Some(not_within(
                            Rule::ApprovalNeeded,
                            "the task that this one is a part of allows it only with a person's approval",
                        ));
                    }
                    let (permission, tool) = permission;
                    above
                        .held
                        .push((state, Outcome::Permit { permission, tool }));
                }
                // Its reasons are not the caller's to know.
                None => {
                    let rule = decision
                        .outcome
                        .denial()
                        .map_or(Rule::NotGranted, |denial| denial.rule);
                    return Err(not_within(
                        rule,
                        "the task that this one is a part of does not allow it",
                    ));
                }
            }
        }
        Ok(above)
    }
}

/// What the tasks say that the caller's is a part of, with what is to be charged.
#[derive(Default)]
struct Above<'a> {
    held: Vec<(parking_lot::MutexGuard<'a, crate::live::State>, Outcome)>,
    within: Vec<Within>,
    policies: Vec<String>,
    /// Why a person must approve it, if one of them says so.
    asks: Option<Denial>,
}

const DECIDE_FIRST: &str =
    "wait until a person has decided what waits; `sallyport approvals list` shows it";

fn not_within(rule: Rule, reason: &str) -> Denial {
    Denial {
        rule,
        reason: reason.to_owned(),
        remedy: "whoever delegated the task can see what it allows; open a task of your own if \
                 you may"
            .to_owned(),
    }
}

fn unjudged() -> Denial {
    Denial {
        rule: Rule::Provenance,
        reason: "there are more values in it than anybody can look at".to_owned(),
        remedy: "send less at once".to_owned(),
    }
}

/// Two reasons to ask about one action: the first one counts, and both are told.
fn both(first: Denial, second: Option<Denial>) -> Denial {
    match second {
        Some(second) => Denial {
            reason: format!("{}; besides, {}", first.reason, second.reason),
            ..first
        },
        None => first,
    }
}
