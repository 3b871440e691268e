//! The management API, under `/v1`. The operator may do everything; an instance may open tasks for
//! itself, and look at and complete its own.

mod access;
mod agents;
mod approvals;
mod body;
mod caller;
mod findings;
mod inspection;
pub(crate) mod problem;
mod response;
mod signals;
mod svids;
mod system;
mod tasks;
mod vault;

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Json, Router};
use gateway::pace::Going;

use crate::api;
use crate::engine::{EngineError, Restricted};
use crate::http_api::Shared;
use problem::Refused;

/// What anyone may read, from any page.
pub(crate) fn public_routes() -> Router<Arc<Shared>> {
    Router::new().route("/spiffe/bundle", get(svids::bundle))
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/svids", post(svids::issue))
        .route("/v1/enroll", post(agents::enroll))
        .route("/v1/agents", get(agents::list).post(agents::register))
        .route("/v1/agents/{name}", get(agents::show))
        .route("/v1/agents/{name}/enrolment", post(agents::enrolment))
        .route("/v1/agents/{name}/quarantine", post(agents::quarantine))
        .route("/v1/agents/{name}/release", post(agents::release))
        .route("/v1/agents/{name}/retire", post(agents::retire))
        .route(
            "/v1/agents/{name}/risk",
            get(findings::risk).post(findings::set_risk),
        )
        .route("/v1/agents/{name}/risk/clear", post(findings::clear_risk))
        .route("/v1/findings", get(findings::list))
        .route("/v1/findings/{id}", get(findings::show))
        .route("/v1/findings/{id}/feedback", post(findings::feedback))
        .route("/v1/incidents", get(findings::incidents))
        .route("/v1/incidents/{id}", get(findings::incident))
        .route("/v1/incidents/{id}/close", post(findings::close))
        .route("/v1/incidents/{id}/note", post(findings::note))
        .route(
            "/v1/suppressions",
            get(findings::suppressions).post(findings::suppress),
        )
        .route("/v1/suppressions/end", post(findings::end_suppression))
        .route("/v1/instances", get(agents::instances))
        .route("/v1/instances/{id}/disable", post(agents::disable))
        .route("/v1/tasks", get(tasks::list).post(tasks::open))
        .route("/v1/tasks/{id}", get(tasks::show))
        .route("/v1/tasks/{id}/complete", post(tasks::complete))
        .route("/v1/tasks/{id}/revoke", post(tasks::revoke))
        .route("/v1/tasks/{id}/approval-level", post(approvals::task_level))
        .route(
            "/v1/agents/{name}/approval-level",
            post(approvals::agent_level),
        )
        .route("/v1/approval-levels", get(approvals::levels))
        .route("/v1/approvals", get(approvals::list))
        .route("/v1/approvals/{id}", get(approvals::show))
        .route("/v1/approvals/{id}/approve", post(approvals::approve))
        .route("/v1/approvals/{id}/deny", post(approvals::deny))
        .route("/access/v1/requests/{id}", get(access::status))
        .route("/access/v1/requests/{id}/cancel", post(access::cancel))
        .route("/v1/templates", get(system::templates))
        .route("/v1/servers", get(system::servers))
        .route("/v1/servers/{name}/disable", post(system::disable_server))
        .route("/v1/servers/{name}/enable", post(system::enable_server))
        .route("/v1/vault/tasks", get(vault::tasks))
        .route("/v1/vault/tasks/{task}", get(vault::payloads))
        .route("/v1/vault/tasks/{task}/destroy", post(vault::destroy))
        .route("/v1/vault/decisions/{decision}/show", post(vault::show))
        .route("/v1/tools", get(inspection::tools))
        .route("/v1/servers/{name}/tools/accept", post(inspection::accept))
        .route("/v1/servers/{name}/tools/reject", post(inspection::reject))
        .route(
            "/v1/canaries",
            get(inspection::canaries).post(inspection::create_canary),
        )
        .route("/v1/canaries/remove", post(inspection::remove_canary))
        .route(
            "/v1/agents/{name}/tokens/revoke",
            post(response::revoke_tokens),
        )
        .route("/v1/holds", get(response::holds).post(response::hold))
        .route("/v1/holds/release", post(response::release))
        .route("/v1/playbooks", get(response::playbooks))
        .route("/v1/playbooks/{name}", get(response::playbook))
        .route("/v1/playbooks/{name}/run", post(response::begin))
        .route("/v1/runs", get(response::runs))
        .route("/v1/runs/{id}", get(response::run))
        .route("/v1/runs/{id}/steps/{step}", post(response::answer))
        .route("/v1/runs/{id}/abort", post(response::abort))
        .route("/v1/response/actions", post(response::act))
        .route("/v1/blast-radius", get(response::blast_radius))
        .route("/v1/signals", get(signals::list))
        .route("/v1/keys/rotate", post(system::rotate_keys))
        .route("/v1/reload", post(system::reload))
        .route("/v1/status", get(system::status))
}

/// A name or id in a path. One that cannot be any is as unknown as one that is not.
fn name<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, Refused> {
    text.parse()
        .map_err(|_| EngineError::not_found(what, text.escape_debug()).into())
}

/// How fast somebody may call, as it is shown.
fn pace(going: Going) -> api::Pace {
    api::Pace {
        rate: going.rate,
        refused: going.refused,
    }
}

/// The answer to a restriction.
fn changed<T, A>(done: Restricted<T>, shown: impl Fn(T) -> A) -> Json<api::Changed<A>> {
    Json(api::Changed {
        now: shown(done.now),
        warnings: done.warnings,
    })
}
