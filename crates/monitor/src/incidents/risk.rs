//! How bad an agent looks.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// After so many seconds half of the points are gone: one day.
const HALF_LIFE: f64 = 86_400.0;
/// Points at which the score is about 63.
const SCALE: f64 = 60.0;
/// Most points that are kept.
const MOST: f64 = 1_000.0;

/// Points for findings, which fade: half of them in a day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Risk {
    points: f64,
    at: Timestamp,
}

impl Risk {
    pub(super) fn new(at: Timestamp) -> Self {
        Self { points: 0.0, at }
    }

    pub(super) fn add(&mut self, points: f64, now: Timestamp) {
        self.points = (self.left(now) + points).clamp(0.0, MOST);
        self.at = self.at.max(now);
    }

    fn left(&self, now: Timestamp) -> f64 {
        let seconds = now.as_second().saturating_sub(self.at.as_second()).max(0);
        self.points * 0.5f64.powf(seconds as f64 / HALF_LIFE)
    }

    /// The score at a time: 0 (nothing) to 100.
    #[must_use]
    pub fn score(&self, now: Timestamp) -> f64 {
        100.0 * (1.0 - (-self.left(now) / SCALE).exp())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_fades() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut risk = Risk::new(at(0));
        risk.add(60.0, at(0));
        assert!((63.0..64.0).contains(&risk.score(at(0))));
        assert!((39.0..40.0).contains(&risk.score(at(86_400))));
        assert!(risk.score(at(30 * 86_400)) < 0.1);
    }

    proptest! {
        #[test]
        fn it_is_a_score(points in proptest::collection::vec((0.0f64..1e9, 0i64..1_000_000), 0..50)) {
            let mut risk = Risk::new(Timestamp::UNIX_EPOCH);
            for (points, second) in points {
                let now = Timestamp::from_second(second).unwrap();
                let before = risk.score(now);
                risk.add(points, now);
                prop_assert!((0.0..=100.0).contains(&risk.score(now)));
                prop_assert!(risk.score(now) >= before - 1e-9, "a finding never makes an agent look better");
            }
        }
    }
}
