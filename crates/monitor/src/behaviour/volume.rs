//! How much is usual: an average that forgets, with a deviation that outliers do not move.

use serde::{Deserialize, Serialize};

/// The weight of the newest window.
const WEIGHT: f64 = 0.05;
/// A window enters the average as at most this many deviations above it.
const CLAMP: f64 = 3.0;
/// A window is unusual from this many deviations above the average on, if it is also
const DEVIATIONS: f64 = 6.0;
/// this many times the average.
const TIMES: f64 = 3.0;
/// An average grows by at most this factor in a day.
pub(super) const GROWTH_PER_DAY: f64 = 1.5;
/// An average that is this many times its anchor has drifted.
const DRIFT: f64 = 2.0;
/// Windows that must be known before anything is unusual.
const WARM_WINDOWS: u32 = 12;
const DAY: i64 = 86_400;
const WEEK: i64 = 7 * DAY;

/// How much of something happens in a window of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    mean: f64,
    deviation: f64,
    windows: u32,
    /// What counts as nothing: less than this is never unusual, and growth below it is free.
    floor: f64,
    day: i64,
    mean_at_day: f64,
    anchored: i64,
    anchor: f64,
    drift_told: bool,
}

/// What a window says about the average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Odd {
    /// The window has this many times the usual volume.
    Burst(f64),
    /// The average is this many times what it was at the anchor, at most a week ago.
    Drift(f64),
}

impl Volume {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(floor: f64) -> Self {
        Self {
            mean: 0.0,
            deviation: 0.0,
            windows: 0,
            floor,
            day: 0,
            mean_at_day: 0.0,
            anchored: 0,
            anchor: 0.0,
            drift_told: false,
        }
    }

    /// The average of a window.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// How many times the usual an amount would be, if it is unusual.
    #[must_use]
    pub fn burst(&self, amount: f64) -> Option<f64> {
        let usual = self.mean.max(self.floor / TIMES);
        let unusual = self.windows >= WARM_WINDOWS
            && amount > self.floor
            && amount > TIMES * usual
            && amount > self.mean + DEVIATIONS * self.deviation;
        unusual.then(|| amount / usual)
    }

    /// Takes in a window that is over, at a time in seconds.
    pub fn add(&mut self, amount: f64, second: i64) -> Option<Odd> {
        let amount = if amount.is_finite() {
            amount.max(0.0)
        } else {
            0.0
        };
        let burst = self.burst(amount);
        if self.windows < WARM_WINDOWS {
            // The plain average of the first windows: there is nothing yet that could be protected.
            self.windows += 1;
            let share = 1.0 / f64::from(self.windows);
            self.deviation += ((amount - self.mean).abs() - self.deviation) * share;
            self.mean += (amount - self.mean) * share;
            (self.day, self.mean_at_day) = (second.div_euclid(DAY), self.mean);
            (self.anchored, self.anchor) = (second, self.mean);
            return None;
        }
        self.windows = self.windows.saturating_add(1);
        if second.div_euclid(DAY) != self.day {
            (self.day, self.mean_at_day) = (second.div_euclid(DAY), self.mean);
        }
        if second - self.anchored >= WEEK {
            (self.anchored, self.anchor, self.drift_told) = (second, self.mean, false);
        }
        let spread = self
            .deviation
            .clamp(self.mean * 0.1, self.mean.max(self.floor));
        let seen = amount.min(self.mean + CLAMP * spread);
        let most = (self.mean_at_day.max(self.floor / TIMES)) * GROWTH_PER_DAY;
        self.deviation += ((seen - self.mean).abs() - self.deviation) * WEIGHT;
        self.mean = (self.mean + (seen - self.mean) * WEIGHT).min(most.max(self.mean.min(most)));
        let drift = self.mean / self.anchor.max(self.floor / TIMES);
        if let Some(times) = burst {
            Some(Odd::Burst(times))
        } else if drift >= DRIFT && !self.drift_told {
            self.drift_told = true;
            Some(Odd::Drift(drift))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: i64 = 300;

    fn warm(amount: f64) -> Volume {
        let mut volume = Volume::new(10.0);
        for window in 0..40 {
            assert_eq!(
                volume.add(amount + f64::from(window % 3), i64::from(window) * WINDOW),
                None
            );
        }
        volume
    }

    #[test]
    fn a_burst_is_told_with_its_size() {
        let mut volume = warm(100.0);
        let Some(Odd::Burst(times)) = volume.add(4_300.0, 50 * WINDOW) else {
            panic!("no burst");
        };
        assert!((42.0..43.5).contains(&times), "{times}");
        assert_eq!(volume.burst(140.0), None);
    }

    #[test]
    fn little_is_never_much() {
        let mut volume = warm(0.0);
        assert_eq!(volume.add(9.0, 50 * WINDOW), None);
    }

    #[test]
    fn nothing_is_unusual_before_anything_is_usual() {
        let mut volume = Volume::new(10.0);
        assert!((0..12).all(|n| volume.add(f64::from(n) * 1_000.0, 0).is_none()));
    }

    #[test]
    fn slow_poisoning_takes_days_and_is_told() {
        // An attacker who sees the baseline and keeps just below what is unusual, in every window.
        let mut volume = warm(100.0);
        let begin = volume.mean();
        let (mut drifts, mut window) = (0, 50);
        while volume.mean() < 10.0 * begin {
            let amount = (3.0 * volume.mean()).max(volume.mean() + 5.9 * volume.deviation) * 0.999;
            if matches!(volume.add(amount, window * WINDOW), Some(Odd::Drift(_))) {
                drifts += 1;
            }
            window += 1;
        }
        let days = (window * WINDOW) / DAY;
        assert!(days >= 5, "ten times the volume after {days} days");
        assert!(drifts >= 1, "and nobody was told");
    }

    proptest! {
        #[test]
        fn no_day_moves_the_average_by_more_than_half(
            amounts in proptest::collection::vec(0.0f64..1e12, 1..288),
        ) {
            let mut volume = warm(100.0);
            let before = volume.mean();
            for (window, amount) in amounts.iter().enumerate() {
                volume.add(*amount, DAY + i64::try_from(window).unwrap() * WINDOW);
            }
            prop_assert!(volume.mean() <= before * GROWTH_PER_DAY + 1e-6);
        }

        #[test]
        fn nothing_makes_it_a_number_that_is_none(amounts in proptest::collection::vec(any::<f64>(), 0..100)) {
            let mut volume = Volume::new(1.0);
            for (at, amount) in amounts.iter().enumerate() {
                volume.add(*amount, i64::try_from(at).unwrap() * 40_000);
                prop_assert!(volume.mean().is_finite() && volume.deviation.is_finite());
            }
        }
    }
}
