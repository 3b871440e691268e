//! What receivers ask for: the transmitter's metadata, and their stream (SSF 1.0 §7 and §8).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use jiff::Timestamp;
use response::signals::stream::{METHODS, Status, VERIFY_EVERY};
use response::signals::{EventKind, Stream, StreamRequest};
use serde::Deserialize;
use serde_json::{Value, json};

use super::events::{poll, pushed};
use super::known::{AboutStream, Known, Refused, no_store, object};
use crate::http_api::Shared;

/// Longest state that a verification repeats, in bytes.
const STATE_BYTES: usize = 1_024;

/// The metadata, which anyone may read.
pub(crate) fn public_routes() -> Router<Arc<Shared>> {
    Router::new().route("/.well-known/ssf-configuration", get(metadata))
}

/// The endpoints.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route(
            "/ssf/v1/stream",
            get(read)
                .post(create)
                .patch(update)
                .put(replace)
                .delete(remove),
        )
        .route("/ssf/v1/status", get(status).post(set_status))
        .route("/ssf/v1/verification", post(verify))
        .route("/ssf/v1/poll/{stream}", post(poll))
        .route("/ssf/v1/events/{transmitter}", post(pushed))
}

async fn metadata(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Refused> {
    let signals = shared.signals.clone().ok_or(Refused::Unknown)?;
    let issuer = signals.issuer();
    Ok(Json(json!({
        "spec_version": "1_0",
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/oauth/jwks"),
        "delivery_methods_supported": METHODS,
        "configuration_endpoint": format!("{issuer}/ssf/v1/stream"),
        "status_endpoint": format!("{issuer}/ssf/v1/status"),
        "verification_endpoint": format!("{issuer}/ssf/v1/verification"),
        "authorization_schemes": [{ "spec_urn": "urn:ietf:rfc:6750" }],
        "default_subjects": "ALL",
    })))
}

#[derive(Deserialize)]
struct Named {
    stream_id: Option<String>,
}

async fn read(known: Known, Query(named): Query<Named>) -> Result<Response, Refused> {
    match named.stream_id {
        Some(id) => Ok(no_store(Json(known.shown(&known.stream(Some(&id))?)))),
        None => {
            let all: Vec<Value> = known
                .stream(None)
                .iter()
                .map(|it| known.shown(it))
                .collect();
            Ok(no_store(Json(all)))
        }
    }
}

async fn create(known: Known, body: Bytes) -> Result<Response, Refused> {
    let body = if body.is_empty() {
        json!({})
    } else {
        object(&body)?
    };
    let request = wanted(&known, &body)?;
    let _alone = known.signals.changing.lock().await;
    if known.stream(None).is_ok() {
        return Err(Refused::Exists);
    }
    let stream = request.stream(super::unique());
    known.keep(&stream, "signals.stream_created").await?;
    Ok(no_store((StatusCode::CREATED, Json(known.shown(&stream)))))
}

fn wanted(known: &Known, body: &Value) -> Result<StreamRequest, Refused> {
    let refuse = |error: response::signals::StreamError| Refused::Malformed(error.to_string());
    let request = StreamRequest::read(body).map_err(refuse)?;
    request
        .check_place(known.receiver().place().as_deref())
        .map_err(refuse)?;
    Ok(request)
}

async fn change(
    known: &Known,
    body: &Bytes,
    how: impl FnOnce(StreamRequest, &mut Stream),
) -> Result<Response, Refused> {
    let request = wanted(known, &object(body)?)?;
    let id = request.id.clone();
    let id = id.ok_or_else(|| Refused::Malformed("`stream_id` must be there".to_owned()))?;
    let _alone = known.signals.changing.lock().await;
    let mut stream = known.stream(Some(&id))?;
    how(request, &mut stream);
    known.keep(&stream, "signals.stream_changed").await?;
    Ok(no_store(Json(known.shown(&stream))))
}

async fn update(known: Known, body: Bytes) -> Result<Response, Refused> {
    change(&known, &body, StreamRequest::update).await
}

async fn replace(known: Known, body: Bytes) -> Result<Response, Refused> {
    change(&known, &body, StreamRequest::replace).await
}

async fn remove(known: Known, Query(named): Query<Named>) -> Result<Response, Refused> {
    let id = named.stream_id.ok_or(Refused::NoStream)?;
    let _alone = known.signals.changing.lock().await;
    let stream = known.stream(Some(&id))?;
    known.record("signals.stream_removed", &stream.id).await?;
    known
        .signals
        .store()
        .remove_signal_stream(&known.name)
        .await?;
    known.signals.streams.lock().remove(&known.name);
    Ok(no_store(StatusCode::NO_CONTENT))
}

fn status_of(stream: &Stream) -> Value {
    let mut status = json!({ "stream_id": stream.id, "status": stream.status.as_str() });
    if !stream.reason.is_empty() {
        status["reason"] = json!(stream.reason);
    }
    status
}

async fn status(known: Known, Query(named): Query<Named>) -> Result<Response, Refused> {
    let id = named.stream_id.ok_or(Refused::NoStream)?;
    Ok(no_store(Json(status_of(&known.stream(Some(&id))?))))
}

#[derive(Deserialize)]
struct SetStatus {
    stream_id: String,
    status: Status,
    reason: Option<String>,
}

impl AboutStream for SetStatus {
    const SAYS: &'static str = "give `stream_id`, and `status`: enabled, paused or disabled";

    fn stream_id(&self) -> &str {
        &self.stream_id
    }
}

async fn set_status(known: Known, body: Bytes) -> Result<Response, Refused> {
    let _alone = known.signals.changing.lock().await;
    let (wanted, mut stream): (SetStatus, _) = known.about(&body)?;
    stream.status = wanted.status;
    let reason = wanted.reason.unwrap_or_default();
    stream.reason = reason
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    known.keep(&stream, "signals.stream_changed").await?;
    Ok(no_store(Json(status_of(&stream))))
}

#[derive(Deserialize)]
struct Verify {
    stream_id: String,
    state: Option<String>,
}

impl AboutStream for Verify {
    const SAYS: &'static str = "give `stream_id`, and a text as `state` if any";

    fn stream_id(&self) -> &str {
        &self.stream_id
    }
}

async fn verify(known: Known, body: Bytes) -> Result<Response, Refused> {
    let (wanted, stream): (Verify, _) = known.about(&body)?;
    if wanted
        .state
        .as_ref()
        .is_some_and(|state| state.len() > STATE_BYTES)
    {
        return Err(Refused::Malformed(format!(
            "`state` is longer than {STATE_BYTES} bytes"
        )));
    }
    let now = Timestamp::now();
    {
        let mut verified = known.signals.verified.lock();
        let last = verified.get(&known.name);
        if last.is_some_and(|last| now.as_second() - last.as_second() < VERIFY_EVERY) {
            return Err(Refused::TooOften);
        }
        verified.insert(known.name.clone(), now);
    }
    if stream.status != Status::Disabled {
        let kind = EventKind::Verification {
            state: wanted.state,
        };
        known.tell(&stream, kind).await?;
    }
    Ok(no_store(StatusCode::NO_CONTENT))
}
