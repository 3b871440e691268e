//! The decision.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use model::grant::{PermissionKind, TablePermission};
use model::{
    Action, AgentName, ApprovalLevel, Decision, DecisionId, Denial, InstanceId, Operation, Outcome,
    Proof, ServerName, Statement, TableAccess, TableOperation, Task, TaskStatus,
};

use crate::arguments::Refused;
use crate::contexts::Circumstances;
use crate::denials;
use crate::entities::{Verb, context};
use crate::grant::{AtServer, CompiledGrant};
use crate::policies::{Answer, Verdict};
use crate::uri;
use crate::usage::Usage;
use crate::world::{AgentEntry, ServerEntry, World};

/// Who attempts something, as authenticated.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The agent.
    pub agent: &'a AgentName,
    /// The instance.
    pub instance: &'a InstanceId,
    /// How it proved possession of its key on this call.
    pub proof: Proof,
    /// How bad it and its task look right now, whichever is more: 0 to 100.
    pub risk: u8,
}

/// Everything that one decision depends on, besides the world.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// Who attempts it.
    pub caller: Caller<'a>,
    /// Under which task.
    pub task: &'a Task,
    /// The task's grant, compiled.
    pub grant: &'a CompiledGrant,
    /// What the task has used so far.
    pub usage: &'a Usage,
    /// What is attempted.
    pub action: &'a Action,
    /// How much needs a person besides.
    pub caution: Caution,
    /// When.
    pub now: Timestamp,
    /// The name of the decision.
    pub id: DecisionId,
}

/// How much needs a person's approval, besides what the grant and the policies say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caution {
    /// The level that holds for the agent and the task, and those that it is a part of.
    pub level: ApprovalLevel,
    /// Whether the action changes something, as far as anybody said.
    pub changes: bool,
}

impl Caution {
    fn wants_approval(self) -> bool {
        match self.level {
            ApprovalLevel::Usual => false,
            ApprovalLevel::Changes => self.changes,
            ApprovalLevel::All => true,
        }
    }
}

/// An item of a server's listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed<'a> {
    /// A tool, by name.
    Tool(&'a str),
    /// A prompt, by name.
    Prompt(&'a str),
    /// A resource, by URI.
    Resource(&'a str),
    /// A resource template, by its URI template (RFC 6570).
    ResourceTemplate(&'a str),
    /// An endpoint of an HTTP API, such as `GET /customers/{id}`.
    Endpoint(&'a str),
    /// A model, by name.
    Model(&'a str),
    /// A skill of another agent, by id.
    Skill(&'a str),
}

/// Decides whether an action may go on. Everything must agree, in this order: the agent is active;
/// the task is open and the caller's; the proof is strong enough; the server is granted and enabled;
/// the operation is granted; its arguments hold; the tool's definition was approved; there is budget
/// left; the policies permit it.
///
/// What all of them allow may still need a person: where the permission, the policies or the level of
/// caution say so, the outcome is to ask.
///
/// Pure: the same world and attempt give the same decision. When several tool permissions cover a
/// call, the first whose constraints hold and which has budget left permits it, and of these one that
/// needs no approval before those that do.
#[must_use]
pub fn decide(world: &World, attempt: &Attempt<'_>) -> Decision {
    let (outcome, policies) = match weigh(world, attempt) {
        Ok(Weighed {
            granted: Granted {
                permission, tool, ..
            },
            policies,
            ask,
        }) => {
            let outcome = match ask {
                None => Outcome::Permit { permission, tool },
                Some(denial) => Outcome::Ask {
                    permission,
                    tool,
                    denial,
                },
            };
            (outcome, policies)
        }
        Err((denial, policies)) => (Outcome::Deny(denial), policies),
    };
    Decision {
        id: attempt.id,
        outcome,
        policies,
        policy_version: world.policies().version().to_owned(),
    }
}

/// What nothing refuses.
struct Weighed {
    granted: Granted,
    policies: Vec<String>,
    /// Why a person must approve it, if one must.
    ask: Option<Denial>,
}

/// What covers an action.
struct Granted {
    permission: usize,
    tool: Option<usize>,
    /// Whether it does so only with a person's approval.
    asks: bool,
}

type Refusal = (Denial, Vec<String>);

fn weigh(world: &World, attempt: &Attempt<'_>) -> Result<Weighed, Refusal> {
    let by_grant = |denial| (denial, Vec::new());
    let Attempt {
        caller,
        task,
        grant,
        action,
        ..
    } = attempt;
    let agent = stand(world, caller, task, grant, attempt.now).map_err(by_grant)?;
    let (name, server, at) = reach(world, grant, &action.server).map_err(by_grant)?;
    let granted = grants(attempt, at).map_err(by_grant)?;
    if let Some(held) = world.holds().holds_back(name, &action.operation) {
        return Err(by_grant(denials::tool_disabled(&action.operation, held)));
    }
    if let Operation::CallTool { tool, .. } = &action.operation
        && let Some(tools) = world.tools(&action.server)
        && let Err(why) = tools.may_call(tool)
    {
        return Err(by_grant(denials::tool_quarantined(
            &action.server,
            tool,
            why,
        )));
    }
    let mut wanted = None;
    if action.operation.is_charged() {
        within_budget(attempt).map_err(by_grant)?;
        if granted.asks {
            wanted = Some(denials::template_asks(&action.operation));
        } else if attempt.caution.wants_approval() {
            wanted = Some(denials::level_asks(attempt.caution.level));
        }
    }
    let mut policies_ask = false;
    let circumstances = match action.operation {
        Operation::Answer { request } => {
            let request = Some(denials::request_word(request));
            let context = context(task, caller.proof, caller.risk, request);
            Arc::new(Circumstances::new(context))
        }
        _ => grant.contexts.of(task, caller.proof, caller.risk),
    };
    let mut ask = |verb, target: &str| {
        let server = (name, &server.known);
        let verdict = world
            .policies()
            .ask(&agent.known, server, verb, target, &circumstances);
        let Verdict { answer, policies } = verdict;
        match answer {
            Answer::Permitted => Ok(policies),
            Answer::Asks => {
                policies_ask = true;
                Ok(policies)
            }
            Answer::Forbidden => Err((denials::policy_forbids(), policies)),
            Answer::NotPermitted => Err((denials::no_policy_permits(), policies)),
            Answer::Failed => Err((denials::policy_error(), policies)),
        }
    };
    let policies = match (&action.operation, Verb::of(&action.operation)) {
        (Operation::Query { statement }, _) => {
            let mut policies = BTreeSet::new();
            for access in &statement.accesses {
                let verb = Verb::of_table(access.operation);
                policies.extend(ask(verb, &access.table)?);
            }
            policies.into_iter().collect()
        }
        (operation, Some(verb)) => ask(verb, &operation.target())?,
        (_, None) => {
            return Err(by_grant(denials::not_granted(
                &action.server,
                &action.operation,
            )));
        }
    };
    if policies_ask {
        match &action.operation {
            // Whoever may call something may talk about it.
            Operation::Converse => {}
            // It is over before anybody could be asked.
            Operation::Answer { .. } => return Err((denials::policy_forbids(), policies)),
            operation => wanted = wanted.or_else(|| Some(denials::policy_asks(operation))),
        }
    }
    Ok(Weighed {
        granted,
        policies,
        ask: wanted,
    })
}

/// The budget over all permissions: actions, and what they use up.
fn within_budget(attempt: &Attempt<'_>) -> Result<(), Denial> {
    let budget = &attempt.grant.budget;
    if attempt.usage.calls() >= budget.calls {
        return Err(denials::budget_exhausted(budget.calls));
    }
    if let Some((name, limit)) = attempt.usage.exceeded(budget, &attempt.action.expected) {
        return Err(denials::amount_exhausted(name, limit));
    }
    Ok(())
}

/// The caller's standing: agent, task and proof.
fn stand<'a>(
    world: &'a World,
    caller: &Caller<'_>,
    task: &Task,
    grant: &CompiledGrant,
    now: Timestamp,
) -> Result<&'a AgentEntry, Denial> {
    let agent = world
        .agent_entry(caller.agent)
        .filter(|entry| entry.facts.lifecycle == model::Lifecycle::Active)
        .ok_or_else(denials::agent_not_active)?;
    if world.holds().stops(agent.facts.segment.as_ref()) {
        return Err(denials::held_back());
    }
    if task.agent != *caller.agent || task.instance.is_some_and(|own| own != *caller.instance) {
        // Whether a task of others is open is not the caller's to know.
        return Err(denials::task_of_others());
    }
    match task.status_at(now) {
        TaskStatus::Open => {}
        ended => return Err(denials::task_ended(ended)),
    }
    if caller.proof < grant.proof {
        return Err(denials::proof_too_weak(grant.proof));
    }
    Ok(agent)
}

/// The server, if the grant has it and it may be used. One that does not exist and one that is not
/// granted read the same.
fn reach<'a>(
    world: &'a World,
    grant: &'a CompiledGrant,
    name: &ServerName,
) -> Result<(&'a ServerName, &'a ServerEntry, &'a AtServer), Denial> {
    let granted = grant.at(name).zip(world.server_entry(name));
    let Some((at, (name, server))) = granted else {
        return Err(denials::server_not_granted(name));
    };
    let cut_off = world.holds().cuts_off(server.facts.segment.as_ref());
    if !server.facts.enabled || cut_off {
        return Err(denials::server_disabled(name));
    }
    Ok((name, server, at))
}

/// The permission that covers the operation, its arguments and its own budget.
fn grants(attempt: &Attempt<'_>, at: &AtServer) -> Result<Granted, Denial> {
    let Attempt { grant, action, .. } = attempt;
    let not_granted = || denials::not_granted(&action.server, &action.operation);
    let permissions = Preferring {
        grant,
        positions: &at.permissions,
    };
    let found = match &action.operation {
        Operation::CallTool { .. }
        | Operation::Request { .. }
        | Operation::Generate { .. }
        | Operation::Message { .. } => return call(attempt, at),
        Operation::Query { statement } => return query(attempt, at, statement),
        // An empty name would not be told from the server itself in records.
        Operation::ReadResource { uri } => permissions.find(|position| {
            let mut patterns = grant.permission(*position).resources.iter();
            !uri.is_empty() && patterns.any(|pattern| uri::matches(pattern, uri))
        }),
        Operation::GetPrompt { name } => permissions.find(|position| {
            let mut patterns = grant.permission(*position).prompts.iter();
            !name.is_empty() && patterns.any(|pattern| pattern.matches(name))
        }),
        Operation::Converse => permissions.find(|_| true),
        Operation::Answer { request } => permissions.find(|position| {
            grant
                .permission(*position)
                .server_requests
                .contains(request)
        }),
        // Never by what is allowed of endpoints: nobody sees which ones a tunnel reaches.
        Operation::Connect { authority } => permissions
            .find(|position| !authority.is_empty() && grant.permission(*position).connect),
    };
    found
        .map(|permission| Granted {
            permission,
            tool: None,
            asks: grant.permission(permission).asks,
        })
        .ok_or_else(not_granted)
}

/// Permissions, those first that need no approval.
struct Preferring<'a> {
    grant: &'a CompiledGrant,
    positions: &'a [usize],
}

impl Preferring<'_> {
    fn find(&self, covers: impl Fn(&usize) -> bool) -> Option<usize> {
        let covering = self.positions.iter().copied().filter(covers);
        covering.min_by_key(|position| self.grant.permission(*position).asks)
    }
}

fn call(attempt: &Attempt<'_>, at: &AtServer) -> Result<Granted, Denial> {
    let not_granted = || denials::not_granted(&attempt.action.server, &attempt.action.operation);
    let (kind, name, arguments) = attempt.action.operation.call().ok_or_else(not_granted)?;
    let mut refused: Option<Refused<'_>> = None;
    let mut exhausted: Option<u32> = None;
    let mut asking: Option<Granted> = None;
    let covering = attempt
        .grant
        .calls(at, kind, name)
        .filter(|_| !name.is_empty());
    for (permission, position) in covering {
        let granted = attempt.grant.call((permission, position));
        if let Err(why) = granted.arguments.check(arguments) {
            refused.get_or_insert(why);
            continue;
        }
        match granted.max_calls {
            Some(max) if attempt.usage.of_call(permission, position) >= max => {
                exhausted.get_or_insert(max);
            }
            _ => {
                let found = Granted {
                    permission,
                    tool: Some(position),
                    asks: attempt.grant.permission(permission).asks,
                };
                if !found.asks {
                    return Ok(found);
                }
                asking.get_or_insert(found);
            }
        }
    }
    if let Some(found) = asking {
        return Ok(found);
    }
    Err(match (exhausted, refused) {
        (Some(max), _) => denials::call_budget_exhausted(&attempt.action.operation, max),
        (None, Some(why)) => denials::argument_refused(&why),
        (None, None) => not_granted(),
    })
}

/// Every table that a statement touches must be granted, in that way and with those columns. The
/// permission of the first one stands for all.
fn query(attempt: &Attempt<'_>, at: &AtServer, statement: &Statement) -> Result<Granted, Denial> {
    let mut first = None;
    let mut asks = false;
    for access in &statement.accesses {
        let covering = tables(attempt.grant, at).filter(|(_, table)| covers_access(table, access));
        let found = covering.min_by_key(|(place, _)| attempt.grant.permission(*place).asks);
        match found {
            Some((place, _)) => {
                asks |= attempt.grant.permission(place).asks;
                first.get_or_insert(place);
            }
            None => return Err(denials::table_not_granted(&attempt.action.server, access)),
        }
    }
    first
        .map(|permission| Granted {
            permission,
            tool: None,
            asks,
        })
        .ok_or_else(|| denials::not_granted(&attempt.action.server, &attempt.action.operation))
}

fn tables<'a>(
    grant: &'a CompiledGrant,
    at: &'a AtServer,
) -> impl Iterator<Item = (usize, &'a TablePermission)> {
    at.permissions.iter().flat_map(|position| {
        let tables = grant.permission(*position).tables.iter();
        tables.map(|table| (*position, table))
    })
}

fn covers_access(granted: &TablePermission, access: &TableAccess) -> bool {
    !access.table.is_empty()
        && granted.name.matches(&access.table)
        && granted.operations.contains(&access.operation)
        && match (&granted.columns, &access.columns) {
            (None, _) => true,
            // Removing a row touches all of it; reading none of its columns counts it.
            (Some(_), None) => access.operation == TableOperation::Delete,
            (Some(granted), Some(named)) => named.is_subset(granted),
        }
}

/// Whether an item of a server's listing is one that the caller could ever use under its task: the
/// grant covers its name, and the policies would permit it. Arguments and budget aside.
#[must_use]
pub fn may_list(
    world: &World,
    caller: &Caller<'_>,
    task: &Task,
    grant: &CompiledGrant,
    server: &ServerName,
    item: Listed<'_>,
    now: Timestamp,
) -> bool {
    let Ok(agent) = stand(world, caller, task, grant, now) else {
        return false;
    };
    let Ok((name, server, at)) = reach(world, grant, server) else {
        return false;
    };
    let mut permissions = at
        .permissions
        .iter()
        .map(|position| grant.permission(*position));
    let called = |verb, kind, name| (verb, name, grant.calls(at, kind, name).next().is_some());
    let (verb, target, granted) = match item {
        Listed::Tool(name) => called(Verb::CallTool, PermissionKind::Mcp, name),
        Listed::Endpoint(name) => called(Verb::Request, PermissionKind::Http, name),
        Listed::Model(name) => called(Verb::Generate, PermissionKind::Llm, name),
        Listed::Skill(name) => called(Verb::Message, PermissionKind::A2a, name),
        Listed::Prompt(prompt) => {
            let granted =
                permissions.any(|p| p.prompts.iter().any(|pattern| pattern.matches(prompt)));
            (Verb::GetPrompt, prompt, granted)
        }
        Listed::Resource(uri) => {
            let granted =
                permissions.any(|p| p.resources.iter().any(|pattern| uri::matches(pattern, uri)));
            (Verb::ReadResource, uri, granted)
        }
        Listed::ResourceTemplate(template) => {
            let may = |pattern| uri::may_match_template(pattern, template);
            let granted = permissions.any(|p| p.resources.iter().any(may));
            (Verb::ReadResource, template, granted)
        }
    };
    if !granted || target.is_empty() || world.holds().holds_tool(name, target) {
        return false;
    }
    let circumstances = grant.contexts.of(task, caller.proof, caller.risk);
    let verdict = world.policies().ask(
        &agent.known,
        (name, &server.known),
        verb,
        target,
        &circumstances,
    );
    matches!(verdict.answer, Answer::Permitted | Answer::Asks)
}

#[cfg(test)]
mod tests;
