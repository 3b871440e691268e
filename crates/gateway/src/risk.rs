//! How bad agents and tasks look right now: numbers from 0 to 100 that decisions read without a lock.
//!
//! Whoever watches sets them, after each finding and as they fade; a task holds its own and that of its
//! agent, so that a decision looks nothing up.

use std::sync::atomic::{AtomicU8, Ordering};

/// The highest score.
pub const MOST: u8 = 100;

/// A score that changes while others read it.
#[derive(Debug, Default)]
pub struct Level(AtomicU8);

impl Level {
    /// The score now.
    #[must_use]
    pub fn get(&self) -> u8 {
        // Nothing else is ordered by it.
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the score; what is more than 100 is 100.
    pub(crate) fn set(&self, score: u8) {
        self.0.store(score.min(MOST), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_score() {
        let level = Level::default();
        assert_eq!(level.get(), 0);
        level.set(255);
        assert_eq!(level.get(), MOST);
    }
}
