//! Open streams, counted per task.

use std::collections::HashMap;
use std::sync::Arc;

use model::TaskId;
use parking_lot::Mutex;

/// Counts the streams that each task has open.
#[derive(Clone, Default)]
pub struct Slots {
    open: Arc<Mutex<HashMap<TaskId, usize>>>,
}

/// One open stream; dropped, it is open no more.
pub struct Slot {
    slots: Slots,
    task: TaskId,
}

impl Slots {
    /// Takes a slot; `None` when the task has as many streams open as it may.
    pub fn take(&self, task: TaskId, limit: usize) -> Option<Slot> {
        let mut open = self.open.lock();
        let count = open.entry(task).or_insert(0);
        if *count >= limit {
            if *count == 0 {
                open.remove(&task);
            }
            return None;
        }
        *count += 1;
        Some(Slot {
            slots: self.clone(),
            task,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.slots.open.lock();
        if let Some(count) = open.get_mut(&self.task) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn slots_come_back_and_nothing_is_left_behind() {
        let slots = Slots::default();
        let task = |n| TaskId::new(Timestamp::UNIX_EPOCH, [n; 10]);
        let first = slots.take(task(1), 2).unwrap();
        let _second = slots.take(task(1), 2).unwrap();
        assert!(slots.take(task(1), 2).is_none());
        assert!(slots.take(task(2), 2).is_some());
        drop(first);
        assert!(slots.take(task(1), 2).is_some());
        assert!(slots.take(task(3), 0).is_none());
        assert_eq!(slots.open.lock().len(), 1);
    }
}
