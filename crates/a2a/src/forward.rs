//! Steps 6 to 8: to the other agent, and its answer on the way back, as one body or as events.

use std::sync::Arc;

use bytes::Bytes;
use gateway::caller::Caller;
use gateway::inspection::{About, What};
use gateway::intake::{self, Broken};
use gateway::mcp::delivery::{Feed, delivery};
use gateway::mcp::sse::{self, Cutter};
use gateway::pipeline::{Digest, Permit};
use gateway::slots::Slot;
use gateway::upstream::UpstreamError;
use gateway::{Body, full, wait};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use model::Denial;
use model::record::Ended;
use tokio::time::Instant;

use crate::refusal::{Fault, Refusal, json_response};
use crate::request::Binding;
use crate::visit::{Ready, Visit};
use crate::watch::Watch;
use crate::{Shared, inspect};

static VERSION: HeaderName = HeaderName::from_static("a2a-version");
static EXTENSIONS: HeaderName = HeaderName::from_static("a2a-extensions");
/// What keeps a stream alive between events.
const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// An answer under way.
struct Exchange {
    shared: Arc<Shared>,
    caller: Arc<Caller>,
    permit: Permit,
    digest: Digest,
    watch: Watch,
    _slot: Slot,
    response_bytes: usize,
}

impl Visit {
    /// Forwards a request that was permitted, and passes its answer on.
    ///
    /// # Errors
    /// [`Refusal`] when there is no answer to pass on.
    pub(crate) async fn forward(
        &self,
        ready: Ready,
        asked: &HeaderMap,
    ) -> Result<Response<Body>, Refusal> {
        let Ready {
            mut permit,
            site,
            path,
            http,
            body,
            watch,
            slot,
        } = ready;
        let text = body.map(|body| Bytes::from(body.to_string()));
        let mut request: Request<Body> = Request::new(full(text.clone().unwrap_or_default()));
        *request.method_mut() = http;
        let headers = request.headers_mut();
        let accept = match watch.method.streams() {
            true => "text/event-stream, application/json",
            false => "application/json",
        };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let version = HeaderValue::from_static(watch.dialect.version());
        headers.insert(VERSION.clone(), version);
        if text.is_some() {
            let json = HeaderValue::from_static("application/json");
            headers.insert(CONTENT_TYPE, json);
        }
        if let Some(extensions) = extensions(asked, &site.about.extensions) {
            headers.insert(EXTENSIONS.clone(), extensions);
        }
        let dispatch = permit
            .dispatch()
            .map_err(|denied| Refusal::denied(&denied))?;
        let exchange = Exchange {
            shared: Arc::clone(&self.shared),
            caller: Arc::clone(&self.caller),
            digest: permit.digest(),
            permit,
            watch,
            _slot: slot,
            response_bytes: self.limits.response_bytes,
        };
        let signal = exchange.permit.signal();
        let sent = tokio::select! {
            biased;
            () = signal.cut() => None,
            sent = site.web.send(request, &path) => Some(sent),
        };
        drop(dispatch);
        let answer = match sent {
            None => return Err(exchange.cut()),
            Some(Ok(answer)) => answer,
            Some(Err(error)) => {
                let fault = match error {
                    UpstreamError::TooMany(_) => Fault::TooMany,
                    _ => Fault::InvalidAnswer,
                };
                return Err(exchange.fail(fault, &error.to_string()));
            }
        };
        let kind = answer.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let events = kind.eq_ignore_ascii_case("text/event-stream");
        let status = answer.status();
        match (status, events) {
            (StatusCode::OK, true) if exchange.watch.method.streams() => {
                Ok(exchange.stream(answer.into_body()))
            }
            (_, false) if acceptable(status, &exchange.watch.binding) => {
                exchange.json(status, answer.into_body()).await
            }
            _ => {
                // Closes the connection; nobody reads it to its end.
                drop(answer);
                let story = format!("the agent answered with status {}", status.as_u16());
                Err(exchange.fail(Fault::InvalidAnswer, &story))
            }
        }
    }
}

/// Which statuses have an answer in them. Challenges and redirects have none for the caller: how the
/// gateway authenticates to the upstream is not its business, and nobody follows an upstream elsewhere.
fn acceptable(status: StatusCode, binding: &Binding) -> bool {
    match binding {
        Binding::JsonRpc(_) => status.is_success(),
        Binding::Rest => {
            status.is_success()
                || ((status.is_client_error() || status.is_server_error())
                    && !matches!(status.as_u16(), 401 | 403 | 407))
        }
    }
}

/// The extensions that the caller wants and the configuration lists.
fn extensions(asked: &HeaderMap, listed: &[String]) -> Option<HeaderValue> {
    let asked = asked.get_all(&EXTENSIONS).iter();
    let wanted: Vec<&str> = asked
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|uri| listed.iter().any(|listed| listed == uri))
        .take(16)
        .collect();
    (!wanted.is_empty()).then(|| HeaderValue::from_str(&wanted.join(", ")).ok())?
}

impl Exchange {
    /// What the caller is told when the exchange was cut off.
    fn cut(self) -> Refusal {
        let told = Refusal::denied(&self.permit.cut_off());
        self.permit.finish(Ended::Cut, self.digest);
        told
    }

    /// The upstream failed.
    fn fail(self, fault: Fault, story: &str) -> Refusal {
        tracing::warn!(server = %self.watch.server, story, "an agent failed");
        if self.watch.fresh {
            self.shared.close(self.watch.sub_task());
        }
        self.permit.finish(Ended::UpstreamFailed, self.digest);
        Refusal::of_permitted(fault, story)
    }

    /// Whose words an answer is.
    fn about(&self) -> About<'_> {
        let Watch { server, skill, .. } = &self.watch;
        inspect::about(&self.caller, server, skill, &self.permit)
    }

    /// The answer must not pass. Of what it began, the caller never learns.
    fn block(mut self, over: bool, denial: Denial) -> Refusal {
        let told = inspect::blocked(&mut self.permit, What::AgentAnswer, denial);
        if over || self.watch.fresh {
            self.shared.close(self.watch.sub_task());
        }
        self.permit.finish(Ended::UpstreamError, self.digest);
        told
    }

    /// Passes on a JSON body.
    async fn json(mut self, status: StatusCode, body: Incoming) -> Result<Response<Body>, Refusal> {
        let signal = self.permit.signal();
        let room = self.shared.room.clone();
        let expiry = Instant::now() + wait(self.caller.task.task().expires_at);
        let body = tokio::select! {
            biased;
            () = signal.cut() => None,
            () = tokio::time::sleep_until(expiry) => None,
            body = intake::collect(body, self.response_bytes, &room) => Some(body),
        };
        let text = match body {
            None => return Err(self.cut()),
            Some(Ok(text)) => text,
            Some(Err(broken)) => {
                let story = match broken {
                    Broken::TooLong => {
                        format!("the answer is longer than {} bytes", self.response_bytes)
                    }
                    Broken::Off => "the answer broke off".to_owned(),
                    Broken::NoRoom => "the gateway holds as many large messages as it may: try \
                                       again later"
                        .to_owned(),
                };
                let fault = match broken {
                    Broken::NoRoom => Fault::TooMany,
                    _ => Fault::InvalidAnswer,
                };
                return Err(self.fail(fault, &story));
            }
        };
        let seen = match self.watch.look(&text, &self.shared.owned) {
            Ok(seen) => seen,
            Err(none) => {
                let story = format!("the answer cannot be passed on: {}", none.0);
                return Err(self.fail(Fault::InvalidAnswer, &story));
            }
        };
        if !status.is_success() && seen.ended == Ended::Answered {
            return Err(self.fail(
                Fault::InvalidAnswer,
                "the answer cannot be passed on: its status and its body differ",
            ));
        }
        if signal.is_cut() {
            return Err(self.cut());
        }
        let mut text = seen
            .changed
            .map_or(text, |changed| Bytes::from(changed.to_string()));
        // What the gateway itself answers is the caller's own.
        if self.watch.own.is_none() {
            let about = self.about();
            let inspection = self.shared.pipeline.inspection();
            match inspect::whole(inspection, &about, &text) {
                Ok(None) => {}
                Ok(Some(other)) => {
                    self.permit.note("redacted", 1);
                    text = other;
                }
                Err(denial) => return Err(self.block(seen.over, denial)),
            }
        }
        self.digest.update(&text);
        if seen.over {
            self.shared.close(self.watch.sub_task());
        }
        if self.watch.registering.is_some() && !self.shared.pushes.kept().await {
            tracing::warn!("a webhook is registered, but would not be over a restart");
        }
        self.permit.finish(seen.ended, self.digest);
        let own = seen.ended == Ended::Answered && self.watch.own.is_some();
        let status = match self.watch.binding {
            Binding::Rest if !own => status,
            _ => StatusCode::OK,
        };
        Ok(json_response(status, text))
    }

    /// Passes on a stream of events. It runs on by itself, so that a cut reaches the upstream whether
    /// or not the client reads.
    fn stream(self, body: Incoming) -> Response<Body> {
        let (feed, delivered) = delivery(self.permit.signal());
        tokio::spawn(self.pump(body, feed));
        sse::response(delivered.boxed())
    }

    async fn pump(mut self, mut body: Incoming, feed: Feed) {
        let signal = self.permit.signal();
        let mut cut = std::pin::pin!(signal.cut());
        let until = self.caller.expires.min(self.caller.task.task().expires_at);
        let expiry = tokio::time::sleep_until(Instant::now() + wait(until));
        let mut expiry = std::pin::pin!(expiry);
        let mut cutter = Cutter::new(self.response_bytes);
        let mut following = self.shared.pipeline.inspection().follow();
        let mut redacted = 0u64;
        let mut ended = Ended::Answered;
        let stop = loop {
            let piece = match cutter.next() {
                Ok(piece) => piece,
                Err(too_long) => break Stop::Failed(format!("the agent sent {too_long}")),
            };
            let Some(piece) = piece else {
                let frame = tokio::select! {
                    biased;
                    () = &mut cut => break Stop::Cut,
                    () = &mut expiry => break Stop::Expired,
                    () = feed.gone() => break Stop::ClientGone,
                    frame = body.frame() => frame,
                };
                match frame {
                    None => break Stop::Done,
                    Some(Err(_)) => break Stop::Failed("the answer broke off".to_owned()),
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            cutter.feed(&data);
                        }
                    }
                }
                continue;
            };
            let event = match piece.data {
                None => Bytes::from_static(KEEP_ALIVE),
                Some(data) if data.iter().all(u8::is_ascii_whitespace) => continue,
                Some(data) => match self.watch.look(&data, &self.shared.owned) {
                    Err(none) => {
                        break Stop::Failed(format!("an event cannot be passed on: {}", none.0));
                    }
                    Ok(seen) => {
                        ended = seen.ended;
                        if seen.over {
                            self.shared.close(self.watch.sub_task());
                        }
                        let changed = seen.changed.map(|it| Bytes::from(it.to_string()));
                        let data = changed.unwrap_or(data);
                        let about = self.about();
                        match inspect::event(&mut following, &about, seen.spot, &data) {
                            Ok(None) => sse::event(None, &data),
                            Ok(Some(other)) => {
                                redacted += 1;
                                sse::event(None, &other)
                            }
                            Err(denial) => break Stop::Blocked(denial),
                        }
                    }
                },
            };
            self.digest.update(&event);
            let sent = tokio::select! {
                biased;
                () = &mut cut => break Stop::Cut,
                () = &mut expiry => break Stop::Expired,
                sent = feed.send(event) => sent,
            };
            if sent.is_err() {
                break Stop::ClientGone;
            }
            if ended == Ended::UpstreamError {
                break Stop::Done;
            }
        };
        if redacted > 0 {
            self.permit.note("redacted", redacted);
        }
        self.stop(stop, ended, &feed);
    }

    /// Ends a stream: the caller is told why, unless it ended by itself.
    fn stop(mut self, stop: Stop, answered: Ended, feed: &Feed) {
        let (ended, told) = match stop {
            Stop::Done => (answered, None),
            Stop::ClientGone => (Ended::Cancelled, None),
            Stop::Cut => (Ended::Cut, Some(Refusal::denied(&self.permit.cut_off()))),
            Stop::Expired => {
                let story = "the token or the task has expired: subscribe with a new token";
                let told = Refusal::of_permitted(Fault::Unsupported, story);
                (Ended::Cut, Some(told))
            }
            Stop::Blocked(denial) => {
                if self.watch.fresh {
                    self.shared.close(self.watch.sub_task());
                }
                let told = inspect::blocked(&mut self.permit, What::AgentAnswer, denial);
                (Ended::Cut, Some(told))
            }
            Stop::Failed(story) => {
                tracing::warn!(server = %self.watch.server, story, "an agent's stream was given up");
                let told = Refusal::of_permitted(Fault::InvalidAnswer, story);
                (Ended::UpstreamFailed, Some(told))
            }
        };
        if let Some(told) = told {
            let text = match &self.watch.binding {
                Binding::JsonRpc(id) => told.json_rpc(Some(id), self.watch.dialect),
                Binding::Rest => told.rest(),
            };
            let event = sse::event(None, text.to_string().as_bytes());
            self.digest.update(&event);
            feed.last(event);
        }
        self.permit.finish(ended, self.digest);
    }
}

/// Why a stream ends.
enum Stop {
    Done,
    ClientGone,
    Cut,
    Expired,
    Blocked(Denial),
    Failed(String),
}
