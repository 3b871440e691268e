//! What a client gets for a POST or a GET: one JSON message, or a stream of events.
//!
//! The first thing that the child says decides: when it is all that there is to say, the client gets
//! it as JSON; when the server has something else to say before the answer, as events.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep};

use super::child::{Child, ended};
use super::outlet::Parts;
use super::router::{Era, Part};
use crate::mcp::{raw, sse};
use crate::upstream::UpstreamError;
use crate::{Body, BodyError, full};

/// How long a stream may be silent before a comment shows that it is alive.
const SILENCE: Duration = Duration::from_secs(15);

/// Requests that wait for their answers. Dropping it gives them up, which a child of the modern era
/// is told; before, losing the connection is no cancellation (2025-11-25 `basic/transports`).
pub(super) struct Waiting {
    child: Arc<Child>,
    parts: Parts,
    /// The requests' numbers, in their order.
    numbers: Vec<u64>,
    /// How many answers are still to come.
    left: usize,
}

impl Waiting {
    /// Waits for as many answers as there are numbers, and `more` that are in the stream already.
    pub(super) fn new(child: Arc<Child>, parts: Parts, numbers: Vec<u64>, more: usize) -> Self {
        let left = numbers.len() + more;
        Self {
            child,
            parts,
            numbers,
            left,
        }
    }

    /// Gives up, and tells the child whatever its era.
    pub(super) fn cancel(&mut self) {
        self.left = 0;
        for number in self.numbers.drain(..) {
            // Not within the same statement: the lock would be held meanwhile.
            let line = self.child.router.lock().abandon(number);
            if let Some(line) = line {
                self.child.mention(line);
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.left > 0 && self.child.era == Era::Modern {
            self.cancel();
        }
    }
}

/// What was said before a stream had to begin, or all that was said.
pub(super) enum Said {
    /// The only answer, and its error code if it is an error.
    One(Bytes, Option<i64>),
    /// All answers of a batch.
    All(Vec<Bytes>),
    /// Not all yet: what was said so far, and what is to come.
    More(VecDeque<Bytes>, Waiting),
}

/// Waits for the first things that are said.
pub(super) async fn listen(
    mut waiting: Waiting,
    is_batch: bool,
    until: std::time::Instant,
) -> Result<Said, UpstreamError> {
    let mut said = VecDeque::new();
    loop {
        match tokio::time::timeout_at(until.into(), waiting.parts.next()).await {
            Ok(Some(Part::Answer { message, code })) => {
                waiting.left -= 1;
                if !is_batch {
                    return Ok(Said::One(message, code));
                }
                said.push_back(message);
                if waiting.left == 0 {
                    return Ok(Said::All(said.into()));
                }
            }
            Ok(Some(Part::Aside(message))) => {
                said.push_back(message);
                return Ok(Said::More(said, waiting));
            }
            Ok(Some(Part::Failed(error))) => {
                return Err(error);
            }
            Ok(None) => return Err(ended()),
            Err(_) => {
                waiting.cancel();
                return Err(UpstreamError::Timeout);
            }
        }
    }
}

/// The HTTP answer to a POST.
pub(super) fn respond(said: Said, era: Era) -> Response<Body> {
    match said {
        Said::One(message, code) => json(status(era, code), message),
        Said::All(messages) => json(
            StatusCode::OK,
            raw::array(messages.iter().map(|message| &message[..])),
        ),
        Said::More(said, waiting) => events(Events::new(said, Source::Answers(waiting))),
    }
}

/// The HTTP answer to a GET: what the child says beside its answers.
pub(super) fn stream(parts: Parts) -> Response<Body> {
    events(Events::new(VecDeque::new(), Source::Asides(parts)))
}

/// The status of an answer (2026-07-28 `basic/transports/streamable-http`, Error Handling). Before,
/// errors of requests have none of their own.
fn status(era: Era, code: Option<i64>) -> StatusCode {
    match (era, code) {
        (Era::Modern, Some(-32_601)) => StatusCode::NOT_FOUND,
        (Era::Modern, Some(-32_022..=-32_020)) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

/// An HTTP answer with one JSON message.
pub(super) fn json(status: StatusCode, message: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(message));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn events(events: Events) -> Response<Body> {
    let mut response = Response::new(events.boxed());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// A stream of events.
struct Events {
    /// What was said before the stream began.
    said: VecDeque<Bytes>,
    from: Source,
    silence: Pin<Box<Sleep>>,
}

/// Where events come from.
enum Source {
    /// Requests; the stream ends with the last answer.
    Answers(Waiting),
    /// A session; the stream ends with it.
    Asides(Parts),
    /// Nowhere any more.
    Nothing,
}

impl Events {
    fn new(said: VecDeque<Bytes>, from: Source) -> Self {
        Self {
            said,
            from,
            silence: Box::pin(tokio::time::sleep(SILENCE)),
        }
    }

    /// The next message, `None` at the end.
    fn poll_message(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(message) = self.said.pop_front() {
            return Poll::Ready(Some(Ok(message)));
        }
        let parts = match &mut self.from {
            Source::Nothing => return Poll::Ready(None),
            Source::Answers(waiting) => &mut waiting.parts,
            Source::Asides(parts) => parts,
        };
        let part = ready!(parts.poll_next(context));
        let broken = match (part, &mut self.from) {
            (Some(Part::Aside(message)), _) => return Poll::Ready(Some(Ok(message))),
            (Some(Part::Answer { message, .. }), Source::Answers(waiting)) => {
                waiting.left -= 1;
                if waiting.left == 0 {
                    self.from = Source::Nothing;
                }
                return Poll::Ready(Some(Ok(message)));
            }
            (Some(Part::Failed(error)), _) => Some(error),
            (None, Source::Answers(_)) => Some(ended()),
            (Some(Part::Answer { .. }) | None, _) => None,
        };
        self.from = Source::Nothing;
        Poll::Ready(broken.map(|error| Err(BodyError(error.to_string()))))
    }
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let bytes = match self.poll_message(context) {
            Poll::Ready(Some(Ok(message))) => sse::event(None, &message),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {
                ready!(self.silence.as_mut().poll(context));
                Bytes::from_static(b": \n\n")
            }
        };
        self.silence.as_mut().reset(Instant::now() + SILENCE);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}
