//! A tap: the newest durable records, for one reader in the process, without a look at the disk.
//!
//! The writer pours each group in after it has told whoever waited for it, and never waits for the reader.
//! What finds no room is left out and counted; the reader sees the gap by the indices, and has
//! [`crate::Reader`] for it.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a record takes up beside its bytes.
const OVERHEAD: usize = 64;

/// The reader's end. Dropped, nothing is poured any more.
pub struct Tap(Arc<Pipe>);

impl Tap {
    /// The next records with their indices, in order, at most `most` of them; waits until there is one.
    /// `None` once the log is closed and everything was taken.
    pub async fn next(&self, most: usize) -> Option<Vec<(u64, Bytes)>> {
        loop {
            let arrived = self.0.arrived.notified();
            {
                let mut state = self.0.state.lock();
                let count = state.waiting.len().min(most.max(1));
                if count > 0 {
                    let taken: Vec<_> = state.waiting.drain(..count).collect();
                    let bytes: usize = taken.iter().map(|(_, record)| size(record)).sum();
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

fn size(record: &Bytes) -> usize {
    record.len() + OVERHEAD
}

struct Pipe {
    state: Mutex<State>,
    arrived: Notify,
    records: usize,
    bytes: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(u64, Bytes)>,
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
    pub(crate) fn pour<'a>(&self, first: u64, records: impl Iterator<Item = &'a Bytes> + Clone) {
        self.each(|pipe| {
            let mut state = pipe.state.lock();
            for (index, record) in (first..).zip(records.clone()) {
                if state.waiting.len() >= pipe.records || state.bytes + size(record) > pipe.bytes {
                    state.left_out += 1;
                } else {
                    state.bytes += size(record);
                    state.waiting.push_back((index, record.clone()));
                }
            }
        });
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

    fn records(count: u8) -> Vec<Bytes> {
        (0..count).map(|n| Bytes::from(vec![n; 10])).collect()
    }

    #[tokio::test]
    async fn what_is_poured_comes_out_in_order_and_gaps_show() {
        let taps = Taps::default();
        let tap = taps.open(4, 1 << 20);
        taps.pour(7, records(6).iter());
        assert_eq!(tap.left_out(), 2);
        let first = tap.next(3).await.unwrap();
        assert_eq!(
            first.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
            [7, 8, 9]
        );
        taps.pour(13, records(1).iter());
        let next = tap.next(9).await.unwrap();
        assert_eq!(
            next.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
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
            taps.pour(round * 3, records(3).iter());
            assert_eq!(tap.waiting(), 2);
            assert_eq!(tap.next(9).await.unwrap().len(), 2);
        }
        assert_eq!(tap.left_out(), 3);
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let taps = Arc::new(Taps::default());
        let tap = taps.open(4, 1 << 20);
        let waiting = tokio::spawn(async move { tap.next(9).await.map(|taken| taken.len()) });
        tokio::task::yield_now().await;
        taps.pour(0, records(2).iter());
        assert_eq!(waiting.await.unwrap(), Some(2));
        taps.pour(2, records(2).iter());
        assert!(taps.0.lock().is_empty(), "a dropped tap is forgotten");
    }
}
