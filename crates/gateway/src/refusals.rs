//! Records of requests that did not become actions. Anyone can send those, so their number is bounded:
//! beyond the limit they are counted, and the count stands in the next record.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use model::Denial;
use model::record::{Event, Record, Refusal};
use parking_lot::Mutex;

use crate::live::Live;
use crate::redaction::shorten;

/// Most refusal records in one second.
const PER_SECOND: u32 = 50;
/// Longest endpoint in a record, in characters.
const ENDPOINT_CHARACTERS: usize = 200;
/// Longest reason in a record, in characters.
const REASON_CHARACTERS: usize = 1_024;

/// Writes bounded records of refusals.
pub struct Refusals {
    live: Arc<Live>,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    second: i64,
    written: u32,
    suppressed: u64,
}

impl Refusals {
    /// Writes into the log of this `Live`.
    #[must_use]
    pub fn new(live: Arc<Live>) -> Self {
        Self {
            live,
            window: Mutex::default(),
        }
    }

    /// Records a refusal, or counts it when there were too many in this second.
    pub fn note(&self, now: Timestamp, endpoint: &str, caller: Option<String>, mut denial: Denial) {
        let Some(suppressed) = self.window.lock().admit(now.as_second()) else {
            return;
        };
        if suppressed > 0 {
            denial.reason.push_str(&format!(
                " ({suppressed} earlier refusals were not recorded singly)"
            ));
        }
        denial.reason = shorten(&denial.reason, REASON_CHARACTERS);
        let endpoint = shorten(endpoint, ENDPOINT_CHARACTERS);
        let refusal = Refusal {
            endpoint,
            denial,
            caller,
        };
        let record = Record::new(now, Event::Refusal(Box::new(refusal)));
        if let Err(error) = self.live.audit().submit(Bytes::from(record.to_bytes())) {
            tracing::warn!(%error, "a refusal was not recorded");
        }
    }
}

impl Window {
    /// Whether one more may be written in this second, and how many were not since the last one.
    fn admit(&mut self, second: i64) -> Option<u64> {
        if self.second != second {
            self.second = second;
            self.written = 0;
        }
        if self.written >= PER_SECOND {
            self.suppressed += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_not_written() {
        let mut window = Window::default();
        let written = (0..1_000).filter(|_| window.admit(7).is_some()).count();
        assert_eq!(written, PER_SECOND as usize);
        assert_eq!(window.admit(8), Some(1_000 - u64::from(PER_SECOND)));
        assert_eq!(window.admit(8), Some(0));
    }
}
