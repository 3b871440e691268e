//! The client's requests that have no answer yet.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Most requests at a time.
pub(super) const LIMIT: usize = 64;

/// The requests that are under way.
#[derive(Default)]
pub(super) struct InFlight {
    running: Arc<Running>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Running(Mutex<HashMap<String, Request>>);

struct Request {
    cancel: CancellationToken,
    manner: Manner,
}

/// How a request ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// The server is told, and still answers or ends its stream (legacy era).
    Tell,
    /// Its connection is closed (2026-07-28 `basic/utilities/cancellation`).
    Drop,
    /// Like [`Self::Drop`]; and it goes on until somebody ends it, so nobody waits for it.
    Subscription,
}

/// Why a request was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotStarted {
    /// There are as many as there may be.
    TooMany,
    /// There is one with this id.
    SameId,
}

impl InFlight {
    /// Starts the work of a request.
    ///
    /// # Errors
    /// [`NotStarted`]; then the work was not begun.
    pub(super) fn start(
        &self,
        id: &Value,
        manner: Manner,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), NotStarted> {
        let key = id.to_string();
        let cancel = CancellationToken::new();
        {
            let mut running = self.running.lock();
            if running.len() >= LIMIT {
                return Err(NotStarted::TooMany);
            }
            if running.contains_key(&key) {
                return Err(NotStarted::SameId);
            }
            running.insert(
                key.clone(),
                Request {
                    cancel: cancel.clone(),
                    manner,
                },
            );
        }
        let running = Arc::clone(&self.running);
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                () = work => {}
            }
            running.lock().remove(&key);
        });
        Ok(())
    }

    /// Cancels a request where that is done here; otherwise the server must be told.
    pub(super) fn cancel(&self, id: &Value) -> Option<Manner> {
        let running = self.running.lock();
        let request = running.get(&id.to_string())?;
        if request.manner != Manner::Tell {
            request.cancel.cancel();
        }
        Some(request.manner)
    }

    /// Waits for what is under way, at most for a while; then drops the rest.
    pub(super) async fn finish(&self, patience: Duration) {
        self.drop_all(|request| request.manner == Manner::Subscription);
        self.tasks.close();
        if tokio::time::timeout(patience, self.tasks.wait())
            .await
            .is_err()
        {
            self.drop_all(|_| true);
            self.tasks.wait().await;
        }
    }

    fn drop_all(&self, which: impl Fn(&Request) -> bool) {
        for request in self
            .running
            .lock()
            .values()
            .filter(|request| which(request))
        {
            request.cancel.cancel();
        }
    }
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Request>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn requests_are_bounded_and_have_their_own_ids() {
        let all = InFlight::default();
        let start = |id: usize| all.start(&json!(id), Manner::Drop, std::future::pending());
        for id in 0..LIMIT {
            assert_eq!(start(id), Ok(()));
        }
        assert_eq!(start(LIMIT), Err(NotStarted::TooMany));
        assert_eq!(all.cancel(&json!(0)), Some(Manner::Drop));
        tokio::time::timeout(Duration::from_secs(5), async {
            while start(1) != Err(NotStarted::SameId) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        // 1 and "1" are two ids.
        assert_eq!(all.start(&json!("1"), Manner::Drop, async {}), Ok(()));
    }

    #[tokio::test]
    async fn a_request_of_the_legacy_era_runs_on_when_it_is_cancelled() {
        let all = InFlight::default();
        let (done, wait) = tokio::sync::oneshot::channel::<()>();
        let (told, heard) = tokio::sync::oneshot::channel();
        let work = async move {
            let _ = wait.await;
            let _ = told.send(());
        };
        all.start(&json!(1), Manner::Tell, work).unwrap();
        assert_eq!(all.cancel(&json!(1)), Some(Manner::Tell));
        assert_eq!(all.cancel(&json!(2)), None);
        done.send(()).unwrap();
        heard.await.unwrap();
    }

    #[tokio::test]
    async fn subscriptions_hold_up_nobody_and_others_only_for_a_while() {
        let all = InFlight::default();
        all.start(&json!(1), Manner::Subscription, std::future::pending())
            .unwrap();
        let before = Instant::now();
        all.finish(Duration::from_secs(20)).await;
        assert!(before.elapsed() < Duration::from_secs(10));
        let all = InFlight::default();
        all.start(&json!(1), Manner::Tell, std::future::pending())
            .unwrap();
        let before = Instant::now();
        all.finish(Duration::from_millis(100)).await;
        assert!(before.elapsed() >= Duration::from_millis(100));
    }
}
