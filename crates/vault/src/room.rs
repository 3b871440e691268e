//! What may wait in memory to be sealed, in bytes: whether it still gathers, or stands in the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The room of one vault.
#[derive(Debug)]
pub(crate) struct Room(AtomicUsize);

impl Room {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(bytes)))
    }

    /// How much of it is free, in bytes.
    pub(crate) fn free(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes some of it, if there is so much.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Option<Taken> {
        let mut taken = Taken {
            room: Arc::clone(self),
            bytes: 0,
        };
        taken.grow(bytes).then_some(taken)
    }
}

/// Room that is in use; given back when this goes.
#[derive(Debug)]
pub(crate) struct Taken {
    room: Arc<Room>,
    bytes: usize,
}

impl Taken {
    /// Takes more; false when there is not so much.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let less = |free: usize| free.checked_sub(bytes);
        let grown = self
            .room
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if grown.is_ok() {
            self.bytes += bytes;
        }
        grown.is_ok()
    }

    /// The room that it is of.
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_only_so_much() {
        let room = Room::new(10);
        let mut first = room.take(6).unwrap();
        assert!(room.take(5).is_none());
        assert!(first.grow(4) && !first.grow(1));
        drop(first);
        assert!(room.take(10).is_some());
    }
}
