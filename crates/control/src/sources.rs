//! Where requests come from: addresses that present wrong credentials too often are put off.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::AUTHORIZATION;

use crate::http_api::Shared;
use crate::management::problem::Refused;
use crate::oauth::too_fast;

/// The address that a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source(pub(crate) IpAddr);

/// What takes credentials that are not in the header: client assertions, and enrolment tokens.
const CREDENTIALS_IN_BODY: [&str; 4] = [
    "/oauth/token",
    "/oauth/revoke",
    "/oauth/introspect",
    "/v1/enroll",
];

/// Puts a request off when credentials from its address were wrong too often, and takes note of those that
/// are. What shows none is not put off, and the operator never is.
pub(crate) async fn put_off(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let in_body = CREDENTIALS_IN_BODY.contains(&path);
    let shows = in_body || request.headers().contains_key(AUTHORIZATION);
    let source = request.extensions().get::<Source>().copied();
    let Some(Source(from)) = source.filter(|_| shows) else {
        return next.run(request).await;
    };
    let pipeline = shared.engine.pipeline();
    if let Some(wait) = pipeline.puts_off_all(from)
        && !shared.operator.is_in(request.headers())
    {
        let denial = pipeline.put_off(path);
        return match path.starts_with("/oauth/") {
            true => too_fast(&denial, wait),
            false => Refused::too_fast(&denial, wait).into_response(),
        };
    }
    let answer = next.run(request).await;
    if answer.status() == StatusCode::UNAUTHORIZED {
        shared.engine.pipeline().wrong_from(from);
    }
    answer
}
