//! How often something may happen: a bucket that fills with time.

use std::time::Instant;

/// A bucket of tokens.
#[derive(Debug)]
pub(super) struct Allowance {
    capacity: f64,
    per_second: f64,
    left: f64,
    at: Instant,
    refused: u64,
}

impl Allowance {
    /// At most `capacity` at once, and `per_second` in the long run.
    pub(super) fn new(capacity: u32, per_second: u32, now: Instant) -> Self {
        let capacity = f64::from(capacity);
        Self {
            capacity,
            per_second: f64::from(per_second),
            left: capacity,
            at: now,
            refused: 0,
        }
    }

    /// Whether it may happen now. If so, how often it might not since the last time that it might.
    pub(super) fn take(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.left = (self.left + passed * self.per_second).min(self.capacity);
        if self.left < 1.0 {
            self.refused = self.refused.saturating_add(1);
            return None;
        }
        self.left -= 1.0;
        Some(std::mem::take(&mut self.refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_empties_and_fills_again() {
        let start = Instant::now();
        let mut allowance = Allowance::new(2, 1, start);
        assert_eq!(allowance.take(start), Some(0));
        assert_eq!(allowance.take(start), Some(0));
        assert_eq!(allowance.take(start), None);
        assert_eq!(allowance.take(start + Duration::from_millis(900)), None);
        assert_eq!(allowance.take(start + Duration::from_secs(1)), Some(2));
        let later = start + Duration::from_secs(3600);
        assert_eq!(allowance.take(later), Some(0));
        assert_eq!(allowance.take(later), Some(0));
        assert_eq!(allowance.take(later), None);
        // A clock that seems to run backwards gives nothing.
        assert_eq!(allowance.take(start), None);
    }
}
