//! Findings, incidents, suppressions and scores.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use jiff::Timestamp;
use model::inspection::Severity;
use model::{AgentName, ServerName, TaskId};
use serde::{Deserialize, Deserializer};
use store::{FindingFilter, IncidentFilter};

use super::agents::Nothing;
use super::body::{Body, Part, page};
use super::caller::Operator;
use super::problem::Refused;
use super::{changed, name};
use crate::api::{self, Because};
use crate::engine::{Actor, EngineError};
use crate::http_api::Shared;

/// Which findings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfFindings {
    agent: Option<AgentName>,
    task: Option<TaskId>,
    server: Option<ServerName>,
    rule: Option<String>,
    severity: Option<Severity>,
    #[serde(default, deserialize_with = "number")]
    incident: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    after: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    wait: Option<u64>,
}

/// Which incidents.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfIncidents {
    agent: Option<AgentName>,
    status: Option<api::IncidentStatus>,
    severity: Option<Severity>,
    #[serde(default, deserialize_with = "number")]
    after: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    wait: Option<u64>,
}

/// A number in a query, where everything is text.
fn number<'de, D: Deserializer<'de>>(text: D) -> Result<Option<u64>, D::Error> {
    let text = Option::<String>::deserialize(text)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom))
        .transpose()
}

/// How long the answer may wait.
fn wait(seconds: Option<u64>) -> Duration {
    Duration::from_secs(seconds.unwrap_or(0).min(api::LONGEST_WAIT))
}

/// A page of a list. One that is followed has no next: it goes on from its last entry.
fn shown<T>(
    found: Vec<T>,
    limit: u32,
    followed: bool,
    cursor: impl Fn(&T) -> u64,
) -> Json<api::Page<T>> {
    let mut page = page(found, limit, |one| cursor(one).to_string(), |one| one);
    if followed {
        page.next = None;
    }
    Json(page)
}

pub(super) async fn list(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    part: Part<OfFindings, u64>,
) -> Result<Json<api::Page<api::Finding>>, Refused> {
    let asked = part.filter;
    let filter = FindingFilter {
        agent: asked.agent,
        task: asked.task,
        server: asked.server,
        rule: asked.rule,
        severity: asked.severity,
        incident: asked.incident,
        before: part.before,
        after: asked.after,
        limit: part.limit + 1,
    };
    let watch = shared.engine.watch();
    let found = watch.findings(&filter, wait(asked.wait)).await?;
    let followed = filter.after.is_some();
    Ok(shown(found, part.limit, followed, |finding| finding.id))
}

pub(super) async fn show(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<api::Finding>, Refused> {
    let id: u64 = name("finding", &id)?;
    let finding = shared.engine.watch().finding(id).await?;
    Ok(Json(
        finding.ok_or_else(|| EngineError::not_found("finding", id))?,
    ))
}

pub(super) async fn feedback(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Body(wanted): Body<api::GiveFeedback>,
) -> Result<Json<api::Finding>, Refused> {
    let id = name("finding", &id)?;
    let engine = &shared.engine;
    let done = engine.finding_feedback(Actor::Operator, id, wanted).await?;
    Ok(Json(done))
}

pub(super) async fn incidents(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    part: Part<OfIncidents, u64>,
) -> Result<Json<api::Page<api::Incident>>, Refused> {
    let asked = part.filter;
    let filter = IncidentFilter {
        agent: asked.agent,
        status: asked.status.map(|status| status.as_str().to_owned()),
        severity: asked.severity,
        before: part.before,
        after: asked.after,
        limit: part.limit + 1,
    };
    let watch = shared.engine.watch();
    let found = watch.incidents(&filter, wait(asked.wait)).await?;
    let followed = filter.after.is_some();
    Ok(shown(found, part.limit, followed, |incident| incident.id))
}

pub(super) async fn incident(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<api::Incident>, Refused> {
    let id: u64 = name("incident", &id)?;
    let incident = shared.engine.watch().incident(id).await?;
    Ok(Json(
        incident.ok_or_else(|| EngineError::not_found("incident", id))?,
    ))
}

pub(super) async fn close(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Body(wanted): Body<api::CloseIncident>,
) -> Result<Json<api::Incident>, Refused> {
    let id = name("incident", &id)?;
    let engine = &shared.engine;
    let done = engine.close_incident(Actor::Operator, id, wanted).await?;
    Ok(Json(done))
}

pub(super) async fn note(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Body(wanted): Body<api::WriteNote>,
) -> Result<Json<api::Incident>, Refused> {
    let id = name("incident", &id)?;
    let engine = &shared.engine;
    let done = engine
        .note_incident(Actor::Operator, id, &wanted.note)
        .await?;
    Ok(Json(done))
}

pub(super) async fn suppressions(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    _part: Part<Nothing, u64>,
) -> Json<api::Page<api::Suppression>> {
    let now = Timestamp::now();
    let watch = shared.engine.watch();
    let items = watch.look(|incidents| incidents.suppressions(now).cloned().collect());
    Json(api::Page { items, next: None })
}

pub(super) async fn suppress(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Body(wanted): Body<api::Suppress>,
) -> Result<(StatusCode, Json<api::Suppression>), Refused> {
    let engine = &shared.engine;
    let done = engine.suppress_findings(Actor::Operator, wanted).await?;
    Ok((StatusCode::CREATED, Json(done)))
}

pub(super) async fn end_suppression(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Body(wanted): Body<api::EndSuppression>,
) -> Result<Json<api::Ended>, Refused> {
    let engine = &shared.engine;
    let ended = engine.end_suppression(Actor::Operator, wanted).await?;
    Ok(Json(api::Ended { ended }))
}

pub(super) async fn risk(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(agent): Path<String>,
) -> Result<Json<api::Risk>, Refused> {
    let agent: AgentName = name("agent", &agent)?;
    Ok(Json(shared.engine.risk(&agent)?))
}

pub(super) async fn set_risk(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(agent): Path<String>,
    Body(wanted): Body<api::SetRisk>,
) -> Result<Json<api::Changed<api::Risk>>, Refused> {
    let agent = name("agent", &agent)?;
    let engine = &shared.engine;
    let done = engine.set_risk(Actor::Operator, agent, wanted).await?;
    Ok(changed(done, |risk| risk))
}

pub(super) async fn clear_risk(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(agent): Path<String>,
    Body(Because { because }): Body<Because>,
) -> Result<Json<api::Risk>, Refused> {
    let agent = name("agent", &agent)?;
    let engine = &shared.engine;
    let done = engine.clear_risk(Actor::Operator, agent, because).await?;
    Ok(Json(done))
}
