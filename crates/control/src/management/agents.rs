//! Agents and instances.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use model::{AgentName, InstanceId};
use serde::Deserialize;
use store::StoreError;

use super::body::{Body, Part, page};
use super::caller::Operator;
use super::problem::Refused;
use super::{changed, name, pace};
use crate::api::{self, Because};
use crate::engine::{Actor, EngineError};
use crate::http_api::Shared;

/// No filter.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Which instances.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfAgent {
    agent: Option<AgentName>,
}

fn shown(shared: &Shared, agent: model::Agent) -> api::Agent {
    api::Agent {
        spiffe_id: shared
            .engine
            .settings()
            .trust_domain
            .agent(&agent.name)
            .to_string(),
        pace: Some(pace(shared.engine.live().agent_pace(&agent.name))),
        name: agent.name,
        sponsor: agent.sponsor,
        segment: agent.segment,
        lifecycle: agent.lifecycle,
        registered_at: agent.registered_at,
    }
}

fn shown_instance(instance: model::Instance) -> api::Instance {
    api::Instance {
        id: instance.id,
        agent: instance.agent,
        thumbprint: instance.thumbprint,
        enrolled_at: instance.enrolled_at,
        disabled: instance.disabled,
    }
}

pub(super) async fn list(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    part: Part<Nothing, AgentName>,
) -> Result<Json<api::Page<api::Agent>>, Refused> {
    let found = shared
        .engine
        .store()
        .agents_page(part.before.as_ref(), part.limit + 1)
        .await?;
    let cursor = |agent: &model::Agent| agent.name.to_string();
    Ok(Json(page(found, part.limit, cursor, |agent| {
        shown(&shared, agent)
    })))
}

pub(super) async fn show(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(agent): Path<String>,
) -> Result<Json<api::Agent>, Refused> {
    let agent: AgentName = name("agent", &agent)?;
    let known = shared.engine.store().agent(&agent).await?;
    let known = known.ok_or_else(|| EngineError::not_found("agent", &agent))?;
    Ok(Json(shown(&shared, known)))
}

pub(super) async fn register(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Body(wanted): Body<api::RegisterAgent>,
) -> Result<Response, Refused> {
    let api::RegisterAgent {
        name,
        sponsor,
        segment,
    } = wanted;
    let agent = shared
        .engine
        .register_agent(Actor::Operator, name, &sponsor, segment)
        .await?;
    Ok((StatusCode::CREATED, Json(shown(&shared, agent))).into_response())
}

pub(super) async fn enrolment(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(agent): Path<String>,
    Body(wanted): Body<api::MakeEnrolment>,
) -> Result<Response, Refused> {
    let agent: AgentName = name("agent", &agent)?;
    let life = wanted.ttl_seconds.map(Duration::from_secs);
    let made = shared
        .engine
        .make_enrolment(Actor::Operator, agent.clone(), life)
        .await?;
    let (token, expires_at) = made;
    let control = shared.engine.settings().control_url.clone();
    let enrolment = api::Enrolment {
        token: token.to_string(),
        agent,
        expires_at,
        control,
    };
    Ok((StatusCode::CREATED, Json(enrolment)).into_response())
}

pub(super) async fn quarantine(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(agent): Path<String>,
    Body(Because { because }): Body<Because>,
) -> Result<Json<api::Changed<api::Agent>>, Refused> {
    let agent = name("agent", &agent)?;
    let done = shared
        .engine
        .quarantine_agent(Actor::Operator, agent, because)
        .await?;
    Ok(changed(done, |agent| shown(&shared, agent)))
}

pub(super) async fn release(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(agent): Path<String>,
    Body(Because { because }): Body<Because>,
) -> Result<Json<api::Agent>, Refused> {
    let agent = name("agent", &agent)?;
    let agent = shared
        .engine
        .release_agent(Actor::Operator, agent, because)
        .await?;
    Ok(Json(shown(&shared, agent)))
}

pub(super) async fn retire(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(agent): Path<String>,
    Body(Because { because }): Body<Because>,
) -> Result<Json<api::Changed<api::Agent>>, Refused> {
    let agent = name("agent", &agent)?;
    let done = shared
        .engine
        .retire_agent(Actor::Operator, agent, because)
        .await?;
    Ok(changed(done, |agent| shown(&shared, agent)))
}

/// Enrolment needs no other credential than the token in it.
pub(super) async fn enroll(
    State(shared): State<Arc<Shared>>,
    Body(wanted): Body<api::Enroll>,
) -> Result<Response, Refused> {
    let jwk = wanted.public_jwk.to_string();
    let token = zeroize::Zeroizing::new(wanted.token);
    let instance = match shared.engine.enroll(&token, &jwk).await {
        Ok(instance) => instance,
        Err(error) => {
            let guessed = matches!(
                error,
                EngineError::EnrolmentRefused | EngineError::Store(StoreError::KeyInUse)
            );
            let refused = Refused::from(error);
            if guessed {
                shared.refuse("POST /v1/enroll", None, refused.denial());
            }
            return Err(refused);
        }
    };
    let settings = shared.engine.settings();
    let enrolled = api::Enrolled {
        id: instance.id,
        agent: instance.agent,
        control: settings.control_url.clone(),
        gateway: settings.gateway_url.clone(),
    };
    Ok((StatusCode::CREATED, Json(enrolled)).into_response())
}

pub(super) async fn instances(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    part: Part<OfAgent, InstanceId>,
) -> Result<Json<api::Page<api::Instance>>, Refused> {
    let store = shared.engine.store();
    let agent = part.filter.agent.as_ref();
    let found = store
        .instances_page(agent, part.before.as_ref(), part.limit + 1)
        .await?;
    Ok(Json(page(
        found,
        part.limit,
        |it| it.id.to_string(),
        shown_instance,
    )))
}

pub(super) async fn disable(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Body(Because { because }): Body<Because>,
) -> Result<Json<api::Changed<api::Instance>>, Refused> {
    let id = name("instance", &id)?;
    let done = shared
        .engine
        .disable_instance(Actor::Operator, id, because)
        .await?;
    Ok(changed(done, shown_instance))
}
