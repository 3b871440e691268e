//! When something last happened.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The last moment at which something happened, readable and settable from everywhere.
pub(super) struct Pulse {
    origin: Instant,
    /// Milliseconds since the origin.
    last: AtomicU64,
}

impl Pulse {
    /// Something happens now.
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    /// Another one, by the same clock, that beats now.
    pub(super) fn another(&self) -> Self {
        let another = Self {
            origin: self.origin,
            last: AtomicU64::new(0),
        };
        another.beat();
        another
    }

    /// Something happens.
    pub(super) fn beat(&self) {
        self.last.store(self.millis(), Ordering::Release);
    }

    /// How long ago something happened last.
    pub(super) fn since(&self) -> Duration {
        let last = self.last.load(Ordering::Acquire);
        Duration::from_millis(self.millis().saturating_sub(last))
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
