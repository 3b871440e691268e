//! Answers over HTTP/2, whose client says when it takes how much of them.
//!
//! A client of HTTP/1.1 that takes nothing stops its connection, which [`super::untouched`] sees. One of
//! HTTP/2 may leave single answers where they are, for as long as it likes and while it goes on with
//! others. So answers are given out in small pieces, each of which says when it is gone, and an answer
//! that stays where it is for too long is given up: what it holds (memory, its place among the
//! requests, the task's stream) is free again.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::pulse::Pulse;
use crate::{Body, BodyError};

/// Most bytes that are given out at once: one frame, unless the client allows longer ones.
const PIECE: usize = 16 << 10;
/// A last piece of at most this many bytes needs no place: else whoever takes no refusals could take all
/// places, without a credential.
const SMALL: usize = 2 << 10;

/// One request and its answer. It is over once nobody holds it any more: the request, the answer's body,
/// or a piece of it that waits for the client.
pub(super) struct Exchange {
    connection: Arc<Pulse>,
    /// When something last happened to it.
    own: Pulse,
    /// Pieces that were given out and that the client has not taken.
    waiting: AtomicUsize,
    given_up: AtomicBool,
    left: Mutex<Left>,
    /// Its place among all requests.
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

/// What is still to be given out.
#[derive(Default)]
struct Left {
    piece: Bytes,
    body: Option<Body>,
}

impl Left {
    fn is_over(&self) -> bool {
        let ended = |body: &Body| body.is_end_stream();
        self.piece.is_empty() && self.body.as_ref().is_some_and(ended)
    }
}

impl Exchange {
    /// A request that has just arrived.
    pub(super) fn new(connection: Arc<Pulse>, place: Option<OwnedSemaphorePermit>) -> Arc<Self> {
        connection.beat();
        Arc::new(Self {
            own: connection.another(),
            connection,
            waiting: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
            left: Mutex::default(),
            place: Mutex::new(place),
        })
    }

    /// The body of its answer.
    pub(super) fn answer(self: Arc<Self>, body: Body) -> Answered {
        self.left.lock().body = Some(body);
        Answered(self)
    }

    /// Whether the client has left its answer untouched for so long.
    pub(super) fn is_stuck(&self, longest: Duration) -> bool {
        self.waiting.load(Ordering::Acquire) > 0 && self.own.since() >= longest
    }

    /// Lets go of all that it holds but the pieces that were given out.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        let left = std::mem::take(&mut *self.left.lock());
        let place = self.place.lock().take();
        // Outside the locks: whoever feeds the body is told by its end.
        drop((left, place));
    }

    /// Whether it was given up.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.connection.beat();
    }
}

/// Bytes on their way to the client.
struct Piece {
    bytes: Bytes,
    exchange: Arc<Exchange>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.exchange.own.beat();
        self.exchange.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The body of an answer.
pub(super) struct Answered(Arc<Exchange>);

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let exchange = &self.0;
        let mut left = exchange.left.lock();
        if left.piece.is_empty() {
            let Some(body) = left.body.as_mut() else {
                let gone = BodyError("the client did not take it".to_owned());
                return Poll::Ready(Some(Err(gone)));
            };
            match ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Ok(data) => left.piece = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other),
            }
        }
        let length = left.piece.len().min(PIECE);
        let bytes = left.piece.split_to(length);
        let is_last = left.is_over();
        drop(left);
        if is_last && length <= SMALL {
            drop(exchange.place.lock().take());
        }
        exchange.own.beat();
        exchange.waiting.fetch_add(1, Ordering::AcqRel);
        let piece = Piece {
            bytes,
            exchange: Arc::clone(exchange),
        };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.left.lock().is_over()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.0.left.lock();
        match &left.body {
            Some(body) if left.piece.is_empty() => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::full;
    use http_body_util::BodyExt as _;

    fn exchange() -> Arc<Exchange> {
        Exchange::new(Arc::new(Pulse::new()), None)
    }

    #[tokio::test]
    async fn an_answer_comes_in_pieces_and_whole() {
        let all: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        let mut answer = exchange().answer(full(all.clone()));
        assert_eq!(answer.size_hint().exact(), Some(100_000));
        let mut got = Vec::new();
        while !answer.is_end_stream() {
            let piece = answer.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE);
            got.extend_from_slice(&piece);
        }
        assert_eq!(got, all);
        assert!(exchange().answer(full("")).is_end_stream());
    }

    #[tokio::test]
    async fn an_answer_that_stays_where_it_is_is_given_up_and_ends_broken() {
        let exchange = exchange();
        let mut answer = Arc::clone(&exchange).answer(full(vec![b'x'; 3 * PIECE]));
        assert!(!exchange.is_stuck(Duration::ZERO), "nothing waits yet");
        let piece = answer.frame().await.unwrap().unwrap();
        assert!(exchange.is_stuck(Duration::ZERO));
        assert!(!exchange.is_stuck(Duration::from_secs(3600)));
        drop(piece);
        assert!(!exchange.is_stuck(Duration::ZERO), "it was taken");
        let _waits = answer.frame().await.unwrap().unwrap();
        exchange.give_up();
        assert!(exchange.is_given_up() && !answer.is_end_stream());
        assert!(
            answer.frame().await.unwrap().is_err(),
            "half is not the whole"
        );
    }

    #[tokio::test]
    async fn only_small_answers_wait_without_a_place() {
        for (length, free) in [(SMALL, 1), (SMALL + 1, 0), (PIECE + SMALL, 1)] {
            let places = Arc::new(tokio::sync::Semaphore::new(1));
            let place = Arc::clone(&places).try_acquire_owned().ok();
            let exchange = Exchange::new(Arc::new(Pulse::new()), place);
            let mut answer = exchange.answer(full(vec![b'x'; length]));
            let mut waiting = Vec::new();
            while !answer.is_end_stream() {
                assert_eq!(places.available_permits(), 0);
                waiting.push(answer.frame().await);
            }
            assert_eq!(places.available_permits(), free, "{length}");
            drop((answer, waiting));
            assert_eq!(places.available_permits(), 1);
        }
    }

    #[tokio::test]
    async fn it_is_over_when_its_last_piece_is_gone() {
        let exchange = exchange();
        let weak = Arc::downgrade(&exchange);
        let mut answer = exchange.answer(full("abc"));
        let piece = answer.frame().await.unwrap().unwrap();
        drop(answer);
        assert!(weak.upgrade().is_some());
        drop(piece);
        assert!(weak.upgrade().is_none());
    }
}
