//! The token service: OAuth 2.1 for agents, without users and without browsers.
//!
//! One grant, `client_credentials` (RFC 6749 §4.4), with `private_key_jwt` (RFC 7523); every token
//! is for exactly one resource (RFC 8707), acts under exactly one task (RFC 9396) or opens tasks,
//! lives at most five minutes and never longer than its task, and is bound to the instance's key
//! (RFC 9449) or to its SVID (RFC 8705) unless the task's template says that bearer tokens will do.

mod client;
mod error;
mod form;
mod metadata;
mod revocation;
mod token;

pub(crate) use metadata::public;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use model::Denial;

use crate::http_api::Shared;

/// The scope of tokens with which an instance opens and completes tasks.
pub(crate) const TASKS_SCOPE: &str = "tasks";
/// The authorization details type (RFC 9396 §2) that names a task.
const DETAILS_TYPE: &str = "sallyport_task";

/// The answer to a request that comes too soon after others.
pub(crate) fn too_fast(denial: &Denial, wait: Duration) -> Response {
    error::OAuthError::too_fast(denial, wait).into_response()
}

/// The documents that anyone may read, from any page.
pub(crate) fn public_routes() -> Router<Arc<Shared>> {
    Router::new()
        .route(
            "/.well-known/oauth-authorization-server",
            get(metadata::metadata),
        )
        .route("/.well-known/openid-configuration", get(metadata::openid))
        .route("/oauth/jwks", get(metadata::jwks))
}

/// The endpoints.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route(
            "/oauth/authorize",
            get(metadata::authorize).post(metadata::authorize),
        )
        .route("/oauth/token", post(token::token))
        .route("/oauth/revoke", post(revocation::revoke))
        .route("/oauth/introspect", post(revocation::introspect))
}
