//! SVIDs, for the instances that ask, and the bundle that verifies them, for everyone.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::body::Body;
use super::caller::Caller;
use super::problem::Refused;
use crate::api;
use crate::engine::Actor;
use crate::http_api::Shared;
use crate::oauth::public;

pub(super) async fn issue(
    Caller(actor): Caller,
    State(shared): State<Arc<Shared>>,
    Body(wanted): Body<api::RequestSvid>,
) -> Result<Response, Refused> {
    let Actor::Instance { id, agent } = actor else {
        return Err(Refused::forbidden(
            "an SVID is for an enrolled instance: only that can ask for one",
        ));
    };
    let spiffe_id = shared.engine.settings().trust_domain.agent(&agent);
    let issued = shared.engine.issue_svid(agent, id, wanted.csr).await?;
    let svid = api::Svid {
        spiffe_id: spiffe_id.to_string(),
        instance: id,
        serial: issued.svid.serial,
        thumbprint: issued.svid.thumbprint.to_string(),
        expires_at: issued.svid.expires_at,
        certificate: issued.pem,
        bundle: issued.bundle.pem().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(svid)).into_response())
}

/// The trust bundle in the format of SPIFFE.
pub(super) async fn bundle(State(shared): State<Arc<Shared>>) -> Response {
    public(shared.engine.authority().bundle().document().clone())
}
