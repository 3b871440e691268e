//! Tasks that are a part of another: what is delegated is within what the delegating task has, and ends
//! with it.

use std::sync::Arc;

use gateway::live::LiveTask;
use jiff::Timestamp;
use model::{Budget, Grant, TaskId, TaskStatus};

use super::{Actor, Engine, EngineError};

/// How deep tasks may be parts of one another.
const DEPTH: usize = 4;
/// Most open parts of one task, at any depth.
const PARTS: usize = 64;

impl Engine {
    /// The task that another is to be a part of.
    ///
    /// # Errors
    /// [`EngineError`] when the caller has no such open task, or it has too many parts.
    pub(super) async fn open_parent(
        &self,
        actor: &Actor,
        id: TaskId,
        now: Timestamp,
    ) -> Result<Arc<LiveTask>, EngineError> {
        let known = self.visible_task(actor, &id).await?;
        if let Actor::Instance { id: own, agent } = actor
            && (known.agent != *agent || known.instance.is_some_and(|owner| owner != *own))
        {
            // It sees what it delegated, but the next part is for whose task that is to delegate.
            return Err(EngineError::not_found("task", id));
        }
        let over = || {
            EngineError::conflict(
                format!("task {id} is {}", known.status.as_str()),
                "open the part while the task that it belongs to is open",
            )
        };
        let parent = self.live().task(&id).ok_or_else(over)?;
        if parent.status_at(now) != TaskStatus::Open {
            return Err(over());
        }
        if parent.ancestors().count() + 1 >= DEPTH {
            return Err(EngineError::conflict(
                format!("tasks are parts of one another at most {DEPTH} deep"),
                "delegate from a task further up",
            ));
        }
        let parts = self.live().parts_of(&id);
        let open = parts
            .iter()
            .filter(|part| part.status_at(now) == TaskStatus::Open);
        if open.count() >= PARTS {
            return Err(EngineError::TooMany(format!(
                "task {id} has {PARTS} open parts"
            )));
        }
        Ok(parent)
    }
}

/// The grant and the end of a part: within its parent's. A template's budget is cut to what the
/// parent's is; everything else that is wider is refused.
///
/// # Errors
/// [`EngineError::Forbidden`] that says what is wider.
pub(super) fn within(
    actor: &Actor,
    parent: &LiveTask,
    mut grant: Grant,
    ends: Timestamp,
) -> Result<(Grant, Timestamp), EngineError> {
    let wide = &parent.task().grant;
    grant.budget = smaller(wide.budget, grant.budget);
    if !policy::covers(wide, &grant) {
        return Err(EngineError::Forbidden {
            reason: format!(
                "the template asks for more than task {} has: {}",
                parent.task().id,
                wider(actor, wide, &grant)
            ),
            remedy: "delegate from a task that covers it, or narrow the template".to_owned(),
        });
    }
    Ok((grant, ends.min(parent.task().expires_at)))
}

/// The smaller of two budgets, amount by amount.
fn smaller(wide: Budget, narrow: Budget) -> Budget {
    let less = |wide: Option<u64>, narrow: Option<u64>| match (wide, narrow) {
        (Some(wide), Some(narrow)) => Some(wide.min(narrow)),
        (one, other) => one.or(other),
    };
    Budget {
        calls: wide.calls.min(narrow.calls),
        tokens: less(wide.tokens, narrow.tokens),
        micro_usd: less(wide.micro_usd, narrow.micro_usd),
        rows: less(wide.rows, narrow.rows),
        bytes: less(wide.bytes, narrow.bytes),
    }
}

/// What of a grant is wider, in words. An instance learns no server's name that it does not have.
fn wider(actor: &Actor, wide: &Grant, narrow: &Grant) -> String {
    let alone = |permissions| Grant {
        permissions,
        budget: narrow.budget,
        proof: narrow.proof,
        rate: narrow.rate,
        trusted_inputs: narrow.trusted_inputs.clone(),
    };
    if !policy::covers(wide, &alone(Vec::new())) {
        return "it accepts a weaker proof of possession".to_owned();
    }
    let mut found: Vec<String> = Vec::new();
    for permission in &narrow.permissions {
        if policy::covers(wide, &alone(vec![permission.clone()])) {
            continue;
        }
        let known = wide
            .permissions
            .iter()
            .any(|p| p.server == permission.server);
        found.push(match (known, actor) {
            (true, _) => format!("what it may do at `{}`", permission.server),
            (false, Actor::Instance { .. }) => "a server that the task does not have".to_owned(),
            (false, _) => format!(
                "server `{}`, which the task does not have",
                permission.server
            ),
        });
    }
    found.dedup();
    if found.is_empty() {
        "its limited calls add up to more".to_owned()
    } else {
        found.join("; ")
    }
}

#[cfg(test)]
mod tests;
