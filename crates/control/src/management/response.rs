//! Playbooks, their runs, what is held back, and blast radii.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use model::{AgentName, TaskId};
use response::Act;
use response::blast::Of;
use response::playbook::procedure;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::body::{Body, Part, page};
use super::caller::Operator;
use super::problem::Refused;
use super::{changed, name};
use crate::api::{self, Because};
use crate::engine::{Actor, EngineError, Hold};
use crate::http_api::Shared;
use crate::respond::{Known, Responder};

fn responder(shared: &Shared) -> Result<&Arc<Responder>, Refused> {
    shared.responder.as_ref().ok_or_else(|| {
        Refused::new(
            StatusCode::NOT_IMPLEMENTED,
            "unavailable",
            "this process was started without playbooks",
            "start it with `sallyport serve`",
        )
    })
}

fn shown(name: &str, known: &Known) -> api::Playbook {
    let playbook = &known.playbook;
    api::Playbook {
        name: name.to_owned(),
        title: playbook.name.clone(),
        description: playbook.description.clone(),
        severity: playbook.severity,
        labels: playbook.labels.clone(),
        acts: playbook.acts().into_iter().map(str::to_owned).collect(),
        bundled: known.bundled,
        hash: playbook.hash.clone(),
    }
}

pub(super) async fn playbooks(
    _: Operator,
    State(shared): State<Arc<Shared>>,
) -> Result<Json<api::Page<api::Playbook>>, Refused> {
    let known = responder(&shared)?.playbooks();
    let items = known.iter().map(|(name, known)| shown(name, known));
    Ok(Json(api::Page {
        items: items.collect(),
        next: None,
    }))
}

pub(super) async fn playbook(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Result<Json<api::PlaybookText>, Refused> {
    let responder = responder(&shared)?;
    let all = responder.playbooks();
    let known = all
        .get(&name)
        .ok_or_else(|| EngineError::not_found("playbook", name.escape_debug()))?;
    Ok(Json(api::PlaybookText {
        playbook: shown(&name, known),
        procedure: procedure::of(&known.playbook, &name, &responder.modes()),
        document: serde_json::from_str(&known.text).unwrap_or_default(),
    }))
}

pub(super) async fn begin(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Body(wanted): Body<api::BeginRun>,
) -> Result<Response, Refused> {
    let api::BeginRun { about, dry } = wanted;
    let run = responder(&shared)?
        .begin(Actor::Operator, &name, about, dry, false)
        .await?;
    Ok((StatusCode::CREATED, Json(run)).into_response())
}

/// Which runs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfRuns {
    /// `true`: those that are not over.
    open: Option<String>,
}

pub(super) async fn runs(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    part: Part<OfRuns, String>,
) -> Result<Json<api::Page<api::Run>>, Refused> {
    let open = match part.filter.open.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Refused::invalid("`open` is true or false")),
    };
    let found = responder(&shared)?
        .runs(part.before.as_deref(), part.limit + 1, open)
        .await?;
    Ok(Json(page(
        found,
        part.limit,
        |run| run.id.clone(),
        |run| run,
    )))
}

pub(super) async fn run(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<api::Run>, Refused> {
    Ok(Json(responder(&shared)?.run(&id).await?))
}

pub(super) async fn answer(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path((id, step)): Path<(String, String)>,
    Body(said): Body<api::AnswerStep>,
) -> Result<Json<api::Run>, Refused> {
    let step = step
        .parse()
        .map_err(|_| EngineError::not_found("step", step.escape_debug()))?;
    let api::AnswerStep { answer, by, note } = said;
    let run = responder(&shared)?
        .answer(&Actor::Operator, &id, step, answer, by.as_deref(), &note)
        .await?;
    Ok(Json(run))
}

pub(super) async fn abort(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<api::Run>, Refused> {
    Ok(Json(responder(&shared)?.abort(&id).await?))
}

pub(super) async fn act(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Body(members): Body<Map<String, Value>>,
) -> Result<Json<api::Acted>, Refused> {
    let act = Act::read(members).map_err(Refused::invalid)?;
    let outcome = responder(&shared)?.act(Actor::Operator, &act).await?;
    Ok(Json(api::Acted { outcome }))
}

fn hold_of(what: api::Hold) -> Hold {
    match what {
        api::Hold::All => Hold::All,
        api::Hold::Segment { segment } => Hold::Segment(segment),
        api::Hold::Tool { server, tool } => Hold::Tool(server, tool),
    }
}

fn shown_hold(what: Hold) -> api::Hold {
    match what {
        Hold::All => api::Hold::All,
        Hold::Segment(segment) => api::Hold::Segment { segment },
        Hold::Tool(server, tool) => api::Hold::Tool { server, tool },
    }
}

pub(super) async fn holds(
    _: Operator,
    State(shared): State<Arc<Shared>>,
) -> Result<Json<api::Page<api::Holding>>, Refused> {
    let held = shared.engine.holdings().await?;
    let items = held.into_iter().map(|held| api::Holding {
        what: shown_hold(held.what),
        because: held.because,
        since: Some(held.since),
    });
    Ok(Json(api::Page {
        items: items.collect(),
        next: None,
    }))
}

pub(super) async fn hold(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Body(wanted): Body<api::ChangeHold>,
) -> Result<Json<api::Changed<api::Holding>>, Refused> {
    let api::ChangeHold { what, because } = wanted;
    let done = shared
        .engine
        .hold(Actor::Operator, hold_of(what), because.clone())
        .await?;
    Ok(changed(done, |what| api::Holding {
        what: shown_hold(what),
        because: because.clone().unwrap_or_default(),
        since: None,
    }))
}

pub(super) async fn release(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Body(wanted): Body<api::ChangeHold>,
) -> Result<Json<api::Holding>, Refused> {
    let api::ChangeHold { what, because } = wanted;
    let what = shared
        .engine
        .release_hold(Actor::Operator, hold_of(what), because)
        .await?;
    Ok(Json(api::Holding {
        what: shown_hold(what),
        because: String::new(),
        since: None,
    }))
}

pub(super) async fn revoke_tokens(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(agent): Path<String>,
    Body(Because { because }): Body<Because>,
) -> Result<Json<api::Changed<api::TokensRevoked>>, Refused> {
    let agent: AgentName = name("agent", &agent)?;
    let done = shared
        .engine
        .revoke_tokens(Actor::Operator, agent, because)
        .await?;
    Ok(changed(done, |agent| api::TokensRevoked { agent }))
}

/// Whose blast radius.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfBlast {
    agent: Option<AgentName>,
    task: Option<TaskId>,
    /// Seconds ago.
    since: Option<String>,
}

pub(super) async fn blast_radius(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    part: Part<OfBlast, String>,
) -> Result<Json<api::BlastRadius>, Refused> {
    let of = match (part.filter.agent, part.filter.task) {
        (Some(agent), None) => Of::Agent(agent),
        (None, Some(task)) => Of::Task(task),
        _ => return Err(Refused::invalid("name one `agent` or one `task`")),
    };
    let since = match part.filter.since.as_deref().map(str::parse::<i64>) {
        None => None,
        Some(Ok(seconds)) => {
            let ago = SignedDuration::from_secs(seconds);
            Some(
                Timestamp::now()
                    .saturating_sub(ago)
                    .unwrap_or(Timestamp::MIN),
            )
        }
        Some(Err(_)) => return Err(Refused::invalid("`since` is a number of seconds")),
    };
    let blast = responder(&shared)?.blast_radius(of, since).await?;
    let graph = blast.nodes_and_edges();
    Ok(Json(api::BlastRadius { blast, graph }))
}
