//! The writer thread: takes groups of records from the queue, makes each durable with one
//! `fdatasync`, and tells who waits. While one group is synced, the next one gathers.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::company::Company;
use crate::disk::Disk;
use crate::journal::SegmentWriter;
use crate::log::{Options, Shared};
use crate::queue::{Bounds, Entry};

/// Most that one group holds.
const GROUP: Bounds = Bounds {
    records: 8192,
    bytes: 4 << 20,
};

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Arc<Options>,
    /// Absent after a failure: the old file is not to be trusted any more.
    pub(crate) segment: Option<SegmentWriter>,
    /// The number of the newest segment.
    pub(crate) number: u64,
    /// The index of the next record.
    pub(crate) next: u64,
}

/// Tells, however the thread ends, that nothing more will be written.
struct Finished(Arc<Shared>);

impl Drop for Finished {
    fn drop(&mut self) {
        self.0.queue.close();
        self.0.queue.fail("the writer has ended");
        self.0.finish_writing();
    }
}

impl Writer {
    /// Runs until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let _finished = Finished(Arc::clone(&self.shared));
        let mut company = Company::default();
        // Nothing is taken out while there is a backlog: whoever waits can still be told then.
        while let Some(group) = {
            self.wait_for_publisher();
            self.shared.queue.take(GROUP, company.wanted())
        } {
            let waiters = group.iter().filter(|entry| entry.ack.is_some()).count();
            company.came(waiters);
            self.write(group);
        }
    }

    fn write(&mut self, mut group: Vec<Entry>) {
        let mut delay = self.options.retry_first;
        let mut last_try = false;
        loop {
            match self.try_write(&group) {
                Ok(()) => return self.acknowledge(group),
                Err(error) => self.fail(&mut group, &error),
            }
            if last_try {
                tracing::error!(
                    records = group.len(),
                    "the audit log is closed and cannot be written: records are lost"
                );
                return;
            }
            self.shared.queue.pause(delay);
            delay = (delay * 2).min(self.options.retry_most);
            last_try = self.shared.queue.is_closed();
        }
    }

    fn try_write(&mut self, group: &[Entry]) -> io::Result<()> {
        if self
            .segment
            .as_ref()
            .is_none_or(|segment| segment.length() >= self.options.segment_bytes)
        {
            self.segment = None;
            self.number += 1;
            let (writer, segment) = SegmentWriter::create(
                &*self.disk,
                &self.dir,
                self.number,
                self.next,
                self.options.ahead_bytes,
            )?;
            self.shared.segments.lock().push(Arc::new(segment));
            self.segment = Some(writer);
        }
        // Taken out, so that it is not used again if this fails: after a failed sync, neither the
        // file nor the page cache tells what is on the disk.
        let mut segment = self.segment.take().expect("made above if there was none");
        let records = group.iter().map(|entry| &entry.record.bytes[..]);
        let bytes = segment.append(self.next, records)?;
        self.segment = Some(segment);
        self.shared.written.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn acknowledge(&mut self, mut group: Vec<Entry>) {
        let first = self.next;
        self.next += group.len() as u64;
        if self.shared.queue.fault().is_some() {
            tracing::info!("the audit log can be written again");
            self.shared.queue.heal();
        }
        self.shared.durable.send_replace(self.next);
        for (entry, index) in group.iter_mut().zip(first..) {
            if let Some(ack) = entry.ack.take() {
                let _ = ack.send(Ok(index));
            }
        }
        // Who follows comes after who waits.
        let records = group.into_iter().map(|entry| entry.record);
        self.shared.taps.pour(first, records);
        self.shared.tell_publisher(self.next);
    }

    /// Tells all who wait. The group itself is written again at the same place: it may have reached
    /// the disk, and what a reader has seen there must not change.
    fn fail(&self, group: &mut [Entry], error: &io::Error) {
        let reason = error.to_string();
        if self.shared.queue.fault().is_none() {
            tracing::error!(%reason, "the audit log cannot be written");
        }
        // First, so that whoever is told finds the log unhealthy.
        self.shared.queue.fail(&reason);
        for ack in group.iter_mut().filter_map(|entry| entry.ack.take()) {
            let _ = ack.send(Err(reason.clone()));
        }
    }

    /// Waits while too much of the journal is not in the tiles yet, so that it cannot grow for ever.
    fn wait_for_publisher(&self) {
        let mut failed = false;
        while self.shared.backlog() > self.options.backlog_bytes && !self.shared.queue.is_closed() {
            if let Some(reason) = self.shared.publishing_fault() {
                self.shared.queue.fail(&reason);
                failed = true;
            }
            self.shared.queue.pause(Duration::from_millis(20));
        }
        if failed {
            self.shared.queue.heal();
        }
    }
}
