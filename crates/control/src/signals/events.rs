//! Events on their way: those that receivers poll (RFC 8936), and those that transmitters push here (RFC 8935).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use response::signals::MEDIA_TYPE;
use response::signals::stream::{Method, Status};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{StoreError, WaitingSignal};

use super::Signals;
use super::known::{Known, Refused, no_store, object};
use crate::http_api::Shared;
use crate::operator::bearer;

/// Most events in one answer to a poll.
const AT_ONCE: u32 = 50;
/// Most identifiers that one poll acknowledges.
const ACKNOWLEDGED: usize = 1_000;
/// How long a poll waits for an event; less than a request may take.
const LONG_POLL: Duration = Duration::from_secs(20);

/// A poll (RFC 8936 §2.4).
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Poll {
    max_events: Option<u32>,
    return_immediately: bool,
    ack: Vec<String>,
    set_errs: BTreeMap<String, Value>,
}

/// A receiver asks for its events.
pub(super) async fn poll(
    known: Known,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refused> {
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
pub(super) async fn pushed(
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
