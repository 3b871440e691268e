//! Templates, servers, keys, reloading, and how things are.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use gateway::resource::Route;
use http::StatusCode;
use model::ServerName;
use model::config::ServerKind;

use super::caller::Operator;
use super::name;
use super::problem::Refused;
use crate::api;
use crate::engine::{Actor, EngineError};
use crate::http_api::{ReloadError, Shared};

pub(super) async fn status(_: Operator, State(shared): State<Arc<Shared>>) -> Json<api::Status> {
    Json(shared.engine.status().await)
}

pub(super) async fn templates(
    _: Operator,
    State(shared): State<Arc<Shared>>,
) -> Json<api::Page<api::Template>> {
    let templates = Arc::clone(shared.engine.live().world().templates());
    let shown = templates.values().map(|template| {
        let mut servers: Vec<ServerName> = template
            .grant
            .permissions
            .iter()
            .map(|it| it.server.clone())
            .collect();
        servers.sort();
        servers.dedup();
        api::Template {
            name: template.name.clone(),
            description: template.description.clone(),
            agents: template.agents.clone(),
            segments: template.segments.clone(),
            ttl_seconds: template.ttl.as_secs(),
            proof: template.grant.proof,
            calls: template.grant.budget.calls,
            rate: template.grant.rate,
            parameters: template.parameters.clone(),
            servers,
        }
    });
    Json(api::Page {
        items: shown.collect(),
        next: None,
    })
}

fn shown(shared: &Shared, name: &ServerName) -> Option<api::Server> {
    let servers = shared.engine.servers();
    let server = servers.get(name)?;
    let world = shared.engine.live().world();
    let route = Route {
        kind: server.kind,
        server: name.clone(),
        task: None,
    };
    Some(api::Server {
        name: name.clone(),
        description: server.description.clone(),
        segment: server.segment.clone(),
        kind: server.kind,
        transport: match server.kind {
            ServerKind::Mcp if server.url.is_none() => "stdio",
            ServerKind::Postgres => "postgres",
            _ => "http",
        }
        .to_owned(),
        url: route.resource(&shared.engine.settings().gateway_url),
        enabled: world.server(name).is_some_and(|facts| facts.enabled),
    })
}

pub(super) async fn servers(
    _: Operator,
    State(shared): State<Arc<Shared>>,
) -> Json<api::Page<api::Server>> {
    let servers = shared.engine.servers();
    let items = servers
        .keys()
        .filter_map(|name| shown(&shared, name))
        .collect();
    Json(api::Page { items, next: None })
}

pub(super) async fn disable_server(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(server): Path<String>,
) -> Result<Json<api::Changed<api::Server>>, Refused> {
    let server = name("server", &server)?;
    let done = shared
        .engine
        .disable_server(Actor::Operator, server)
        .await?;
    let now = shown(&shared, &done.now);
    let now = now.ok_or_else(|| EngineError::not_found("server", &done.now))?;
    Ok(Json(api::Changed {
        now,
        warnings: done.warnings,
    }))
}

pub(super) async fn enable_server(
    _: Operator,
    State(shared): State<Arc<Shared>>,
    Path(server): Path<String>,
) -> Result<Json<api::Server>, Refused> {
    let server = name("server", &server)?;
    let server = shared.engine.enable_server(Actor::Operator, server).await?;
    let now = shown(&shared, &server);
    Ok(Json(now.ok_or_else(|| {
        EngineError::not_found("server", &server)
    })?))
}

pub(super) async fn rotate_keys(
    _: Operator,
    State(shared): State<Arc<Shared>>,
) -> Result<Json<api::Rotated>, Refused> {
    let kid = shared.engine.rotate_keys(Actor::Operator).await?;
    Ok(Json(api::Rotated { kid }))
}

pub(super) async fn reload(
    _: Operator,
    State(shared): State<Arc<Shared>>,
) -> Result<Json<api::Reloaded>, Refused> {
    let Some(reload) = &shared.reload else {
        return Err(Refused::new(
            StatusCode::NOT_IMPLEMENTED,
            "unavailable",
            "this process was started without files that could be read again",
            "restart it with the new setup",
        ));
    };
    reload().await.map(Json).map_err(|error| {
        let (status, rule) = match error {
            ReloadError::Mistakes(_) => (StatusCode::UNPROCESSABLE_ENTITY, "mistakes"),
            ReloadError::Failed(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        let remedy = "run `sallyport check`, correct what it shows, and reload again; what was in \
                      use stays in use";
        Refused::new(status, rule, error.to_string(), remedy)
    })
}
