//! What people are asked to approve, for the operator.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use jiff::Timestamp;
use model::approval::Covers;
use model::{AgentName, ApprovalId, ApprovalStatus, TaskId};
use serde::Deserialize;
use store::{ApprovalFilter, LevelOf};

use super::body::{Body, Part, page};
use super::caller::Operator;
use super::problem::Refused;
use super::{changed, name};
use crate::api;
use crate::engine::{Actor, Approve};
use crate::http_api::Shared;

/// Which approvals.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    task: Option<TaskId>,
    agent: Option<AgentName>,
    status: Option<ApprovalStatus>,
}

/// How long to wait for a decision.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// In seconds; not at all when absent.
    #[serde(default)]
    pub(super) wait: u64,
}

fn shown(mut approval: model::Approval) -> api::Approval {
    approval.status = approval.status_at(Timestamp::now());
    let uses_left = match approval.status {
        ApprovalStatus::Approved => approval.uses_left(),
        _ => 0,
    };
    api::Approval {
        approval,
        uses_left,
    }
}

pub(super) async fn list(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    part: Part<Filter, ApprovalId>,
) -> Result<Json<api::Page<api::Approval>>, Refused> {
    let Filter {
        task,
        agent,
        status,
    } = part.filter;
    let filter = ApprovalFilter {
        task,
        agent,
        status,
        before: part.before,
        limit: part.limit + 1,
    };
    let found = shared
        .engine
        .store()
        .approvals(&filter, Timestamp::now())
        .await?;
    Ok(Json(page(found, part.limit, |it| it.id.to_string(), shown)))
}

pub(super) async fn show(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Query(Wait { wait }): Query<Wait>,
) -> Result<Json<api::Approval>, Refused> {
    let id: ApprovalId = name("approval", &id)?;
    let wait = Duration::from_secs(wait);
    let approval = shared
        .engine
        .await_approval(&Actor::Operator, &id, wait)
        .await?;
    Ok(Json(shown(approval)))
}

pub(super) async fn approve(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Body(wanted): Body<api::Approve>,
) -> Result<Json<api::Approval>, Refused> {
    let id: ApprovalId = name("approval", &id)?;
    let allowed = Approve {
        covers: wanted.covers.unwrap_or(Covers::Call),
        uses: wanted.uses,
        valid: wanted.valid_seconds.map(Duration::from_secs),
        by: wanted.by,
        because: wanted.because,
    };
    let approval = shared.engine.approve(Actor::Operator, id, allowed).await?;
    Ok(Json(shown(approval)))
}

pub(super) async fn deny(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Body(wanted): Body<api::Deny>,
) -> Result<Json<api::Changed<api::Approval>>, Refused> {
    let id: ApprovalId = name("approval", &id)?;
    let done = shared
        .engine
        .refuse(Actor::Operator, id, wanted.by, wanted.because)
        .await?;
    Ok(changed(done, shown))
}

fn level(raised: store::RaisedLevel) -> api::RaisedLevel {
    let (agent, task) = match raised.of {
        LevelOf::Agent(name) => (Some(name), None),
        LevelOf::Task(id) => (None, Some(id)),
    };
    api::RaisedLevel {
        agent,
        task,
        level: raised.level,
        until: raised.until,
        because: raised.because,
    }
}

pub(super) async fn levels(
    _: Operator,
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Vec<api::RaisedLevel>>, Refused> {
    let raised = shared
        .engine
        .store()
        .approval_levels(Timestamp::now())
        .await?;
    Ok(Json(raised.into_iter().map(level).collect()))
}

async fn set_level(
    shared: &Shared,
    of: LevelOf,
    wanted: api::SetApprovalLevel,
) -> Result<Json<api::Changed<api::RaisedLevel>>, Refused> {
    let lasts = wanted.seconds.map(Duration::from_secs);
    let done = shared
        .engine
        .set_approval_level(Actor::Operator, of, wanted.level, lasts, &wanted.because)
        .await?;
    Ok(changed(done, level))
}

pub(super) async fn agent_level(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(agent): Path<String>,
    Body(wanted): Body<api::SetApprovalLevel>,
) -> Result<Json<api::Changed<api::RaisedLevel>>, Refused> {
    let of = LevelOf::Agent(name("agent", &agent)?);
    set_level(&shared, of, wanted).await
}

pub(super) async fn task_level(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(task): Path<String>,
    Body(wanted): Body<api::SetApprovalLevel>,
) -> Result<Json<api::Changed<api::RaisedLevel>>, Refused> {
    let of = LevelOf::Task(name("task", &task)?);
    set_level(&shared, of, wanted).await
}
