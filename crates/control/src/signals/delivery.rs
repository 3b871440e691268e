//! Pushes events to receivers (RFC 8935). One receiver's events go in their order; receivers do not wait
//! for each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gateway::Body;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use response::signals::MEDIA_TYPE;
use response::signals::stream::{Method as Delivery, Status};
use store::WaitingSignal;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Signals;

/// Events that are taken from the store at once.
const AT_ONCE: u32 = 20;
/// How long a receiver may take for one event.
const ANSWER: Duration = Duration::from_secs(10);
/// How long to wait after a failure: twice as long each time, up to five minutes.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Longest answer that is read.
const ANSWER_BYTES: usize = 16 << 10;

/// What became of an event.
enum Pushed {
    Taken,
    /// The receiver will never take it.
    Refused(String),
    Failed(String),
}

impl Signals {
    /// Delivers events until `stop` is cancelled.
    pub(super) async fn deliver(self: &Arc<Self>, stop: CancellationToken) {
        let mut news = self.news.subscribe();
        let mut waits: BTreeMap<String, (Instant, Duration)> = BTreeMap::new();
        loop {
            let mut pushing = tokio::task::JoinSet::new();
            for receiver in self.pushed_to() {
                let now = Instant::now();
                if waits.get(&receiver).is_some_and(|(until, _)| now < *until) {
                    continue;
                }
                let signals = Arc::clone(self);
                pushing.spawn(async move {
                    let done = signals.push_all(&receiver).await;
                    (receiver, done)
                });
            }
            while let Some(pushed) = pushing.join_next().await {
                let Ok((receiver, done)) = pushed else {
                    continue;
                };
                if let Err(why) = done {
                    let wait = waits
                        .get(&receiver)
                        .map_or(FIRST_WAIT, |(_, wait)| *wait * 2);
                    let wait = wait.min(LONGEST_WAIT);
                    tracing::warn!(%receiver, %why, ?wait, "signals could not be pushed; it is tried again");
                    waits.insert(receiver, (Instant::now() + wait, wait));
                } else {
                    waits.remove(&receiver);
                }
            }
            let until = waits.values().map(|(until, _)| *until).min();
            let again = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = news.changed() => if changed.is_err() { return },
                () = again => {}
            }
        }
    }

    /// The receivers that events are pushed to now.
    fn pushed_to(&self) -> Vec<String> {
        let peers = self.peers.load();
        let streams = self.streams.lock();
        let open = streams.iter().filter(|(name, stream)| {
            let known = peers.receivers.get(*name);
            stream.method == Delivery::Push
                && stream.status == Status::Enabled
                && known.is_some_and(|receiver| receiver.push.is_some())
        });
        open.map(|(name, _)| name.clone()).collect()
    }

    /// Pushes what waits for a receiver, until nothing does or something goes wrong.
    async fn push_all(&self, receiver: &str) -> Result<(), String> {
        loop {
            let waiting = self.store().waiting_signals(receiver, AT_ONCE).await;
            let waiting = waiting.map_err(|error| error.to_string())?;
            if waiting.is_empty() {
                return Ok(());
            }
            for signal in &waiting {
                match self.push(signal).await {
                    Pushed::Taken => {}
                    Pushed::Refused(why) => {
                        tracing::error!(receiver, jti = signal.jti, %why, "a receiver refused a signal for good");
                    }
                    Pushed::Failed(why) => return Err(why),
                }
                let done = [signal.jti.clone()];
                let forgotten = self.store().signals_delivered(receiver, &done).await;
                forgotten.map_err(|error| error.to_string())?;
            }
        }
    }

    async fn push(&self, signal: &WaitingSignal) -> Pushed {
        let peers = self.peers.load_full();
        let still = self.pushed_to().contains(&signal.receiver);
        let receiver = peers.receivers.get(&signal.receiver).filter(|_| still);
        let Some((web, path)) = receiver.and_then(|receiver| receiver.push.as_ref()) else {
            return Pushed::Failed("its stream was changed".to_owned());
        };
        let Some(token) = self.sign(&signal.claims) else {
            return Pushed::Failed("it could not be signed".to_owned());
        };
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, token.len().into());
        let request = request.map(|()| gateway::full(token));
        let answered = tokio::time::timeout(ANSWER, read(web, request, path, ANSWER_BYTES)).await;
        match answered {
            Err(_) => Pushed::Failed("it did not answer within 10 seconds".to_owned()),
            Ok(Err(why)) => Pushed::Failed(why),
            Ok(Ok((StatusCode::ACCEPTED | StatusCode::OK, _))) => Pushed::Taken,
            // It says what is wrong with the event (RFC 8935 §2.3): sending it again changes nothing.
            Ok(Ok((StatusCode::BAD_REQUEST, body))) => Pushed::Refused(told(&body)),
            Ok(Ok((status, _))) => Pushed::Failed(format!("it answered with {status}")),
        }
    }
}

/// The code of an error, as far as it is plain.
fn told(body: &[u8]) -> String {
    let error: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let code = error["err"].as_str().unwrap_or("no reason");
    code.chars()
        .filter(|c| c.is_ascii_graphic())
        .take(64)
        .collect()
}

/// Sends a request to a server of the configuration, and reads the answer of at most so many bytes.
pub(super) async fn read(
    web: &gateway::upstream::Web,
    request: Request<Body>,
    path: &str,
    most: usize,
) -> Result<(StatusCode, Vec<u8>), String> {
    let answer = web
        .send(request, path)
        .await
        .map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), most).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    Ok((status, body.to_vec()))
}
