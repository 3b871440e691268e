//! Signals to and from other systems, for the operator.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::caller::Operator;
use super::problem::Refused;
use crate::api;
use crate::engine::EngineError;
use crate::http_api::Shared;

pub(super) async fn list(
    _: Operator,
    State(shared): State<Arc<Shared>>,
) -> Result<Json<api::SignalPeers>, Refused> {
    let Some(signals) = &shared.signals else {
        return Ok(Json(api::SignalPeers {
            receivers: Vec::new(),
            transmitters: Vec::new(),
        }));
    };
    Ok(Json(signals.peers().await.map_err(EngineError::from)?))
}
