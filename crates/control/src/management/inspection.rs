//! Tools that wait for a review, and canary tokens.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use model::ServerName;
use monitor::tools::Hash;
use serde::Deserialize;

use super::body::{Body, Part, page};
use super::caller::Operator;
use super::name;
use super::problem::Refused;
use crate::api;
use crate::engine::{Actor, EngineError};
use crate::http_api::Shared;

/// Which tools are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    server: Option<ServerName>,
}

/// Lists without filters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

pub(super) async fn tools(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    part: Part<Which, String>,
) -> Result<Json<api::Page<api::ReviewedTool>>, Refused> {
    let server = part.filter.server.as_ref();
    let mut items = shared.engine.reviewed_tools(server).await?;
    let key = |tool: &api::ReviewedTool| format!("{}/{}", tool.server, tool.tool);
    if let Some(before) = &part.before {
        items.retain(|tool| key(tool) > *before);
    }
    Ok(Json(page(items, part.limit, key, |tool| tool)))
}

pub(super) async fn accept(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(server): Path<String>,
    Body(review): Body<api::ReviewTool>,
) -> Result<Json<api::ReviewedTool>, Refused> {
    let server = name("server", &server)?;
    let hash = hash(review.definition)?;
    let engine = &shared.engine;
    let tool = engine.accept_tool(Actor::Operator, server, review.tool, hash);
    Ok(Json(tool.await?))
}

pub(super) async fn reject(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(server): Path<String>,
    Body(review): Body<api::ReviewTool>,
) -> Result<Json<api::ReviewedTool>, Refused> {
    let server = name("server", &server)?;
    let hash = hash(review.definition)?;
    let engine = &shared.engine;
    let tool = engine.reject_tool(Actor::Operator, server, review.tool, hash);
    Ok(Json(tool.await?))
}

fn hash(text: String) -> Result<Hash, Refused> {
    Hash::try_from(text).map_err(|error| EngineError::invalid(error).into())
}

pub(super) async fn canaries(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    part: Part<Nothing, String>,
) -> Result<Json<api::Page<api::Canary>>, Refused> {
    let Nothing {} = part.filter;
    let items = shared.engine.canaries().await?;
    let left = items.into_iter().skip_while(|canary| {
        let before = part.before.as_ref();
        before.is_some_and(|before| canary.token != *before)
    });
    // The last one of the page before is not on this one.
    let left = left.skip(usize::from(part.before.is_some())).collect();
    let key = |canary: &api::Canary| canary.token.clone();
    Ok(Json(page(left, part.limit, key, |canary| canary)))
}

pub(super) async fn create_canary(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Body(create): Body<api::CreateCanary>,
) -> Result<(StatusCode, Json<api::Canary>), Refused> {
    let engine = &shared.engine;
    let made = engine.create_canary(Actor::Operator, create.label, create.shape);
    Ok((StatusCode::CREATED, Json(made.await?)))
}

pub(super) async fn remove_canary(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Body(remove): Body<api::RemoveCanary>,
) -> Result<Json<api::Canary>, Refused> {
    let gone = shared.engine.remove_canary(Actor::Operator, remove.token);
    Ok(Json(gone.await?))
}
