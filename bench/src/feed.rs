//! A body that does not end: an event each so often, until nobody takes them any more.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use hyper::body::{Body, Frame};
use tokio::time::{Interval, MissedTickBehavior};

const EVENT: &[u8] = b"data: {\"level\":12,\"unit\":\"m\"}\n\n";

/// Events without end.
pub struct Feed(Interval);

impl Feed {
    /// An answer of server-sent events that are so far apart.
    #[must_use]
    pub fn answer(apart: Duration) -> Response<Self> {
        let mut interval = tokio::time::interval(apart);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut response = Response::new(Self(interval));
        let kind = HeaderValue::from_static("text/event-stream");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}

impl Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.0.poll_tick(context));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(EVENT)))))
    }
}
