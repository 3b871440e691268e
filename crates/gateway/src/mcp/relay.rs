//! The answer of an upstream on its way to the agent: one JSON body, or a stream of events.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use model::record::Ended;
use serde_json::json;
use tokio::time::Instant;

use super::agreement::SESSION;
use super::delivery::{Feed, delivery};
use super::exchange::{Call, Exchange};
use super::inspect::{NoMessage, Seen};
use super::news::{self, News};
use super::refusal::{Refusal, json_response};
use super::revision::Method;
use super::sse::{self, Cutter, Piece};
use crate::Body;
use crate::intake::{self, Broken};
use crate::wait;

/// Why a stream is ended by the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The task, agent or server was ended, or the task's time is up.
    Cut,
    /// The token that a long-lived stream was opened with has expired.
    TokenExpired,
    /// The session was ended.
    SessionGone,
    /// The client is gone, and nothing remains to be recorded for it.
    ClientGone,
}

impl Exchange {
    /// Passes on a JSON body: looked at, and taken in whole first.
    pub(super) async fn json(
        mut self: Box<Self>,
        mut head: Head,
        body: Body,
    ) -> Result<Response<Body>, Refusal> {
        let signal = self.caller.signal();
        let limit = self.limits.response_bytes;
        let expiry = wait(self.caller.task.task().expires_at);
        let body = tokio::select! {
            biased;
            () = signal.cut() => Err(Stop::Cut),
            () = tokio::time::sleep(expiry) => Err(Stop::Cut),
            body = intake::collect(body, limit, &self.shared.room) => Ok(body),
        };
        let text = match body {
            Ok(Ok(text)) => text,
            Ok(Err(broken)) => {
                let problem = match broken {
                    Broken::TooLong => format!("the server's answer is longer than {limit} bytes"),
                    Broken::Off => "the server's answer broke off".to_owned(),
                    Broken::NoRoom => {
                        "the gateway holds as many large messages as it may: try again later"
                            .to_owned()
                    }
                };
                return Err(self.fail(&problem));
            }
            Err(_) => return Err(self.cut()),
        };
        let text = match self.inspect(&text).await {
            Ok(Seen::Pass) => text,
            Ok(Seen::Changed(new)) => new.into(),
            Ok(Seen::Withheld) | Err(NoMessage) => {
                return Err(self.fail("the server's answer is no answer to the request"));
            }
        };
        if signal.is_cut() {
            return Err(self.cut());
        }
        if self.answered.is_empty() {
            return Err(self.fail("the server's answer is no answer to the request"));
        }
        if !self.calls.is_empty() {
            // Part of a batch was not answered; the rest is, so the agent gets that.
            let unanswered = "the server did not answer this request";
            self.abandon(Ended::UpstreamFailed, |call| {
                Refusal::upstream(Some(&call.id), unanswered)
            });
        }
        self.deliver(&text);
        self.finish_others(Ended::Answered);
        if self
            .session
            .as_ref()
            .is_some_and(|session| session.gone().is_cancelled())
        {
            // The handshake failed, so there is no session to name.
            head.session = None;
        }
        let mut response = json_response(StatusCode::OK, text);
        head.dress(&mut response);
        Ok(response)
    }

    /// Passes on a stream of events. It runs on by itself, so that each event is looked at, and
    /// recorded, whether or not the client reads.
    pub(super) fn stream(
        self: Box<Self>,
        head: Head,
        first: Vec<Bytes>,
        body: Body,
    ) -> Response<Body> {
        let (feed, delivered) = delivery(self.caller.signal());
        let pump = Pump {
            cutter: Cutter::new(self.limits.response_bytes),
            news: News::of(&self),
            exchange: self,
            client: Some(feed),
            resumable: false,
        };
        tokio::spawn(pump.run(first, body));
        let mut response = sse::response(delivered.boxed());
        head.dress(&mut response);
        response
    }

    /// The upstream failed: the calls are recorded as such, and the agent is told.
    pub(super) fn fail(&mut self, problem: &str) -> Refusal {
        tracing::warn!(server = %self.server, problem, "an MCP server failed");
        let id = self.calls.first().map(|call| call.id.clone());
        self.abandon(Ended::UpstreamFailed, |call| {
            Refusal::upstream(Some(&call.id), problem)
        });
        Refusal::upstream(id.as_ref(), problem)
    }

    /// The calls were cut off: they are recorded as such, and the agent is told.
    pub(super) fn cut(&mut self) -> Refusal {
        let told = match self.calls.first() {
            Some(call) => call.cut_off(),
            None => Refusal::upstream(None, "the task, the agent or the server was ended"),
        };
        self.abandon(Ended::Cut, Call::cut_off);
        told
    }
}

/// What the head of an answer carries besides its kind.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// The session id that the client is given.
    pub(super) session: Option<HeaderValue>,
}

impl Head {
    fn dress(self, response: &mut Response<Body>) {
        if let Some(session) = self.session {
            response.headers_mut().insert(SESSION, session);
        }
    }
}

/// Moves a stream from the upstream to the client.
struct Pump {
    exchange: Box<Exchange>,
    cutter: Cutter,
    /// What the gateway itself has to say to a client that listens.
    news: Option<News>,
    /// None once the client is gone.
    client: Option<Feed>,
    /// Whether an event had an id, so that the client may resume the stream.
    resumable: bool,
}

impl Pump {
    async fn run(mut self, first: Vec<Bytes>, mut body: Body) {
        let mut ends = Ends::of(&self.exchange);
        for event in first {
            if let Err(stop) = self.send(event, &mut ends).await {
                return self.stop(stop);
            }
        }
        loop {
            let frame = tokio::select! {
                biased;
                stop = ends.next() => return self.stop(stop),
                () = gone(self.client.as_ref()) => {
                    if let Err(stop) = self.client_gone(&mut ends) {
                        return self.stop(stop);
                    }
                    continue;
                }
                () = news::changed(self.news.as_mut()) => {
                    if let Err(stop) = self.tell_news(&mut ends).await {
                        return self.stop(stop);
                    }
                    continue;
                }
                frame = body.frame() => frame,
            };
            match frame {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    self.cutter.feed(&data);
                    if let Err(stop) = self.pieces(&mut ends).await {
                        return self.stop(stop);
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(server = %self.exchange.server, %error, "a stream broke off");
                    return self.ended(&mut ends).await;
                }
                None => return self.ended(&mut ends).await,
            }
        }
    }

    /// Passes on what is complete.
    async fn pieces(&mut self, ends: &mut Ends) -> Result<(), Stop> {
        loop {
            match self.cutter.next() {
                Ok(Some(piece)) => self.piece(piece, ends).await?,
                Ok(None) => return Ok(()),
                Err(too_long) => {
                    let problem = format!("the server sent {too_long}");
                    self.give_up(&problem);
                    return Err(Stop::ClientGone);
                }
            }
        }
    }

    async fn piece(&mut self, piece: Piece, ends: &mut Ends) -> Result<(), Stop> {
        self.resumable |= piece.id.is_some();
        if let Some(session) = &self.exchange.session {
            session.touch();
        }
        let bytes = match &piece.data {
            // Comments and events without a message pass, an event that primes the client too.
            None => piece.bytes,
            Some(data) if data.iter().all(u8::is_ascii_whitespace) => piece.bytes,
            Some(data) => match self.exchange.inspect(data).await {
                Ok(Seen::Pass) => piece.bytes,
                Ok(Seen::Changed(new)) => sse::event(piece.id.as_deref(), &new),
                Ok(Seen::Withheld) => match &piece.id {
                    // The place in the stream still moves on.
                    Some(id) => sse::event(Some(id), b""),
                    None => return Ok(()),
                },
                Err(problem) => {
                    self.give_up(&problem.to_string());
                    return Err(Stop::ClientGone);
                }
            },
        };
        self.exchange.deliver(&bytes);
        self.send(bytes, ends).await
    }

    /// Tells a client that listens that the tools which it may see are others now.
    async fn tell_news(&mut self, ends: &mut Ends) -> Result<(), Stop> {
        let is_new = self
            .news
            .as_mut()
            .is_some_and(|news| news.is_new(&self.exchange));
        if !is_new {
            return Ok(());
        }
        let messages = news::messages(&self.exchange);
        for message in messages {
            let event = sse::event(None, message.as_bytes());
            self.exchange.deliver(&event);
            self.send(event, ends).await?;
        }
        Ok(())
    }

    /// Hands bytes to the client, who may be slow; a cut does not wait for it.
    async fn send(&mut self, bytes: Bytes, ends: &mut Ends) -> Result<(), Stop> {
        let Some(client) = &self.client else {
            return Ok(());
        };
        let sent = tokio::select! {
            biased;
            stop = ends.next() => return Err(stop),
            sent = client.send(bytes) => sent,
        };
        if sent.is_err() {
            self.client_gone(ends)
        } else {
            Ok(())
        }
    }

    /// The client went away. Where each request has its own stream that cancels it (2026-07-28
    /// `basic/patterns/cancellation`); before, the request goes on and its result is recorded.
    fn client_gone(&mut self, ends: &mut Ends) -> Result<(), Stop> {
        self.client = None;
        if self.exchange.is_modern() || self.exchange.calls.is_empty() {
            return Err(Stop::ClientGone);
        }
        ends.drain(Duration::from_secs(self.exchange.limits.upstream_seconds));
        Ok(())
    }

    /// The upstream closed the stream.
    async fn ended(mut self, ends: &mut Ends) {
        let cutter = std::mem::replace(&mut self.cutter, Cutter::new(0));
        if let Some(mut rest) = cutter.rest() {
            // So that what the gateway has to say after it is an event of its own.
            rest.bytes = [&rest.bytes[..], b"\n\n"].concat().into();
            if let Err(stop) = self.piece(rest, ends).await {
                return self.stop(stop);
            }
        }
        if let (true, Some(session)) = (self.resumable, &self.exchange.session) {
            // 2025-11-25: the server may close the connection and go on when the client is back.
            session.wait_for(std::mem::take(&mut self.exchange.calls));
        }
        self.give_up_if_open();
    }

    fn give_up_if_open(mut self) {
        if !self.exchange.calls.is_empty() {
            self.give_up("the server closed the stream before it answered");
        }
        self.exchange.finish_others(Ended::Answered);
    }

    /// Tells the client that its calls failed.
    fn give_up(&mut self, problem: &str) {
        tracing::warn!(server = %self.exchange.server, problem, "a stream was given up");
        let errors = self.exchange.abandon(Ended::UpstreamFailed, |call| {
            Refusal::upstream(Some(&call.id), problem)
        });
        self.last_words(errors);
    }

    /// Ends the stream from this side.
    fn stop(mut self, stop: Stop) {
        match stop {
            Stop::Cut => {
                let errors = self.exchange.abandon(Ended::Cut, Call::cut_off);
                self.last_words(errors);
            }
            Stop::TokenExpired | Stop::SessionGone => {
                let mut events = Vec::new();
                let calls = std::mem::take(&mut self.exchange.calls);
                let (listens, others): (Vec<_>, Vec<_>) = calls
                    .into_iter()
                    .partition(|call| call.method == Method::Listen);
                for call in listens {
                    let text = Bytes::from(closing(&call));
                    self.exchange.answered.push((call, Ended::Answered));
                    self.exchange.deliver(&text);
                    events.push(text);
                }
                self.exchange.calls = others;
                events.extend(self.exchange.abandon(Ended::Cancelled, Call::cut_off));
                self.last_words(events);
            }
            Stop::ClientGone => {
                self.exchange.abandon(Ended::Cancelled, Call::cut_off);
            }
        }
    }

    /// The client gets these whenever it reads.
    fn last_words(&mut self, messages: Vec<Bytes>) {
        let Some(client) = self.client.take() else {
            return;
        };
        for message in messages {
            client.last(sse::event(None, &message));
        }
    }
}

/// The graceful end of a subscription (`basic/patterns/subscriptions`, Graceful Closure).
fn closing(call: &Call) -> String {
    json!({
        "jsonrpc": "2.0",
        "id": call.id,
        "result": {
            "resultType": "complete",
            "_meta": { "io.modelcontextprotocol/subscriptionId": call.id },
        },
    })
    .to_string()
}

async fn gone(client: Option<&Feed>) {
    match client {
        Some(client) => client.gone().await,
        None => std::future::pending().await,
    }
}

/// Everything that ends a stream from this side.
struct Ends {
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    session: Pin<Box<dyn Future<Output = ()> + Send>>,
    task_expires: Instant,
    token_expires: Option<Instant>,
    drained: Option<Instant>,
}

impl Ends {
    fn of(exchange: &Exchange) -> Self {
        let session = exchange
            .session
            .as_ref()
            .map(|session| session.gone().clone());
        let now = Instant::now();
        // Only what is open without an end in sight depends on the token that opened it.
        let long = exchange.opens_stream
            || exchange
                .calls
                .iter()
                .any(|call| call.method == Method::Listen);
        Self {
            cut: Box::pin(exchange.caller.signal().cut()),
            session: Box::pin(async move {
                match session {
                    Some(gone) => gone.cancelled_owned().await,
                    None => std::future::pending().await,
                }
            }),
            task_expires: now + wait(exchange.caller.task.task().expires_at),
            token_expires: long.then(|| now + wait(exchange.caller.expires)),
            drained: None,
        }
    }

    /// From now on the stream is only drained, for at most this long.
    fn drain(&mut self, longest: Duration) {
        self.drained = Some(Instant::now() + longest);
    }

    async fn next(&mut self) -> Stop {
        tokio::select! {
            biased;
            () = &mut self.cut => Stop::Cut,
            () = &mut self.session => Stop::SessionGone,
            () = tokio::time::sleep_until(self.task_expires) => Stop::Cut,
            () = at(self.token_expires) => Stop::TokenExpired,
            () = at(self.drained) => Stop::ClientGone,
        }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
