//! The queue in front of the writer: it fixes the order of records, and is bounded.
//!
//! It also decides when a group is worth a sync. A record that somebody waits for is; one that nobody
//! waits for lingers a moment, since the next group will take it along. And where many wait, the
//! next group is given a moment to gather: a sync costs the same for one record as for fifty.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use crate::tap::NewRecord;

/// Tells one waiter the index of its record, or why it is not durable.
pub(crate) type Ack = oneshot::Sender<Result<u64, String>>;

/// A record on its way.
pub(crate) struct Entry {
    pub(crate) record: NewRecord,
    /// Absent if nobody waits.
    pub(crate) ack: Option<Ack>,
}

/// Why a record was not taken in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
    Unavailable(String),
}

/// How much may wait, and how much is written at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

pub(crate) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    room: Notify,
    bounds: Bounds,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Entry>,
    bytes: usize,
    /// How many of the waiting records somebody waits for.
    urgent: usize,
    closed: bool,
    fault: Option<String>,
    /// What the writer sleeps for.
    sleep: Sleep,
}

/// What the writer sleeps for; whoever brings it wakes the writer.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Sleep {
    /// It does not sleep.
    #[default]
    Awake,
    /// Any record.
    Any,
    /// This many records that somebody waits for.
    Urgent(usize),
}

/// What a record takes up beside its bytes.
const OVERHEAD: usize = 64;
/// How long records that nobody waits for may wait for company.
const LINGER: Duration = Duration::from_millis(10);
/// How long those who wait may wait for each other; a fraction of what a sync takes.
const GATHER: Duration = Duration::from_micros(200);

impl Queue {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            state: Mutex::default(),
            arrived: Condvar::new(),
            room: Notify::new(),
            bounds,
        }
    }

    /// Puts a record into the queue. A record that somebody waits for is refused while the log cannot
    /// be written; others are kept for later, within the bounds.
    pub(crate) fn push(&self, entry: Entry) -> Result<(), (Entry, Refused)> {
        let mut state = self.state.lock();
        if state.closed {
            return Err((entry, Refused::Closed));
        }
        if entry.ack.is_some()
            && let Some(reason) = &state.fault
        {
            let reason = reason.clone();
            return Err((entry, Refused::Unavailable(reason)));
        }
        let size = entry.record.bytes.len() + OVERHEAD;
        if state.waiting.len() >= self.bounds.records || state.bytes + size > self.bounds.bytes {
            return Err((entry, Refused::Full));
        }
        state.bytes += size;
        state.urgent += usize::from(entry.ack.is_some());
        state.waiting.push_back(entry);
        let wake = match state.sleep {
            Sleep::Awake => false,
            Sleep::Any => true,
            Sleep::Urgent(wanted) => state.urgent >= wanted,
        };
        if wake {
            state.sleep = Sleep::Awake;
        }
        drop(state);
        if wake {
            self.arrived.notify_all();
        }
        Ok(())
    }

    /// Waits until there may be room again.
    pub(crate) fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.room.notified()
    }

    /// Waits for records and takes a group of them; `None` once the queue is closed and empty.
    /// Where somebody waits, others are given a moment to come, until `wanted` wait.
    pub(crate) fn take(&self, most: Bounds, wanted: usize) -> Option<Vec<Entry>> {
        let mut state = self.state.lock();
        self.wait_for_work(&mut state);
        if state.waiting.is_empty() {
            return None;
        }
        if wanted > 0 && state.urgent > 0 {
            let until = Instant::now() + GATHER;
            while state.urgent < wanted && !state.closed && state.fault.is_none() {
                state.sleep = Sleep::Urgent(wanted);
                if self.arrived.wait_until(&mut state, until).timed_out() {
                    break;
                }
            }
            state.sleep = Sleep::Awake;
        }
        let mut bytes = 0;
        let count = state
            .waiting
            .iter()
            .take(most.records)
            .take_while(|entry| {
                let length = entry.record.bytes.len();
                let room = bytes == 0 || bytes + length <= most.bytes;
                bytes += length;
                room
            })
            .count();
        let group: Vec<Entry> = state.waiting.drain(..count).collect();
        state.bytes -= group
            .iter()
            .map(|entry| entry.record.bytes.len() + OVERHEAD)
            .sum::<usize>();
        state.urgent -= group.iter().filter(|entry| entry.ack.is_some()).count();
        drop(state);
        self.room.notify_waiters();
        Some(group)
    }

    /// Waits until there is a record that somebody waits for, or others have lingered, or the queue
    /// is closed.
    fn wait_for_work(&self, state: &mut MutexGuard<'_, State>) {
        let mut until = Instant::now() + LINGER;
        while state.urgent == 0 && !state.closed && state.waiting.len() < self.bounds.records / 2 {
            state.sleep = Sleep::Urgent(1);
            if !self.arrived.wait_until(state, until).timed_out() {
                continue;
            }
            if !state.waiting.is_empty() {
                break;
            }
            // Nothing came: sleep until something does.
            state.sleep = Sleep::Any;
            self.arrived.wait(state);
            until = Instant::now() + LINGER;
        }
        state.sleep = Sleep::Awake;
    }

    /// Notes that the log cannot be written, and tells all who wait. Their records are dropped: they
    /// were never written. Records that nobody waits for are kept.
    pub(crate) fn fail(&self, reason: &str) {
        let mut state = self.state.lock();
        state.fault = Some(reason.to_owned());
        let (failed, kept): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut state.waiting)
            .into_iter()
            .partition(|entry| entry.ack.is_some());
        state.waiting = kept;
        state.urgent = 0;
        state.bytes = state
            .waiting
            .iter()
            .map(|entry| entry.record.bytes.len() + OVERHEAD)
            .sum();
        drop(state);
        for ack in failed.into_iter().filter_map(|entry| entry.ack) {
            let _ = ack.send(Err(reason.to_owned()));
        }
        self.room.notify_waiters();
    }

    /// Notes that the log can be written again.
    pub(crate) fn heal(&self) {
        self.state.lock().fault = None;
    }

    /// Why the log cannot be written, if so.
    pub(crate) fn fault(&self) -> Option<String> {
        self.state.lock().fault.clone()
    }

    /// Lets nothing in any more; what is in is still written.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
        self.room.notify_waiters();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Waits for a time, or less if the queue is closed.
    pub(crate) fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.closed && !self.arrived.wait_until(&mut state, until).timed_out() {}
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(length: usize) -> Entry {
        Entry {
            record: Bytes::from(vec![0; length]).into(),
            ack: None,
        }
    }

    fn queue() -> Queue {
        Queue::new(Bounds {
            records: 4,
            bytes: 1000,
        })
    }

    #[test]
    fn it_is_bounded_in_number_and_in_bytes() {
        let queue = queue();
        assert!(queue.push(entry(900)).is_ok());
        assert!(matches!(queue.push(entry(100)), Err((_, Refused::Full))));
        queue
            .take(
                Bounds {
                    records: 9,
                    bytes: 9999,
                },
                0,
            )
            .unwrap();
        for _ in 0..4 {
            assert!(queue.push(entry(1)).is_ok());
        }
        assert!(matches!(queue.push(entry(1)), Err((_, Refused::Full))));
        let group = queue
            .take(
                Bounds {
                    records: 3,
                    bytes: 2,
                },
                0,
            )
            .unwrap();
        assert_eq!(group.len(), 2, "the bound in bytes ends a group");
    }

    #[test]
    fn a_fault_fails_who_waits_and_keeps_the_rest() {
        let queue = queue();
        let (ack, mut told) = oneshot::channel();
        queue
            .push(Entry {
                record: Bytes::new().into(),
                ack: Some(ack),
            })
            .map_err(|(_, r)| r)
            .unwrap();
        queue.push(entry(3)).map_err(|(_, r)| r).unwrap();
        queue.fail("no space");
        assert_eq!(told.try_recv().unwrap(), Err("no space".to_owned()));
        let (ack, _told) = oneshot::channel();
        let refused = queue.push(Entry {
            record: Bytes::new().into(),
            ack: Some(ack),
        });
        assert!(matches!(refused, Err((_, Refused::Unavailable(reason))) if reason == "no space"));
        assert_eq!(
            queue
                .take(
                    Bounds {
                        records: 9,
                        bytes: 99
                    },
                    0
                )
                .unwrap()[0]
                .record
                .bytes
                .len(),
            3
        );
        queue.heal();
        assert_eq!(queue.fault(), None);
    }

    #[test]
    fn a_closed_queue_is_emptied_first() {
        let queue = queue();
        queue.push(entry(1)).map_err(|(_, r)| r).unwrap();
        queue.close();
        assert!(matches!(queue.push(entry(1)), Err((_, Refused::Closed))));
        assert!(
            queue
                .take(
                    Bounds {
                        records: 9,
                        bytes: 99
                    },
                    0
                )
                .is_some()
        );
        assert!(
            queue
                .take(
                    Bounds {
                        records: 9,
                        bytes: 99
                    },
                    0
                )
                .is_none()
        );
    }
}
