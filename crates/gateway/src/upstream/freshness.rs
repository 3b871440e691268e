//! Whether what is known of a server's tools is still what the server lists.
//!
//! A server that announces a change (`notifications/tools/list_changed`), a connection or program that is new,
//! and time that has passed: each makes what was compared with the pins stale. What a server lists may differ
//! from session to session, so each session, each program and, where requests stand for themselves, each
//! server is told apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// With what a server says that its tools changed.
pub(crate) const TOOLS_CHANGED: &str = "notifications/tools/list_changed";

/// What one server has announced, and what of it was looked at where requests stand for themselves.
#[derive(Debug)]
pub(crate) struct Freshness {
    /// How often it announced a change, and one.
    announced: AtomicU64,
    shared: Arc<Compared>,
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            announced: AtomicU64::new(1),
            shared: Arc::default(),
        }
    }
}

impl Freshness {
    /// The server has announced that its tools changed.
    pub(crate) fn announce(&self) {
        self.announced.fetch_add(1, Ordering::AcqRel);
    }

    /// Up to which announcement a listing that is asked for now is good.
    pub(crate) fn announced(&self) -> u64 {
        self.announced.load(Ordering::Acquire)
    }

    /// What all requests to the server share.
    pub(super) fn shared(&self) -> &Arc<Compared> {
        &self.shared
    }
}

/// Up to when the tools that one connection lists were compared with the pins.
#[derive(Debug)]
pub(crate) struct Compared {
    /// Up to which announcement; 0 before the first listing.
    up_to: AtomicU64,
    at: Mutex<Instant>,
    /// Held by whoever has the tools listed.
    pub(crate) alone: tokio::sync::Mutex<()>,
}

impl Default for Compared {
    fn default() -> Self {
        Self {
            up_to: AtomicU64::new(0),
            at: Mutex::new(Instant::now()),
            alone: tokio::sync::Mutex::default(),
        }
    }
}

impl Compared {
    /// Up to which announcement they were; 0 when they never were.
    pub(crate) fn up_to(&self) -> u64 {
        self.up_to.load(Ordering::Acquire)
    }

    /// They were compared, as they were listed after an announcement.
    pub(crate) fn compared(&self, announcement: u64) {
        self.up_to.fetch_max(announcement, Ordering::AcqRel);
        *self.at.lock() = Instant::now();
    }

    /// Whether so much time has passed that they are to be compared anew; says so to one only.
    pub(crate) fn is_due(&self, every: Duration) -> bool {
        let mut at = self.at.lock();
        let due = at.elapsed() >= every;
        if due {
            *at = Instant::now();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_makes_what_was_compared_stale() {
        let (freshness, compared) = (Freshness::default(), Compared::default());
        assert!(compared.up_to() < freshness.announced());
        let asked = freshness.announced();
        freshness.announce();
        compared.compared(asked);
        assert!(
            compared.up_to() < freshness.announced(),
            "it came meanwhile"
        );
        compared.compared(freshness.announced());
        assert_eq!(compared.up_to(), freshness.announced());
        compared.compared(asked);
        assert_eq!(
            compared.up_to(),
            freshness.announced(),
            "it never goes back"
        );
    }

    #[test]
    fn only_one_is_told_that_it_is_time() {
        let compared = Compared::default();
        assert!(!compared.is_due(Duration::from_secs(3_600)));
        assert!(compared.is_due(Duration::ZERO));
        assert!(!compared.is_due(Duration::from_secs(3_600)));
    }
}
