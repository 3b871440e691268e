//! A tap: the newest durable records, for one reader in the process, without a look at the disk.
//!
//! The writer pours each group in after it has told whoever waited for it, and never waits for the reader.
//! What finds no room is left out and counted; the reader sees the gap by the indices, and has
//! [`crate::Reader`] for it.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a record takes up beside its bytes.
const OVERHEAD: usize = 64;
/// What a [`Companion`] takes up, as a multiple of its record's bytes: an estimate.
const OF_COMPANION: usize = 2;

/// What a record was written from, for readers in this process: they need not read it from its bytes.
pub type Companion = Arc<dyn Any + Send + Sync>;

/// A record that is to be written.
pub struct NewRecord {
    pub(crate) bytes: Bytes,
    companion: Option<Companion>,
}

impl NewRecord {
    /// A record, and what it was written from.
    #[must_use]
    pub fn written_from(bytes: impl Into<Bytes>, companion: Companion) -> Self {
        Self {
            bytes: bytes.into(),
            companion: Some(companion),
        }
    }
}

impl<T: Into<Bytes>> From<T> for NewRecord {
    fn from(bytes: T) -> Self {
        Self {
            bytes: bytes.into(),
            companion: None,
        }
    }
}

/// A durable record, as it comes out of a [`Tap`].
#[derive(Clone)]
pub struct Tapped {
    /// Its index in the log.
    pub index: u64,
    /// Its bytes.
    pub bytes: Bytes,
    /// What it was written from, where whoever wrote it gave that along.
    pub companion: Option<Companion>,
}

impl Tapped {
    /// What it takes up.
    fn size(&self) -> usize {
        let of_companion = self.companion.as_ref().map_or(0, |_| OF_COMPANION);
        self.bytes.len() * (1 + of_companion) + OVERHEAD
    }
}

/// The reader's end. Dropped, nothing is poured any more.
pub struct Tap(Arc<Pipe>);

impl Tap {
    /// The next records, in order, at most `most` of them; waits until there is one. `None` once the log is
    /// closed and everything was taken.
    pub async fn next(&self, most: usize) -> Option<Vec<Tapped>> {
        loop {
            let arrived = self.0.arrived.notified();
            {
                let mut state = self.0.state.lock();
                let count = state.waiting.len().min(most.max(1));
                if count > 0 {
                    let taken: Vec<_> = state.waiting.drain(..count).collect();
                    let bytes: usize = taken.iter().map(Tapped::size).sum();
                    state.bytes -= bytes;
                    return Some(taken);
                }
                if state.closed {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// How many records wait to be taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.state.lock().waiting.len()
    }

    /// How many records found no room, ever.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.0.state.lock().left_out
    }
}

struct Pipe {
    state: Mutex<State>,
    arrived: Notify,
    records: usize,
    bytes: usize,
}

impl Pipe {
    fn pour(&self, records: impl Iterator<Item = Tapped>) {
        let mut state = self.state.lock();
        for record in records {
            let size = record.size();
            if state.waiting.len() >= self.records || state.bytes + size > self.bytes {
                state.left_out += 1;
            } else {
                state.bytes += size;
                state.waiting.push_back(record);
            }
        }
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Tapped>,
    bytes: usize,
    left_out: u64,
    closed: bool,
}

/// The writer's end of all taps.
#[derive(Default)]
pub(crate) struct Taps(Mutex<Vec<Weak<Pipe>>>);

impl Taps {
    /// Opens a tap with room for so many records and bytes.
    pub(crate) fn open(&self, records: usize, bytes: usize) -> Tap {
        let pipe = Arc::new(Pipe {
            state: Mutex::default(),
            arrived: Notify::new(),
            records,
            bytes,
        });
        self.0.lock().push(Arc::downgrade(&pipe));
        Tap(pipe)
    }

    /// Pours records in; the first has this index.
    pub(crate) fn pour(&self, first: u64, records: impl Iterator<Item = NewRecord>) {
        let records: Vec<Tapped> = (first..)
            .zip(records)
            .map(|(index, record)| Tapped {
                index,
                bytes: record.bytes,
                companion: record.companion,
            })
            .collect();
        self.each(|pipe| pipe.pour(records.iter().cloned()));
    }

    /// Nothing more comes.
    pub(crate) fn close(&self) {
        self.each(|pipe| pipe.state.lock().closed = true);
    }

    fn each(&self, act: impl Fn(&Pipe)) {
        self.0.lock().retain(|pipe| {
            let pipe = pipe.upgrade();
            if let Some(pipe) = &pipe {
                act(pipe);
                pipe.arrived.notify_one();
            }
            pipe.is_some()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(count: u8) -> impl Iterator<Item = NewRecord> {
        (0..count).map(|n| Bytes::from(vec![n; 10]).into())
    }

    #[tokio::test]
    async fn what_is_poured_comes_out_in_order_and_gaps_show() {
        let taps = Taps::default();
        let tap = taps.open(4, 1 << 20);
        taps.pour(7, records(6));
        assert_eq!(tap.left_out(), 2);
        let first = tap.next(3).await.unwrap();
        assert_eq!(
            first.iter().map(|record| record.index).collect::<Vec<_>>(),
            [7, 8, 9]
        );
        taps.pour(13, records(1));
        let next = tap.next(9).await.unwrap();
        assert_eq!(
            next.iter().map(|record| record.index).collect::<Vec<_>>(),
            [10, 13]
        );
        taps.close();
        assert!(tap.next(9).await.is_none());
    }

    #[tokio::test]
    async fn bytes_are_bounded_too_and_freed() {
        let taps = Taps::default();
        let tap = taps.open(100, 2 * (10 + OVERHEAD));
        for round in 0..3 {
            taps.pour(round * 3, records(3));
            assert_eq!(tap.waiting(), 2);
            assert_eq!(tap.next(9).await.unwrap().len(), 2);
        }
        assert_eq!(tap.left_out(), 3);
    }

    #[tokio::test]
    async fn what_a_record_was_written_from_comes_along_and_counts() {
        let taps = Taps::default();
        let tap = taps.open(100, 3 * 10 + OVERHEAD);
        let written = || {
            let bytes = Bytes::from_static(b"0123456789");
            NewRecord::written_from(bytes, Arc::new(4711_u32))
        };
        taps.pour(0, [written(), written()].into_iter());
        assert_eq!(tap.left_out(), 1);
        let taken = tap.next(9).await.unwrap();
        let companion = taken[0].companion.as_ref().unwrap();
        assert_eq!(companion.downcast_ref::<u32>(), Some(&4711));
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let taps = Arc::new(Taps::default());
        let tap = taps.open(4, 1 << 20);
        let waiting = tokio::spawn(async move { tap.next(9).await.map(|taken| taken.len()) });
        tokio::task::yield_now().await;
        taps.pour(0, records(2));
        assert_eq!(waiting.await.unwrap(), Some(2));
        taps.pour(2, records(2));
        assert!(taps.0.lock().is_empty(), "a dropped tap is forgotten");
    }
}
