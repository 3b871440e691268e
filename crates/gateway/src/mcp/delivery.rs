//! Between the upstream's pace and the client's: what waits for a client that reads slowly.
//!
//! Bounded in bytes, not in events. What waits is the agent's only until a cut: from then on it gets
//! nothing but the last words, even if everything else arrived before (R5).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::BodyError;
use crate::live::CutSignal;

/// Most that waits for one client, in kibibytes. A longer event waits alone.
const WAITING: u32 = 1 << 10;

/// The client is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

struct Waiting {
    bytes: Bytes,
    /// None for last words, which need no room.
    room: Option<OwnedSemaphorePermit>,
    /// Whether the stream breaks off here.
    broken: bool,
}

/// The upstream's end of a stream.
pub struct Feed {
    waiting: mpsc::UnboundedSender<Waiting>,
    room: Arc<Semaphore>,
}

/// The client's end of a stream.
pub struct Delivered {
    waiting: mpsc::UnboundedReceiver<Waiting>,
    cut: CutSignal,
}

/// Makes a pair, for a stream that ends with this cut.
pub fn delivery(cut: CutSignal) -> (Feed, Delivered) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let feed = Feed {
        waiting: sender,
        room: Arc::new(Semaphore::new(WAITING as usize)),
    };
    let delivered = Delivered {
        waiting: receiver,
        cut,
    };
    (feed, delivered)
}

impl Feed {
    /// Hands over bytes as soon as there is room for them.
    ///
    /// # Errors
    /// [`Gone`]
    pub async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        let kibibytes = u32::try_from(bytes.len().div_ceil(1 << 10)).unwrap_or(WAITING);
        let room = Arc::clone(&self.room).acquire_many_owned(kibibytes.clamp(1, WAITING));
        // What waits goes with the client, so this ends when the client is gone.
        let room = Some(room.await.map_err(|_| Gone)?);
        self.waiting
            .send(Waiting {
                bytes,
                room,
                broken: false,
            })
            .map_err(|_| Gone)
    }

    /// Hands over bytes that the client gets after a cut too; only a few, since they need no room.
    pub fn last(&self, bytes: Bytes) {
        // It fails when the client is gone, who then needs no words.
        let _ = self.waiting.send(Waiting {
            bytes,
            room: None,
            broken: false,
        });
    }

    /// Ends the stream with an error, so that half an answer does not look like a whole one.
    pub fn break_off(&self) {
        let waiting = Waiting {
            bytes: Bytes::new(),
            room: None,
            broken: true,
        };
        let _ = self.waiting.send(waiting);
    }

    /// Waits until the client is gone.
    pub async fn gone(&self) {
        self.waiting.closed().await;
    }
}

impl http_body::Body for Delivered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match ready!(self.waiting.poll_recv(context)) {
                Some(waiting) if waiting.room.is_some() && self.cut.is_cut() => {}
                Some(waiting) if waiting.broken => {
                    return Poll::Ready(Some(Err(BodyError("the answer was cut off".to_owned()))));
                }
                waiting => {
                    return Poll::Ready(waiting.map(|waiting| Ok(Frame::data(waiting.bytes))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::time::Duration;
    use tokio_util::sync::CancellationToken;

    async fn next(delivered: &mut Delivered) -> Option<Bytes> {
        let frame = tokio::time::timeout(Duration::from_secs(5), delivered.frame()).await;
        let frame = frame.expect("something comes")?;
        Some(frame.unwrap().into_data().unwrap())
    }

    #[tokio::test]
    async fn what_waits_is_not_delivered_after_a_cut() {
        let token = CancellationToken::new();
        let (feed, mut delivered) = delivery(CutSignal::of(token.clone()));
        for event in ["a", "b", "c"] {
            feed.send(event.into()).await.unwrap();
        }
        assert_eq!(next(&mut delivered).await.unwrap(), "a");
        token.cancel();
        feed.last("over".into());
        drop(feed);
        assert_eq!(next(&mut delivered).await.unwrap(), "over");
        assert_eq!(next(&mut delivered).await, None);
    }

    #[tokio::test]
    async fn only_so_much_waits() {
        let (feed, mut delivered) = delivery(CutSignal::of(CancellationToken::new()));
        let big = Bytes::from(vec![b'x'; 3 << 20]);
        feed.send(big.clone()).await.unwrap();
        let second = feed.send("small".into());
        let too_early = tokio::time::timeout(Duration::from_millis(50), second).await;
        assert!(too_early.is_err(), "it waits for the client");
        assert_eq!(next(&mut delivered).await.unwrap(), big);
        feed.send("small".into()).await.unwrap();
        assert_eq!(next(&mut delivered).await.unwrap(), "small");
    }

    #[tokio::test]
    async fn a_client_that_goes_away_holds_nobody_up() {
        let (feed, delivered) = delivery(CutSignal::of(CancellationToken::new()));
        feed.send(vec![b'x'; 1 << 20].into()).await.unwrap();
        let (second, ()) = tokio::join!(feed.send("small".into()), async { drop(delivered) });
        assert_eq!(second, Err(Gone));
        feed.gone().await;
    }
}
