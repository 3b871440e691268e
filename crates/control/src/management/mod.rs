//! The management API, under `/v1`. The operator may do everything; an instance may open tasks for
//! itself, and look at and complete its own.

mod agents;
mod body;
mod caller;
pub(crate) mod problem;
mod system;
mod tasks;

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Json, Router};

use crate::api;
use crate::engine::{EngineError, Restricted};
use crate::http_api::Shared;
use problem::Refused;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/enroll", post(agents::enroll))
        .route("/v1/agents", get(agents::list).post(agents::register))
        .route("/v1/agents/{name}", get(agents::show))
        .route("/v1/agents/{name}/enrolment", post(agents::enrolment))
        .route("/v1/agents/{name}/quarantine", post(agents::quarantine))
        .route("/v1/agents/{name}/release", post(agents::release))
        .route("/v1/agents/{name}/retire", post(agents::retire))
        .route("/v1/instances", get(agents::instances))
        .route("/v1/instances/{id}/disable", post(agents::disable))
        .route("/v1/tasks", get(tasks::list).post(tasks::open))
        .route("/v1/tasks/{id}", get(tasks::show))
        .route("/v1/tasks/{id}/complete", post(tasks::complete))
        .route("/v1/tasks/{id}/revoke", post(tasks::revoke))
        .route("/v1/templates", get(system::templates))
        .route("/v1/servers", get(system::servers))
        .route("/v1/servers/{name}/disable", post(system::disable_server))
        .route("/v1/servers/{name}/enable", post(system::enable_server))
        .route("/v1/keys/rotate", post(system::rotate_keys))
        .route("/v1/reload", post(system::reload))
        .route("/v1/status", get(system::status))
}

/// A name or id in a path. One that cannot be any is as unknown as one that is not.
fn name<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, Refused> {
    text.parse()
        .map_err(|_| EngineError::not_found(what, text.escape_debug()).into())
}

/// The answer to a restriction.
fn changed<T, A>(done: Restricted<T>, shown: impl Fn(T) -> A) -> Json<api::Changed<A>> {
    Json(api::Changed {
        now: shown(done.now),
        warnings: done.warnings,
    })
}
