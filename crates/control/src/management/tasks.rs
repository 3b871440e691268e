//! Tasks, for the operator and for the instances whose work they are.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use gateway::resource::Route;
use http::StatusCode;
use jiff::Timestamp;
use model::config::ServerKind;
use model::{AgentName, TaskId, TaskStatus, TemplateName};
use serde::Deserialize;
use store::TaskFilter;

use super::body::{Body, Part, page};
use super::caller::{Caller, Operator};
use super::problem::Refused;
use super::{changed, name, pace};
use crate::api;
use crate::engine::{Actor, OpenTask};
use crate::http_api::Shared;

/// Which tasks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    agent: Option<AgentName>,
    status: Option<TaskStatus>,
    template: Option<TemplateName>,
    parent: Option<TaskId>,
}

fn shown(shared: &Shared, task: model::Task) -> api::Task {
    let base_url = &shared.engine.settings().gateway_url;
    let urls = task.grant.permissions.iter().map(|permission| {
        let route = Route {
            kind: ServerKind::of(permission.kind),
            server: permission.server.clone(),
            task: Some(task.id),
        };
        (permission.server.clone(), route.resource(base_url))
    });
    let listener = shared.engine.settings().databases.get();
    let databases = task.grant.permissions.iter().filter_map(|permission| {
        let is_database = ServerKind::of(permission.kind) == ServerKind::Postgres;
        let url = listener.filter(|_| is_database)?.url(&permission.server);
        Some((permission.server.clone(), url))
    });
    let mut permissions = task.grant.permissions.iter();
    let proxied = permissions.any(|one| ServerKind::of(one.kind) == ServerKind::Http);
    let proxy = shared.engine.settings().proxy_url.clone();
    let live = shared.engine.live().task(&task.id);
    let used = live.map(|live| live.usage());
    api::Task {
        calls: used.as_ref().map(policy::Usage::calls),
        spent: used.map(|used| used.spent()),
        pace: shared.engine.live().task_pace(&task.id).map(pace),
        urls: urls.collect(),
        databases: databases.collect(),
        proxy: proxy.filter(|_| proxied),
        id: task.id,
        agent: task.agent,
        instance: task.instance,
        parent: task.parent,
        parts: shared
            .engine
            .live()
            .parts_of(&task.id)
            .iter()
            .map(|part| part.task().id)
            .collect(),
        template: task.template,
        parameters: task.parameters,
        purpose: task.purpose,
        status: task.status,
        opened_at: task.opened_at,
        expires_at: task.expires_at,
        ended_at: task.ended_at,
        ended_because: task.ended_because,
        grant: task.grant,
    }
}

pub(super) async fn list(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    part: Part<Filter, TaskId>,
) -> Result<Json<api::Page<api::Task>>, Refused> {
    let Filter {
        agent,
        status,
        template,
        parent,
    } = part.filter;
    let filter = TaskFilter {
        agent,
        status,
        template,
        parent,
        before: part.before,
        limit: part.limit + 1,
    };
    let found = shared
        .engine
        .store()
        .tasks(&filter, Timestamp::now())
        .await?;
    Ok(Json(page(
        found,
        part.limit,
        |it| it.id.to_string(),
        |task| shown(&shared, task),
    )))
}

pub(super) async fn open(
    Caller(actor): Caller,
    State(shared): State<Arc<Shared>>,
    Body(wanted): Body<api::OpenTask>,
) -> Result<Response, Refused> {
    let (agent, instance) = match &actor {
        Actor::Instance { id, agent } => (
            wanted.agent.unwrap_or_else(|| agent.clone()),
            match wanted.parent {
                // A part may be for another agent, and then for any instance of it.
                Some(_) => wanted.instance,
                None => Some(wanted.instance.unwrap_or(*id)),
            },
        ),
        _ => {
            let missing =
                || Refused::invalid("the operator must name the agent: `agent` is missing");
            (wanted.agent.ok_or_else(missing)?, wanted.instance)
        }
    };
    let wanted = OpenTask {
        agent,
        instance,
        parent: wanted.parent,
        template: wanted.template,
        parameters: wanted.parameters,
        purpose: wanted.purpose,
        life: wanted.ttl_seconds.map(Duration::from_secs),
    };
    let task = shared.engine.open_task(actor, wanted).await?;
    Ok((StatusCode::CREATED, Json(shown(&shared, task))).into_response())
}

pub(super) async fn show(
    Caller(actor): Caller,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<api::Task>, Refused> {
    let id: TaskId = name("task", &id)?;
    let task = shared.engine.visible_task(&actor, &id).await?;
    Ok(Json(shown(&shared, task)))
}

pub(super) async fn complete(
    Caller(actor): Caller,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Body(end): Body<api::EndTask>,
) -> Result<Json<api::Changed<api::Task>>, Refused> {
    let id = name("task", &id)?;
    let done = shared.engine.complete_task(actor, id, end.because).await?;
    Ok(changed(done, |task| shown(&shared, task)))
}

pub(super) async fn revoke(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Body(end): Body<api::EndTask>,
) -> Result<Json<api::Changed<api::Task>>, Refused> {
    let id = name("task", &id)?;
    let done = shared
        .engine
        .revoke_task(Actor::Operator, id, end.because)
        .await?;
    Ok(changed(done, |task| shown(&shared, task)))
}
