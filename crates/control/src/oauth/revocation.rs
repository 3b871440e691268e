//! Revoking tokens (RFC 7009) and looking at them (RFC 7662).

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use identity::{AccessClaims, Cnf};
use jiff::Timestamp;
use model::{Lifecycle, TaskStatus};
use serde_json::{Value, json};

use super::client::{self, Client};
use super::error::{OAuthError, no_store};
use super::form::Form;
use crate::engine::Actor;
use crate::http_api::Shared;

pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(
        &shared,
        "/oauth/revoke",
        try_revoke(&shared, &headers, &body).await,
    )
}

pub(super) async fn introspect(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(
        &shared,
        "/oauth/introspect",
        try_introspect(&shared, &headers, &body).await,
    )
}

fn answer(shared: &Shared, endpoint: &str, result: Result<Response, OAuthError>) -> Response {
    no_store(result.unwrap_or_else(|error| {
        shared.refuse(endpoint, None, error.denial());
        error.into_response()
    }))
}

async fn try_revoke(
    shared: &Shared,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, OAuthError> {
    let now = Timestamp::now();
    let form = Form::read(headers, body)?;
    let client = client::instance_or_operator(shared, headers, &form, now).await?;
    let token = form.need("token")?;
    let issuer = &shared.engine.settings().control_url;
    let Ok(claims) = shared.engine.keys().verify(token, issuer, now) else {
        // Whatever is not a good token is as good as revoked (RFC 7009 §2.2).
        return Ok(StatusCode::OK.into_response());
    };
    let actor = match client {
        Client::Operator => Actor::Operator,
        Client::Instance(instance) if instance.id == claims.client_id => Actor::Instance {
            id: instance.id,
            agent: instance.agent,
        },
        Client::Instance(_) => {
            return Err(OAuthError::unauthorized(
                "the token was issued to another client",
            ));
        }
    };
    let done = shared
        .engine
        .revoke_token(actor, identity::token_id(token), &claims)
        .await?;
    // The answer has no body that clients read, but people see it.
    let warnings = done.warnings;
    Ok(if warnings.is_empty() {
        StatusCode::OK.into_response()
    } else {
        Json(json!({ "warnings": warnings })).into_response()
    })
}

async fn try_introspect(
    shared: &Shared,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, OAuthError> {
    let now = Timestamp::now();
    let form = Form::read(headers, body)?;
    let client = client::instance_or_operator(shared, headers, &form, now).await?;
    let token = form.need("token")?;
    let issuer = &shared.engine.settings().control_url;
    let claims = shared.engine.keys().verify(token, issuer, now).ok();
    let claims = claims.filter(|claims| match &client {
        Client::Operator => true,
        Client::Instance(instance) => instance.id == claims.client_id,
    });
    let active = claims.filter(|claims| is_active(shared, token, claims, now));
    Ok(
        Json(active.map_or_else(|| json!({ "active": false }), |it| described(&it)))
            .into_response(),
    )
}

/// Whether a token whose signature and times are good is good for anything right now.
fn is_active(shared: &Shared, token: &str, claims: &AccessClaims, now: Timestamp) -> bool {
    let live = shared.engine.live();
    let agent = live
        .world()
        .agent(&claims.agent)
        .map(|facts| facts.lifecycle);
    let task = claims
        .task
        .map(|id| live.task(&id).map(|task| task.status_at(now)));
    !claims.is_expired(now)
        && !live.is_revoked(&identity::token_id(token))
        && !live.refuses_issued(&claims.agent, claims.iat)
        && !live.is_disabled(&claims.client_id)
        && agent == Some(Lifecycle::Active)
        && task.is_none_or(|status| status == Some(TaskStatus::Open))
}

fn described(claims: &AccessClaims) -> Value {
    let mut answer = json!(claims);
    answer["active"] = true.into();
    answer["token_type"] = match claims.cnf {
        Some(Cnf::Key { .. }) => "DPoP",
        Some(Cnf::Certificate { .. }) | None => "Bearer",
    }
    .into();
    answer
}
