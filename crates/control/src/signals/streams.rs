//! What receivers ask for: the transmitter's metadata, their stream, and events that are polled (SSF 1.0
//! §7 and §8, RFC 8936); and where others push events to (RFC 8935).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use model::record::Record;
use response::signals::stream::{METHODS, Method, Status, VERIFY_EVERY};
use response::signals::{Event, EventKind, MEDIA_TYPE, Stream, StreamRequest, Subject};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{StoreError, WaitingSignal};

use super::{Peers, Receiver, Signals};
use crate::http_api::Shared;
use crate::operator::bearer;

/// Most events in one answer to a poll.
const AT_ONCE: u32 = 50;
/// Most identifiers that one poll acknowledges.
const ACKNOWLEDGED: usize = 1_000;
/// How long a poll waits for an event; less than a request may take.
const LONG_POLL: Duration = Duration::from_secs(20);
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

/// Why a request is refused.
enum Refused {
    /// Signals are not configured.
    Unknown,
    /// No receiver has the token.
    Token,
    /// No stream of the receiver has the identifier.
    NoStream,
    /// There is one already.
    Exists,
    Malformed(String),
    TooOften,
    Failed(String),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "signals cannot be kept");
        Self::Failed("the store cannot be used; try again later".to_owned())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, err, why) = match self {
            Self::Unknown => (StatusCode::NOT_FOUND, "not_found", "there are no such signals here".to_owned()),
            Self::Token => (
                StatusCode::UNAUTHORIZED,
                "authentication_failed",
                "show the bearer token of a receiver or transmitter that the configuration knows (`[signals]`)"
                    .to_owned(),
            ),
            Self::NoStream => (StatusCode::NOT_FOUND, "not_found", "you have no such stream; create it first".to_owned()),
            Self::Exists => (
                StatusCode::CONFLICT,
                "conflict",
                "a receiver has one stream: read, change or delete the one that there is".to_owned(),
            ),
            Self::Malformed(why) => (StatusCode::BAD_REQUEST, "invalid_request", why),
            Self::TooOften => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                format!("a stream is verified once in {VERIFY_EVERY} seconds"),
            ),
            Self::Failed(why) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", why),
        };
        let mut response =
            (status, Json(json!({ "err": err, "description": why }))).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"ssf\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// A receiver that has shown its token.
struct Known {
    signals: Arc<Signals>,
    peers: Arc<Peers>,
    name: String,
}

impl Known {
    fn of(shared: &Shared, headers: &HeaderMap) -> Result<Self, Refused> {
        let signals = shared.signals.clone().ok_or(Refused::Unknown)?;
        let peers = signals.peers.load_full();
        let shown = bearer(headers).ok_or(Refused::Token)?;
        // All are compared, so that the time says nothing about which it is.
        let mut found = None;
        for (name, receiver) in &peers.receivers {
            if identity::secret::matches(shown, &receiver.token) {
                found = Some(name.clone());
            }
        }
        let name = found.ok_or(Refused::Token)?;
        Ok(Self {
            signals,
            peers,
            name,
        })
    }

    fn receiver(&self) -> &Receiver {
        &self.peers.receivers[&self.name]
    }

    fn stream(&self, id: Option<&str>) -> Result<Stream, Refused> {
        let streams = self.signals.streams.lock();
        let stream = streams.get(&self.name).ok_or(Refused::NoStream)?;
        match id {
            Some(id) if id != stream.id => Err(Refused::NoStream),
            _ => Ok(stream.clone()),
        }
    }

    fn shown(&self, stream: &Stream) -> Value {
        let issuer = self.signals.issuer();
        let endpoint = match stream.method {
            Method::Push => self.receiver().place().unwrap_or_default(),
            Method::Poll => format!("{issuer}/ssf/v1/poll/{}", stream.id),
        };
        stream.to_json(issuer, &self.receiver().config.audience, &endpoint)
    }

    /// Keeps a stream, with a record of what was done to it.
    async fn keep(&self, stream: &Stream, change: &str) -> Result<(), Refused> {
        let body =
            serde_json::to_string(stream).map_err(|error| Refused::Failed(error.to_string()))?;
        self.record(change, &stream.id).await?;
        self.signals
            .store()
            .put_signal_stream(&self.name, &body)
            .await?;
        self.signals
            .streams
            .lock()
            .insert(self.name.clone(), stream.clone());
        self.signals.tell_news();
        Ok(())
    }

    async fn record(&self, change: &str, stream: &str) -> Result<(), Refused> {
        let actor = format!("receiver:{}", self.name);
        let record = Record::change(Timestamp::now(), actor, change, stream);
        match self.signals.engine.record(record).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Refused::Failed(
                "the audit log cannot be written".to_owned(),
            )),
        }
    }

    /// Puts an event about the stream itself into it.
    async fn tell(&self, stream: &Stream, kind: EventKind) -> Result<(), Refused> {
        let event = Event {
            kind,
            subject: Subject::stream(&stream.id),
            at: None,
            reason: stream.reason.clone(),
        };
        let jti = super::unique();
        let signal = WaitingSignal {
            receiver: self.name.clone(),
            claims: self
                .signals
                .claims(self.receiver(), &event, &jti)
                .to_string(),
            jti,
        };
        self.signals.store().add_signal(&signal).await?;
        self.signals.tell_news();
        Ok(())
    }
}

fn no_store(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn object(body: &Bytes) -> Result<Value, Refused> {
    serde_json::from_slice(body).map_err(|_| Refused::Malformed("the body must be JSON".to_owned()))
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

async fn read(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Query(named): Query<Named>,
) -> Result<Response, Refused> {
    let known = Known::of(&shared, &headers)?;
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

async fn create(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let known = Known::of(&shared, &headers)?;
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
    shared: &Shared,
    headers: &HeaderMap,
    body: &Bytes,
    how: impl FnOnce(StreamRequest, &mut Stream),
) -> Result<Response, Refused> {
    let known = Known::of(shared, headers)?;
    let request = wanted(&known, &object(body)?)?;
    let id = request.id.clone();
    let id = id.ok_or_else(|| Refused::Malformed("`stream_id` must be there".to_owned()))?;
    let _alone = known.signals.changing.lock().await;
    let mut stream = known.stream(Some(&id))?;
    how(request, &mut stream);
    known.keep(&stream, "signals.stream_changed").await?;
    Ok(no_store(Json(known.shown(&stream))))
}

async fn update(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    change(&shared, &headers, &body, StreamRequest::update).await
}

async fn replace(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    change(&shared, &headers, &body, StreamRequest::replace).await
}

async fn remove(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Query(named): Query<Named>,
) -> Result<Response, Refused> {
    let known = Known::of(&shared, &headers)?;
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

async fn status(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Query(named): Query<Named>,
) -> Result<Response, Refused> {
    let known = Known::of(&shared, &headers)?;
    let id = named.stream_id.ok_or(Refused::NoStream)?;
    Ok(no_store(Json(status_of(&known.stream(Some(&id))?))))
}

#[derive(Deserialize)]
struct SetStatus {
    stream_id: String,
    status: Status,
    reason: Option<String>,
}

async fn set_status(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let known = Known::of(&shared, &headers)?;
    let wanted: SetStatus = serde_json::from_value(object(&body)?).map_err(|_| {
        Refused::Malformed("give `stream_id`, and `status`: enabled, paused or disabled".to_owned())
    })?;
    let _alone = known.signals.changing.lock().await;
    let mut stream = known.stream(Some(&wanted.stream_id))?;
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

async fn verify(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let known = Known::of(&shared, &headers)?;
    let wanted: Verify = serde_json::from_value(object(&body)?).map_err(|_| {
        Refused::Malformed("give `stream_id`, and a text as `state` if any".to_owned())
    })?;
    if wanted
        .state
        .as_ref()
        .is_some_and(|state| state.len() > STATE_BYTES)
    {
        return Err(Refused::Malformed(format!(
            "`state` is longer than {STATE_BYTES} bytes"
        )));
    }
    let stream = known.stream(Some(&wanted.stream_id))?;
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

/// A poll (RFC 8936 §2.4).
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Poll {
    max_events: Option<u32>,
    return_immediately: bool,
    ack: Vec<String>,
    set_errs: BTreeMap<String, Value>,
}

async fn poll(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refused> {
    let known = Known::of(&shared, &headers)?;
    let body = if body.is_empty() {
        json!({})
    } else {
        object(&body)?
    };
    let asked: Poll = serde_json::from_value(body)
        .map_err(|_| Refused::Malformed("this is no poll (RFC 8936 §2.4)".to_owned()))?;
    let stream = known.stream(Some(&id))?;
    if stream.method != Method::Poll {
        return Err(Refused::Malformed(
            "events of this stream are pushed".to_owned(),
        ));
    }
    if asked.ack.len() + asked.set_errs.len() > ACKNOWLEDGED {
        return Err(Refused::Malformed(format!(
            "at most {ACKNOWLEDGED} events are acknowledged at once"
        )));
    }
    let errors = asked.set_errs.into_keys().inspect(|jti| {
        tracing::error!(receiver = known.name, jti = %jti.escape_debug(), "a receiver could not use a signal");
    });
    let done: Vec<String> = asked.ack.into_iter().chain(errors).collect();
    if !done.is_empty() {
        known
            .signals
            .store()
            .signals_delivered(&known.name, &done)
            .await?;
    }
    let most = asked.max_events.unwrap_or(AT_ONCE).min(AT_ONCE);
    let mut sets = serde_json::Map::new();
    let mut more = false;
    if most > 0 && stream.status == Status::Enabled {
        let wait = if asked.return_immediately {
            Duration::ZERO
        } else {
            LONG_POLL
        };
        let mut waiting = known.signals.waiting(&known.name, most + 1, wait).await?;
        more = waiting.len() > most as usize;
        waiting.truncate(most as usize);
        for signal in waiting {
            if let Some(token) = known.signals.sign(&signal.claims) {
                sets.insert(signal.jti, json!(token));
            }
        }
    }
    let mut answer = json!({ "sets": sets });
    if more {
        answer["moreAvailable"] = json!(true);
    }
    Ok(no_store(Json(answer)))
}

impl Signals {
    /// What waits for a receiver, as soon as something does.
    async fn waiting(
        &self,
        receiver: &str,
        most: u32,
        wait: Duration,
    ) -> Result<Vec<WaitingSignal>, StoreError> {
        let until = tokio::time::Instant::now() + wait;
        let mut news = self.news.subscribe();
        loop {
            let waiting = self.store().waiting_signals(receiver, most).await?;
            if !waiting.is_empty() {
                return Ok(waiting);
            }
            match tokio::time::timeout_at(until, news.changed()).await {
                Ok(Ok(())) => {}
                _ => return Ok(Vec::new()),
            }
        }
    }
}

/// A transmitter pushes a token (RFC 8935 §2).
async fn pushed(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Refused> {
    let signals = shared.signals.clone().ok_or(Refused::Unknown)?;
    let shown = bearer(&headers).ok_or(Refused::Token)?;
    let transmitter = signals.transmitter(&name, shown).ok_or(Refused::Token)?;
    let media = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if !media.is_some_and(|media| media.trim().eq_ignore_ascii_case(MEDIA_TYPE)) {
        return Err(Refused::Malformed(format!(
            "the body must be `{MEDIA_TYPE}`"
        )));
    }
    let text = std::str::from_utf8(&body).unwrap_or_default();
    match signals.take(&transmitter, text.trim_end()).await {
        Ok(()) => Ok(StatusCode::ACCEPTED.into_response()),
        Err(problem) if problem.may_pass() => Err(Refused::Failed(problem.to_string())),
        Err(problem) => {
            let told = json!({ "err": problem.code(), "description": problem.to_string() });
            Ok((StatusCode::BAD_REQUEST, Json(told)).into_response())
        }
    }
}
