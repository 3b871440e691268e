//! Step 7 for streams: every event is looked at and counted before it passes, as it came.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gateway::Body;
use gateway::inspection::Following;
use gateway::mcp::delivery::{Feed, delivery};
use gateway::mcp::sse::{self, Cutter};
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use model::record::Ended;
use tokio::time::Instant;

use crate::exchange::{Exchange, Stage};
use crate::refusal::Refusal;
use look::look;

mod look;

/// Why a stream ends.
enum End {
    /// The provider has said all.
    Said,
    /// The provider failed, in words.
    Failed(String),
    /// The task, agent or server was ended, or the task's time is up.
    Cut,
    /// The budget is used up, or the stream breaks another rule.
    Refused(Box<Refusal>),
    /// The agent is gone.
    Gone,
}

impl Exchange {
    /// Passes on a stream. It runs by itself, so that a cut ends it whether or not the agent reads.
    pub(crate) fn stream(mut self, body: Incoming) -> Response<Body> {
        self.account.stage = Stage::Answering;
        let (feed, delivered) = delivery(self.signal());
        let pump = Pump {
            cutter: Cutter::new(self.visit.limits.response_bytes),
            idle: Duration::from_secs(self.visit.provider.llm.idle_seconds.max(1)),
            following: self.visit.shared.pipeline.inspection().follow(),
            exchange: self,
            feed,
        };
        tokio::spawn(pump.run(body));
        sse::response(delivered.boxed())
    }
}

/// Moves a stream from the provider to the agent.
struct Pump {
    exchange: Exchange,
    /// Looks at what the model writes.
    following: Following,
    cutter: Cutter,
    idle: Duration,
    feed: Feed,
}

impl Pump {
    async fn run(mut self, body: Incoming) {
        let end = self.pass(body).await;
        self.finish(end);
    }

    /// Passes on all that comes.
    async fn pass(&mut self, mut body: Incoming) -> End {
        let cut = self.exchange.signal().cut();
        let expires = Instant::now() + self.exchange.expires_in();
        tokio::pin!(cut);
        loop {
            let frame = tokio::select! {
                biased;
                () = &mut cut => return End::Cut,
                () = tokio::time::sleep_until(expires) => return End::Cut,
                () = self.feed.gone() => return End::Gone,
                frame = tokio::time::timeout(self.idle, body.frame()) => frame,
            };
            let (data, ends) = match frame {
                Err(_) => {
                    let seconds = self.idle.as_secs();
                    return End::Failed(format!("the provider was silent for {seconds} seconds"));
                }
                Ok(Some(Ok(frame))) => (frame.into_data().unwrap_or_default(), false),
                Ok(Some(Err(_))) => {
                    return End::Failed("the provider's answer broke off".to_owned());
                }
                Ok(None) => (Bytes::new(), true),
            };
            self.cutter.feed(&data);
            let events = match self.events(ends) {
                Ok(events) => events,
                Err(end) => return end,
            };
            if !events.is_empty() {
                self.exchange.account.pass(&events);
                tokio::select! {
                    biased;
                    () = &mut cut => return End::Cut,
                    () = tokio::time::sleep_until(expires) => return End::Cut,
                    sent = self.feed.send(events) => {
                        if sent.is_err() {
                            return End::Gone;
                        }
                    }
                }
            }
            if ends {
                return End::Said;
            }
        }
    }

    /// The complete events that have come, looked at. At the end also what is left.
    fn events(&mut self, ends: bool) -> Result<Bytes, End> {
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        let mut take = |bytes: Bytes| {
            if first.is_empty() && all.is_empty() {
                first = bytes;
            } else {
                if all.is_empty() {
                    all.extend_from_slice(&first);
                }
                all.extend_from_slice(&bytes);
            }
        };
        loop {
            match self.cutter.next() {
                Ok(Some(piece)) => take(look(&mut self.exchange, &mut self.following, &piece)?),
                Ok(None) => break,
                Err(too_long) => return Err(End::Failed(format!("the provider sends {too_long}"))),
            }
        }
        if ends {
            let cutter = std::mem::replace(&mut self.cutter, Cutter::new(0));
            if let Some(piece) = cutter.rest() {
                take(look(&mut self.exchange, &mut self.following, &piece)?);
            }
            let ended = self.following.end(&self.exchange.about_answer());
            ended.map_err(|denial| self.exchange.blocked(denial))?;
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }

    /// What became of it is recorded, and the agent is told unless all was said.
    fn finish(mut self, end: End) {
        let surface = self.exchange.visit.surface();
        let api = self.exchange.visit.api;
        let (ended, words) = match end {
            End::Said => (Ended::Answered, None),
            End::Gone => (Ended::Cancelled, None),
            End::Cut => (Ended::Cut, Some(self.exchange.account.cut_off())),
            End::Refused(refusal) => (Ended::Cut, Some(*refusal)),
            End::Failed(reason) => {
                let server = &self.exchange.visit.route.server;
                tracing::warn!(target: "upstream", %server, reason, "a stream was given up");
                let decision = self.exchange.account.permit().decision();
                (
                    Ended::UpstreamFailed,
                    Some(Refusal::upstream(decision, reason)),
                )
            }
        };
        if let Some(refusal) = words {
            let event = refusal.event(surface, api);
            self.exchange.account.pass(&event);
            self.feed.last(event);
        }
        self.exchange.account.finish(ended);
    }
}
