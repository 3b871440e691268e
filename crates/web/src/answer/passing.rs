//! Answers that are passed on as they come, at the agent's pace, until something ends them.

use std::time::Duration;

use bytes::Bytes;
use gateway::inspection::Passing;
use gateway::mcp::delivery::{Feed, delivery};
use gateway::slots::Slot;
use gateway::{Body, wait};
use http::Response;
use http::response::Parts;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use model::Denial;
use model::record::Ended;
use tokio::time::Instant;

use super::Answer;
use crate::account::Account;
use crate::watch::Watch;

/// How long nothing comes before words that are complete are passed on.
const PAUSE: Duration = Duration::from_secs(1);

impl Answer<'_> {
    /// Passes on what comes, behind what has come already.
    pub(super) fn stream(
        self,
        account: Account,
        head: Parts,
        body: Incoming,
        first: Bytes,
        looks: Option<(Watch, Passing)>,
    ) -> Response<Body> {
        let (feed, delivered) = delivery(account.permit.signal());
        let pump = Pump {
            account,
            feed,
            looks,
            idle: Duration::from_secs(self.settings.limits.upstream_seconds),
            expires: Instant::now() + wait(self.expires),
            _slot: self.slot,
        };
        tokio::spawn(pump.run(first, body));
        Response::from_parts(head, delivered.boxed())
    }
}

/// Moves an answer from the API to the agent.
struct Pump {
    account: Account,
    feed: Feed,
    /// What looks at it, if it is looked at.
    looks: Option<(Watch, Passing)>,
    /// How long the API may be silent.
    idle: Duration,
    expires: Instant,
    _slot: Slot,
}

/// What came of waiting for more.
enum More {
    Data(Bytes),
    Pause,
    End,
}

impl Pump {
    async fn run(mut self, first: Bytes, body: Incoming) {
        let ended = match self.pass(first, body).await {
            Ok(()) => self.account.ended,
            // Half an answer must not look like a whole one.
            Err(ended) => {
                self.feed.break_off();
                ended
            }
        };
        self.account.finish(ended);
    }

    /// Passes on all that comes; how it ends when it does not come to its end.
    async fn pass(&mut self, first: Bytes, mut body: Incoming) -> Result<(), Ended> {
        self.hand_over(first).await?;
        let mut paused = false;
        loop {
            let holds = |(_, passing): &(Watch, Passing)| passing.is_holding();
            let pauses = !paused && self.looks.as_ref().is_some_and(holds);
            let more = self.next(&mut body, pauses).await?;
            paused = matches!(more, More::Pause);
            let ends = matches!(more, More::End);
            let looked = self.look(more);
            let bytes = looked.map_err(|denial| self.blocked(&denial))?;
            self.hand_over(bytes).await?;
            if ends {
                return Ok(());
            }
        }
    }

    async fn next(&self, body: &mut Incoming, pauses: bool) -> Result<More, Ended> {
        let signal = self.account.permit.signal();
        let patience = if pauses {
            PAUSE.min(self.idle)
        } else {
            self.idle
        };
        let frame = tokio::select! {
            biased;
            () = signal.cut() => return Err(Ended::Cut),
            () = tokio::time::sleep_until(self.expires) => return Err(Ended::Cut),
            () = self.feed.gone() => return Err(Ended::Cancelled),
            frame = tokio::time::timeout(patience, body.frame()) => frame,
        };
        match frame {
            // Trailers do not pass: they come after all that was looked at.
            Ok(Some(Ok(frame))) => Ok(More::Data(frame.into_data().unwrap_or_default())),
            Ok(None) => Ok(More::End),
            Err(_) if pauses => Ok(More::Pause),
            Ok(Some(Err(_))) | Err(_) => Err(Ended::UpstreamFailed),
        }
    }

    /// What may leave now.
    fn look(&mut self, more: More) -> Result<Bytes, Denial> {
        let Some((watch, passing)) = &mut self.looks else {
            return Ok(match more {
                More::Data(data) => data,
                More::Pause | More::End => Bytes::new(),
            });
        };
        match more {
            More::Data(data) => passing.push(&watch.about(), &data),
            More::Pause => passing.pause(&watch.about()),
            More::End => passing.end(&watch.about()),
        }
    }

    async fn hand_over(&mut self, bytes: Bytes) -> Result<(), Ended> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.account.see(&bytes);
        let signal = self.account.permit.signal();
        tokio::select! {
            biased;
            () = signal.cut() => Err(Ended::Cut),
            () = tokio::time::sleep_until(self.expires) => Err(Ended::Cut),
            sent = self.feed.send(bytes) => sent.map_err(|_| Ended::Cancelled),
        }
    }

    /// What comes must not pass: the answer ends here.
    fn blocked(&mut self, denial: &Denial) -> Ended {
        let what = gateway::inspection::What::HttpAnswer;
        self.account.permit.note("blocked", what.as_str());
        let decision = self.account.permit.decision();
        tracing::info!(%decision, reason = denial.reason, "an answer was broken off");
        Ended::Cut
    }
}
