//! Who asks at the endpoints of signals, what is answered when that is nobody, and which stream a request is
//! about.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use model::record::Record;
use response::signals::stream::{Method, VERIFY_EVERY};
use response::signals::{Event, EventKind, Stream, Subject};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use store::{StoreError, WaitingSignal};

use super::{Peers, Receiver, Signals};
use crate::http_api::Shared;
use crate::operator::bearer;

/// Why a request is refused.
pub(super) enum Refused {
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
pub(super) struct Known {
    pub(super) signals: Arc<Signals>,
    peers: Arc<Peers>,
    pub(super) name: String,
}

impl FromRequestParts<Arc<Shared>> for Known {
    type Rejection = Refused;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared>,
    ) -> Result<Self, Self::Rejection> {
        let signals = shared.signals.clone().ok_or(Refused::Unknown)?;
        let peers = signals.peers.load_full();
        let shown = bearer(&parts.headers).ok_or(Refused::Token)?;
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
}

/// What a request says that is about one stream.
pub(super) trait AboutStream: DeserializeOwned {
    /// What must be in its body, in words.
    const SAYS: &'static str;

    /// The stream that it names.
    fn stream_id(&self) -> &str;
}

impl Known {
    /// Reads a request that is about one stream of the receiver, and finds the stream. Whoever changes the
    /// stream must hold `signals.changing` before.
    pub(super) fn about<T: AboutStream>(&self, body: &Bytes) -> Result<(T, Stream), Refused> {
        let wanted: T = serde_json::from_value(object(body)?)
            .map_err(|_| Refused::Malformed(T::SAYS.to_owned()))?;
        let stream = self.stream(Some(wanted.stream_id()))?;
        Ok((wanted, stream))
    }

    /// The configuration of the receiver.
    pub(super) fn receiver(&self) -> &Receiver {
        &self.peers.receivers[&self.name]
    }

    /// The stream of the receiver, if it has that one.
    pub(super) fn stream(&self, id: Option<&str>) -> Result<Stream, Refused> {
        let streams = self.signals.streams.lock();
        let stream = streams.get(&self.name).ok_or(Refused::NoStream)?;
        match id {
            Some(id) if id != stream.id => Err(Refused::NoStream),
            _ => Ok(stream.clone()),
        }
    }

    /// The stream as the receiver is shown it.
    pub(super) fn shown(&self, stream: &Stream) -> Value {
        let issuer = self.signals.issuer();
        let endpoint = match stream.method {
            Method::Push => self.receiver().place().unwrap_or_default(),
            Method::Poll => format!("{issuer}/ssf/v1/poll/{}", stream.id),
        };
        stream.to_json(issuer, &self.receiver().config.audience, &endpoint)
    }

    /// Keeps a stream, with a record of what was done to it.
    pub(super) async fn keep(&self, stream: &Stream, change: &str) -> Result<(), Refused> {
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

    /// Records what the receiver did to a stream.
    pub(super) async fn record(&self, change: &str, stream: &str) -> Result<(), Refused> {
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
    pub(super) async fn tell(&self, stream: &Stream, kind: EventKind) -> Result<(), Refused> {
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

/// An answer that nobody may keep.
pub(super) fn no_store(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A body that is JSON.
pub(super) fn object(body: &Bytes) -> Result<Value, Refused> {
    serde_json::from_slice(body).map_err(|_| Refused::Malformed("the body must be JSON".to_owned()))
}
