//! The vault: content that is kept, for the operator only.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::TaskId;
use serde::Deserialize;
use vault::{Head, Holding, Shown};

use super::body::{Body, Part, page};
use super::caller::Operator;
use super::name;
use super::problem::Refused;
use crate::api;
use crate::engine::Actor;
use crate::http_api::Shared;

/// There is nothing to filter by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct All {}

fn shown(task: TaskId, holding: Holding) -> api::KeptTask {
    api::KeptTask {
        task,
        agent: holding.agent,
        payloads: holding.payloads,
        bytes: holding.bytes,
        destroyed: holding.destroyed,
    }
}

pub(super) async fn tasks(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    part: Part<All, TaskId>,
) -> Result<Json<api::Page<api::KeptTask>>, Refused> {
    let All {} = part.filter;
    let most = usize::try_from(part.limit).unwrap_or(usize::MAX) + 1;
    let found = shared.engine.kept_tasks(part.before.as_ref(), most)?;
    Ok(Json(page(
        found,
        part.limit,
        |(task, _)| task.to_string(),
        |(task, holding)| shown(task, holding),
    )))
}

pub(super) async fn payloads(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(task): Path<String>,
) -> Result<Json<api::Page<api::KeptPayload>>, Refused> {
    let task = name("task", &task)?;
    let heads = shared.engine.kept_payloads(task).await?;
    Ok(Json(api::Page {
        items: heads.into_iter().map(payload).collect(),
        next: None,
    }))
}

fn payload(head: Head) -> api::KeptPayload {
    api::KeptPayload {
        task: head.task,
        decision: head.decision,
        part: head.part,
        time: head.time,
        bytes: head.bytes,
        kept: head.kept,
        hash: head.hash,
    }
}

pub(super) async fn show(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(decision): Path<String>,
    Body(wanted): Body<api::ShowKept>,
) -> Result<Json<Vec<api::OpenedPayload>>, Refused> {
    let decision = name("decision", &decision)?;
    let opened = shared
        .engine
        .show_kept(&Actor::Operator, decision, wanted.part)
        .await?;
    let opened = opened.into_iter().map(|Shown { head, content }| {
        let (text, base64) = match std::str::from_utf8(&content) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(&content[..]))),
        };
        api::OpenedPayload {
            payload: payload(head),
            text,
            base64,
        }
    });
    Ok(Json(opened.collect()))
}

pub(super) async fn destroy(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(task): Path<String>,
    Body(why): Body<api::Because>,
) -> Result<Json<api::KeptTask>, Refused> {
    let task = name("task", &task)?;
    let holding = shared
        .engine
        .destroy_kept(Actor::Operator, task, why.because)
        .await?;
    Ok(Json(shown(task, holding)))
}
