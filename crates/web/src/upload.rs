//! A body that nobody can look into, on its way from the agent to the API: as it comes, but not for ever,
//! not without end, and not beyond the request that it belongs to.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use gateway::BodyError;
use gateway::problem::problem;
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// What such a body is held to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Most bytes.
    pub(crate) bytes: u64,
    /// Longest silence of the agent.
    pub(crate) silence: Duration,
}

/// Why a body ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broke {
    /// It is longer than it may be.
    TooLong,
    /// The agent sent nothing for too long.
    Silent,
    /// The agent broke off, or sent what is no body.
    Off,
    /// The task, the agent or the API was ended, or the answer was complete before it.
    Over,
}

/// Tells why a body broke, once it has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome(Arc<OnceLock<Broke>>);

impl Outcome {
    /// The answer to an agent whose body broke by its own doing; none otherwise.
    pub(crate) fn refusal(&self, bounds: Bounds) -> Option<Response<gateway::Body>> {
        let seconds = bounds.silence.as_secs();
        match self.0.get()? {
            Broke::TooLong => Some(too_long(bounds.bytes)),
            Broke::Silent => Some(problem(
                StatusCode::REQUEST_TIMEOUT,
                &format!("nothing of the body came for {seconds} seconds"),
                "send it without pauses",
            )),
            Broke::Off => Some(problem(
                StatusCode::BAD_REQUEST,
                "the body broke off",
                "send it whole",
            )),
            Broke::Over => None,
        }
    }
}

/// The refusal of a body that is too long.
fn too_long(bytes: u64) -> Response<gateway::Body> {
    let detail = format!("the body is longer than {bytes} bytes");
    let remedy = "send less at once; an operator can raise `opaque_bytes` of the API";
    problem(StatusCode::PAYLOAD_TOO_LARGE, &detail, remedy)
}

/// A body on its way. Trailers do not pass: they are headers that nobody looked at.
pub(crate) struct Upload<B> {
    body: B,
    bounds: Bounds,
    left: u64,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    answered: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Set while the agent is silent.
    until: Option<Pin<Box<Sleep>>>,
    outcome: Outcome,
}

impl<B> Upload<B> {
    /// A body that ends when the request is cut, and when the guard is dropped: whoever has the answer
    /// drops it when that is complete.
    pub(crate) fn new(
        body: B,
        bounds: Bounds,
        cut: WaitForCancellationFutureOwned,
    ) -> (Self, Outcome, DropGuard) {
        let answered = CancellationToken::new();
        let outcome = Outcome::default();
        let upload = Self {
            body,
            bounds,
            left: bounds.bytes,
            cut: Box::pin(cut),
            answered: Box::pin(answered.clone().cancelled_owned()),
            until: None,
            outcome: outcome.clone(),
        };
        (upload, outcome, answered.drop_guard())
    }

    fn broken(&self, why: Broke) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // What it broke by first is what counts.
        let why = self.outcome.0.get_or_init(|| why);
        Poll::Ready(Some(Err(BodyError(format!("the request broke: {why:?}")))))
    }
}

impl<B> Body for Upload<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let over = self.cut.as_mut().poll(context).is_ready()
            || self.answered.as_mut().poll(context).is_ready();
        if over {
            return self.broken(Broke::Over);
        }
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            let silence = self.bounds.silence;
            let until = self
                .until
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
            ready!(until.as_mut().poll(context));
            return self.broken(Broke::Silent);
        };
        self.until = None;
        let data = match frame {
            None => return Poll::Ready(None),
            Some(Err(_)) => return self.broken(Broke::Off),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                Err(_trailers) => return Poll::Ready(None),
            },
        };
        match self.left.checked_sub(data.len() as u64) {
            Some(left) => self.left = left,
            None => return self.broken(Broke::TooLong),
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http::HeaderMap;
    use http_body_util::{BodyExt as _, StreamBody};

    const BOUNDS: Bounds = Bounds {
        bytes: 10,
        silence: Duration::from_millis(20),
    };

    fn frames(
        all: Vec<Result<Frame<Bytes>, BodyError>>,
    ) -> StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, BodyError>> + Unpin> {
        StreamBody::new(stream::iter(all))
    }

    fn data(text: &'static str) -> Result<Frame<Bytes>, BodyError> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    fn status(outcome: &Outcome) -> u16 {
        outcome
            .refusal(BOUNDS)
            .map_or(0, |refused| refused.status().as_u16())
    }

    async fn sent(all: Vec<Result<Frame<Bytes>, BodyError>>) -> (Option<Bytes>, u16) {
        let cut = CancellationToken::new().cancelled_owned();
        let (upload, outcome, _guard) = Upload::new(frames(all), BOUNDS, cut);
        let got = upload.collect().await;
        let trailers = got.as_ref().is_ok_and(|got| got.trailers().is_some());
        assert!(!trailers);
        (got.ok().map(|got| got.to_bytes()), status(&outcome))
    }

    #[tokio::test]
    async fn it_passes_up_to_its_bounds_and_breaks_beyond_them() {
        let whole = Some(Bytes::from_static(b"0123456789"));
        assert_eq!(
            sent(vec![data("01234"), data("56789")]).await,
            (whole.clone(), 0)
        );
        assert_eq!(sent(vec![data("01234"), data("567890")]).await, (None, 413));
        let broken = Err(BodyError("broke".to_owned()));
        assert_eq!(sent(vec![data("0"), broken]).await, (None, 400));
        let trailers = Ok(Frame::trailers(HeaderMap::new()));
        let all = vec![data("0123456789"), trailers, data("more")];
        assert_eq!(sent(all).await, (whole, 0), "nothing comes behind trailers");
    }

    #[tokio::test]
    async fn a_silent_agent_an_answer_and_a_cut_end_it() {
        let token = CancellationToken::new();
        let cut = || token.clone().cancelled_owned();
        let silent = || StreamBody::new(stream::pending::<Result<Frame<Bytes>, BodyError>>());
        let (upload, outcome, _guard) = Upload::new(silent(), BOUNDS, cut());
        assert!(upload.collect().await.is_err());
        assert_eq!(status(&outcome), 408);

        let patient = Bounds {
            silence: Duration::from_secs(3600),
            ..BOUNDS
        };
        let (upload, outcome, guard) = Upload::new(silent(), patient, cut());
        let sending = tokio::spawn(upload.collect());
        drop(guard);
        assert!(sending.await.unwrap().is_err());
        assert_eq!(status(&outcome), 0);

        let (upload, _, _guard) = Upload::new(silent(), patient, cut());
        let sending = tokio::spawn(upload.collect());
        token.cancel();
        assert!(sending.await.unwrap().is_err());
    }
}
