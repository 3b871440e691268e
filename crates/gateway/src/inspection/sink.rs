//! Where findings go: one queue of the process, bounded, which nobody who puts something into it ever
//! waits for. Its other end belongs to whoever turns findings into records and incidents.
//!
//! An attacker who can cause findings could fill the queue to hide one that matters. So the worse a
//! finding is, the more of the queue is open to it; and whatever found no room is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use model::DecisionId;
use model::inspection::{Response, Severity};
use monitor::Finding;
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::What;

/// Most findings that wait to be taken.
pub const WAITING: usize = 8_192;

/// A finding, with where it was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// When.
    pub at: Timestamp,
    /// What was looked at.
    pub what: What,
    /// The decision on the action that it belongs to, which names its records.
    pub decision: Option<DecisionId>,
    /// What was done about the message at once.
    pub response: Response,
    /// What was seen; its subject has agent, task, server and target as far as they are known.
    pub finding: Finding,
}

/// The end that findings are put into. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sink {
    waiting: Sender<Observed>,
    taken: Arc<Mutex<Option<Receiver<Observed>>>>,
    lost: Arc<AtomicU64>,
}

impl Default for Sink {
    fn default() -> Self {
        Self::with_room(WAITING)
    }
}

impl Sink {
    fn with_room(room: usize) -> Self {
        let (waiting, taken) = mpsc::channel(room);
        Self {
            waiting,
            taken: Arc::new(Mutex::new(Some(taken))),
            lost: Arc::default(),
        }
    }

    /// The other end, for the one who takes the findings; `None` for everybody who asks later.
    #[must_use]
    pub fn take(&self) -> Option<Receiver<Observed>> {
        self.taken.lock().take()
    }

    /// Puts a finding into the queue, if there is room for one of its severity. Never waits.
    pub fn put(&self, observed: Observed) {
        let room = self.waiting.max_capacity();
        let kept_free = match observed.finding.severity {
            Severity::Critical => 0,
            Severity::High => room / 8,
            Severity::Medium => room / 4,
            Severity::Low | Severity::Info => room / 2,
        };
        if self.waiting.capacity() <= kept_free || self.waiting.try_send(observed).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many findings found no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(severity: Severity) -> Observed {
        Observed {
            at: Timestamp::UNIX_EPOCH,
            what: What::ToolResult,
            decision: None,
            response: Response::Report,
            finding: Finding {
                rule: "x".to_owned(),
                severity,
                asi: None,
                atlas: None,
                subject: monitor::Subject::default(),
                evidence: None,
                explanation: String::new(),
            },
        }
    }

    #[test]
    fn a_flood_of_small_findings_leaves_room_for_what_matters() {
        let sink = Sink::with_room(16);
        for _ in 0..100 {
            sink.put(observed(Severity::Low));
        }
        for severity in [Severity::Medium, Severity::High, Severity::Critical] {
            sink.put(observed(severity));
        }
        let mut taken = sink.take().unwrap();
        let mut got = Vec::new();
        while let Ok(one) = taken.try_recv() {
            got.push(one.finding.severity);
        }
        assert_eq!(got.len(), 8 + 3);
        assert!(got.contains(&Severity::Critical) && got.contains(&Severity::Medium));
        assert_eq!(sink.lost(), 92);
        assert!(sink.take().is_none(), "there is one other end");
    }

    #[test]
    fn nobody_is_waited_for() {
        let sink = Sink::with_room(4);
        drop(sink.take());
        sink.put(observed(Severity::Critical));
        assert_eq!(sink.lost(), 1);
    }
}
