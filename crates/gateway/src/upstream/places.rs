//! How many programs may run at once: overall, and for one task.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use model::TaskId;
use model::config::Limits;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::UpstreamError;

/// The places that programs take. One for all servers of a process.
pub(super) struct Places {
    limits: Arc<ArcSwap<Limits>>,
    taken: Mutex<HashMap<TaskId, usize>>,
    /// All that are taken.
    total: watch::Sender<usize>,
}

/// A place, held until the program has really ended.
pub(super) struct Place {
    places: Arc<Places>,
    task: TaskId,
}

impl Places {
    pub(super) fn new(limits: Arc<ArcSwap<Limits>>) -> Self {
        Self {
            limits,
            taken: Mutex::default(),
            total: watch::Sender::new(0),
        }
    }

    /// Takes a place for a task.
    pub(super) fn take(self: &Arc<Self>, task: TaskId) -> Result<Place, UpstreamError> {
        let limits = self.limits.load();
        let mut taken = self.taken.lock();
        if *self.total.borrow() >= limits.sessions {
            return Err(UpstreamError::TooMany(format!(
                "{} sessions are open, as many as `limits.sessions` allows; try again when some \
                 have ended",
                limits.sessions
            )));
        }
        let own = taken.entry(task).or_default();
        if *own >= limits.sessions_per_task {
            return Err(UpstreamError::TooMany(format!(
                "this task has {} sessions open, as many as `limits.sessions_per_task` allows; \
                 end one first",
                limits.sessions_per_task
            )));
        }
        *own += 1;
        self.total.send_modify(|total| *total += 1);
        Ok(Place {
            places: Arc::clone(self),
            task,
        })
    }

    /// Waits until no place is taken.
    pub(super) async fn empty(&self) {
        let mut total = self.total.subscribe();
        // It can only fail when the sender is gone, which is here.
        let _ = total.wait_for(|total| *total == 0).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        if let Some(own) = taken.get_mut(&self.task) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.task);
            }
        }
        self.places.total.send_modify(|total| *total -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(n: u8) -> TaskId {
        TaskId::new(jiff::Timestamp::UNIX_EPOCH, [n; 10])
    }

    #[test]
    fn both_limits_hold_and_places_come_back() {
        let limits = Limits {
            sessions: 3,
            sessions_per_task: 2,
            ..Limits::default()
        };
        let limits = Arc::new(ArcSwap::from_pointee(limits));
        let places = Arc::new(Places::new(Arc::clone(&limits)));
        let first = places.take(task(1)).unwrap();
        let _second = places.take(task(1)).unwrap();
        let refused = places.take(task(1)).err().unwrap();
        assert!(
            refused.to_string().contains("limits.sessions_per_task"),
            "{refused}"
        );
        let _third = places.take(task(2)).unwrap();
        let refused = places.take(task(2)).err().unwrap();
        assert!(
            refused.to_string().contains("`limits.sessions`"),
            "{refused}"
        );
        drop(first);
        let again = places.take(task(2)).unwrap();
        drop(again);
        // New limits hold from the next one on.
        limits.store(Arc::new(Limits {
            sessions: 2,
            ..Limits::default()
        }));
        assert!(places.take(task(2)).is_err());
        assert_eq!(places.taken.lock().len(), 2);
    }
}
