//! What became of access requests, for the agents that they were made for (AuthZEN Access Request and
//! Approval Profile). The gateway makes them by itself when it refuses something that a person could
//! approve; what an agent learns here is whether to send the same again. Nothing here decides anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::RETRY_AFTER;
use jiff::Timestamp;
use model::{ApprovalId, ApprovalStatus};

use super::approvals::Wait;
use super::caller::Caller;
use super::name;
use super::problem::Refused;
use crate::api::{AccessRequest, AccessResult, AccessTask, ApprovedUntil};
use crate::http_api::Shared;

fn shown(shared: &Shared, approval: &model::Approval) -> AccessRequest {
    let status = approval.status_at(Timestamp::now());
    let base = &shared.engine.settings().control_url;
    let status_endpoint = format!("{base}/access/v1/requests/{}", approval.id);
    let decided = approval.decided.as_ref();
    let allows = decided.and_then(|decided| Some((decided.at, decided.allows.as_ref()?)));
    let result = allows.filter(|_| status == ApprovalStatus::Approved);
    AccessRequest {
        result: result.map(|(at, allows)| AccessResult {
            mode: "reevaluate".to_owned(),
            approval: ApprovedUntil {
                id: approval.id,
                approved_at: at,
                approved_until: allows.until,
                uses_left: approval.uses_left(),
            },
        }),
        task: AccessTask {
            id: approval.id,
            status,
            expires_at: approval.expires_at,
            links: match status {
                ApprovalStatus::Pending => {
                    BTreeMap::from([("cancel".to_owned(), format!("{status_endpoint}/cancel"))])
                }
                _ => BTreeMap::new(),
            },
            status_endpoint,
        },
    }
}

fn answer(shared: &Shared, approval: &model::Approval) -> Response {
    let request = shown(shared, approval);
    let waits = request.task.status == ApprovalStatus::Pending;
    let mut response = Json(request).into_response();
    if waits {
        let seconds = HeaderValue::from_static("2");
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}

pub(super) async fn status(
    Caller(actor): Caller,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Query(Wait { wait }): Query<Wait>,
) -> Result<Response, Refused> {
    let id: ApprovalId = name("approval", &id)?;
    let wait = Duration::from_secs(wait);
    let approval = shared.engine.await_approval(&actor, &id, wait).await?;
    Ok(answer(&shared, &approval))
}

pub(super) async fn cancel(
    Caller(actor): Caller,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    let id: ApprovalId = name("approval", &id)?;
    let done = shared.engine.cancel_approval(actor, id).await?;
    Ok(answer(&shared, &done.now))
}
