//! From a child's one pipe to each client's own stream.
//!
//! The channel itself has no bound: whoever reads the child's pipe waits for [`Outlet::room`] after
//! each message, so that it never holds more than the allowed amount and one message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::router::{Part, Sink};
use crate::upstream::UpstreamError;

/// How much may wait for a client, in bytes.
const WAITING: usize = 1 << 20;
/// What a message costs beside its bytes.
const OVERHEAD: usize = 512;
/// How long a client may leave that untouched before its stream is broken off: others wait for the
/// same pipe.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Load {
    waiting: AtomicUsize,
    taken: Notify,
    given_up: AtomicBool,
}

/// The child's end.
#[derive(Clone)]
pub(super) struct Outlet {
    parts: mpsc::UnboundedSender<Part>,
    load: Arc<Load>,
}

/// The client's end.
pub(super) struct Parts {
    parts: mpsc::UnboundedReceiver<Part>,
    load: Arc<Load>,
}

/// Makes a pair.
pub(super) fn outlet() -> (Outlet, Parts) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let load = Arc::new(Load::default());
    (
        Outlet {
            parts: sender,
            load: Arc::clone(&load),
        },
        Parts {
            parts: receiver,
            load,
        },
    )
}

fn weight(part: &Part) -> usize {
    match part {
        Part::Answer { message, .. } | Part::Aside(message) => message.len() + OVERHEAD,
        Part::Failed(_) => OVERHEAD,
    }
}

impl Sink for Outlet {
    fn put(&self, part: Part) {
        if self.is_closed() {
            return;
        }
        let weight = weight(&part);
        self.load.waiting.fetch_add(weight, Ordering::Relaxed);
        // An error means that the client is gone.
        let _ = self.parts.send(part);
    }

    fn is_closed(&self) -> bool {
        self.parts.is_closed() || self.load.given_up.load(Ordering::Relaxed)
    }
}

impl Outlet {
    /// Waits until the client has taken enough of what waits for it, or is gone. A client that
    /// takes nothing for too long loses its stream.
    pub(super) async fn room(&self) {
        let is_full = || self.load.waiting.load(Ordering::Relaxed) > WAITING;
        while is_full() && !self.is_closed() {
            let mut taken = std::pin::pin!(self.load.taken.notified());
            // Registered before the second look, so that what is taken in between is seen.
            taken.as_mut().enable();
            if !is_full() {
                return;
            }
            tokio::select! {
                () = taken => {}
                () = self.parts.closed() => return,
                () = tokio::time::sleep(PATIENCE) => {
                    self.put(Part::Failed(UpstreamError::Protocol(
                        "the client does not read it fast enough".to_owned(),
                    )));
                    self.load.given_up.store(true, Ordering::Relaxed);
                    return;
                }
            }
        }
    }
}

impl Parts {
    /// The next message; `None` when there will be none.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Part>> {
        let part = ready!(self.parts.poll_recv(context));
        if let Some(part) = &part {
            self.load.waiting.fetch_sub(weight(part), Ordering::Relaxed);
            self.load.taken.notify_one();
        }
        Poll::Ready(part)
    }

    /// The next message; `None` when there will be none.
    pub(super) async fn next(&mut self) -> Option<Part> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn big() -> Part {
        Part::Aside(Bytes::from(vec![b'x'; WAITING]))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_makes_room() {
        let (outlet, mut parts) = outlet();
        outlet.put(Part::Aside(Bytes::from_static(b"x")));
        outlet.room().await;
        outlet.put(big());
        let reads = async {
            tokio::time::sleep(PATIENCE / 2).await;
            parts.next().await;
            tokio::time::sleep(PATIENCE / 2).await;
            parts.next().await;
        };
        tokio::join!(outlet.room(), reads);
        assert!(!outlet.is_closed());
        assert_eq!(outlet.load.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_loses_its_stream() {
        let (outlet, mut parts) = outlet();
        outlet.put(big());
        outlet.room().await;
        assert!(outlet.is_closed());
        outlet.put(big());
        drop(outlet);
        assert!(matches!(parts.next().await, Some(Part::Aside(_))));
        assert!(matches!(parts.next().await, Some(Part::Failed(_))));
        assert_eq!(parts.next().await, None);
    }

    #[tokio::test]
    async fn a_client_that_is_gone_holds_nobody_up() {
        let (outlet, parts) = outlet();
        outlet.put(big());
        drop(parts);
        outlet.room().await;
        assert!(outlet.is_closed());
    }
}
