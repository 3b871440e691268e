//! Counts that decay.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How long denials, refusals and beginnings are remembered, in seconds.
pub(super) const MEMORY: f64 = 600.0;

/// So many times too much is too much, whatever the share.
const UNEXCUSED: f64 = 4.0;

/// A count that decays: by half in ten minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pressure {
    pub(super) count: f64,
    pub(super) all: f64,
    at: Timestamp,
    told: bool,
}

impl Pressure {
    pub(super) fn new(at: Timestamp) -> Self {
        Self {
            count: 0.0,
            all: 0.0,
            at,
            told: false,
        }
    }

    pub(super) fn add(&mut self, counts: bool, at: Timestamp) {
        self.fade(at);
        self.count += f64::from(u8::from(counts));
        self.all += 1.0;
    }

    /// Adds so many at once, all of which count.
    pub(super) fn add_many(&mut self, times: u64, at: Timestamp) {
        self.fade(at);
        let times = times as f64;
        self.count += times;
        self.all += times;
    }

    fn fade(&mut self, at: Timestamp) {
        let seconds = seconds_between(self.at, at);
        let left = 0.5f64.powf(seconds / MEMORY);
        self.count *= left;
        self.all *= left;
        self.at = self.at.max(at);
    }

    /// Whether it is more than may be, and was not told yet. Told again when it had gone down. A share that is
    /// small excuses only so much: what counts could be hidden among what does not.
    pub(super) fn is_over(&mut self, most: f64, least_share: f64) -> bool {
        if self.count < most / 2.0 {
            self.told = false;
        }
        let shown = self.count >= self.all * least_share || self.count >= most * UNEXCUSED;
        let over = self.count >= most && shown && !self.told;
        self.told |= over;
        over
    }
}

/// Seconds from one moment to a later one.
pub(super) fn seconds_between(before: Timestamp, after: Timestamp) -> f64 {
    let seconds = after.as_second().saturating_sub(before.as_second());
    seconds.max(0) as f64
}
