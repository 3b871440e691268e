//! The metadata documents (RFC 8414, OpenID Connect Discovery 1.0) and the keys (RFC 7517).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL};
use serde_json::{Value, json};

use super::error::OAuthError;
use super::{DETAILS_TYPE, TASKS_SCOPE};
use crate::engine::Settings;
use crate::http_api::Shared;

/// The signature algorithms of proofs and assertions, as they follow from the keys that can enrol.
const ALGORITHMS: [&str; 2] = ["ES256", "EdDSA"];

/// The metadata of the authorization server. It names what works and nothing else.
pub(super) fn document(settings: &Settings) -> Value {
    let issuer = settings.control_url.as_str();
    let authentication = ["private_key_jwt"];
    let mut scopes = gateway::resource::scopes().to_vec();
    scopes.push(TASKS_SCOPE);
    json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/oauth/token"),
        "jwks_uri": format!("{issuer}/oauth/jwks"),
        "revocation_endpoint": format!("{issuer}/oauth/revoke"),
        "introspection_endpoint": format!("{issuer}/oauth/introspect"),
        "scopes_supported": scopes,
        // No grant uses it, so RFC 8414 §2 lets it be absent; but the official MCP clients refuse
        // a document without it. It exists, and refuses every request.
        "authorization_endpoint": format!("{issuer}/oauth/authorize"),
        "response_types_supported": [],
        // MCP clients refuse authorization servers that do not name S256 here.
        "code_challenge_methods_supported": ["S256"],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": authentication,
        "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "revocation_endpoint_auth_methods_supported": authentication,
        "revocation_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "introspection_endpoint_auth_methods_supported": authentication,
        "introspection_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "dpop_signing_alg_values_supported": ALGORITHMS,
        "tls_client_certificate_bound_access_tokens": settings.certificates,
        "authorization_details_types_supported": [DETAILS_TYPE],
    })
}

pub(super) async fn metadata(State(shared): State<Arc<Shared>>) -> Response {
    public(document(shared.engine.settings()))
}

/// The same with the members that OpenID Connect Discovery 1.0 §3 requires beside. Some clients
/// look here first; ID tokens are never issued.
pub(super) async fn openid(State(shared): State<Arc<Shared>>) -> Response {
    let mut document = document(shared.engine.settings());
    document["subject_types_supported"] = json!(["public"]);
    document["id_token_signing_alg_values_supported"] = json!(["ES256"]);
    public(document)
}

/// Refuses every authorization request: agents have no browser and no user to ask.
pub(super) async fn authorize() -> Response {
    OAuthError::response_type().into_response()
}

pub(super) async fn jwks(State(shared): State<Arc<Shared>>) -> Response {
    public(shared.engine.keys().jwks())
}

/// A document that anyone may read, from pages in browsers too.
pub(crate) fn public(document: Value) -> Response {
    let mut response = Json(document).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
