//! The log as its producers see it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{oneshot, watch};

use crate::LONGEST_RECORD;
use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, RealDisk};
use crate::error::AuditError;
use crate::journal::Segment;
use crate::note::VerifierKey;
use crate::queue::{Bounds, Entry, Queue, Refused};
use crate::recovery::{self, Recovery};
use crate::tap::{NewRecord, Tap, Taps};

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// The log's name: its checkpoints' origin and its key's name, such as `example.org/audit`.
    pub origin: String,
    /// The file of the Ed25519 signing key; made at the first start, for its owner only.
    pub key: PathBuf,
    /// How often new records are put into tiles and a checkpoint is signed.
    pub publish_every: Duration,
    /// How many new records cause a checkpoint before that time is over.
    pub publish_records: u64,
    /// How many records may wait to be written.
    pub queue_records: usize,
    /// How many bytes may wait to be written.
    pub queue_bytes: usize,
    /// How long `append` waits for room in the queue.
    pub wait_for_room: Duration,
    /// Size of a journal segment, in bytes, at which the next one is begun.
    pub segment_bytes: u64,
    /// How many bytes of a journal segment are zeroed ahead of what is written, so that a sync has
    /// nothing but data to write.
    pub ahead_bytes: u64,
    /// How many bytes of the journal may not be in tiles yet; beyond that, writing waits for them.
    pub backlog_bytes: u64,
    /// How long after a failure writing is tried again first; then twice as long each time.
    pub retry_first: Duration,
    /// The longest time between two tries.
    pub retry_most: Duration,
}

impl Options {
    /// The usual options for a log of that name with that key file.
    pub fn new(origin: impl Into<String>, key: impl Into<PathBuf>) -> Self {
        Self {
            origin: origin.into(),
            key: key.into(),
            publish_every: Duration::from_millis(500),
            publish_records: 65_536,
            queue_records: 65_536,
            queue_bytes: 64 << 20,
            wait_for_room: Duration::from_secs(2),
            segment_bytes: 16 << 20,
            ahead_bytes: 1 << 20,
            backlog_bytes: 1 << 30,
            retry_first: Duration::from_millis(100),
            retry_most: Duration::from_secs(5),
        }
    }
}

/// What the handle and the two threads share.
pub(crate) struct Shared {
    pub(crate) queue: Queue,
    /// Those who follow what becomes durable.
    pub(crate) taps: Taps,
    /// How many records are durable.
    pub(crate) durable: watch::Sender<u64>,
    /// Journal bytes written, and of these, in tiles.
    pub(crate) written: AtomicU64,
    pub(crate) consumed: AtomicU64,
    /// The segments that are needed, in order.
    pub(crate) segments: Mutex<Vec<Arc<Segment>>>,
    published: Mutex<Published>,
    news: Condvar,
    finished: AtomicBool,
    /// Whether both threads have ended.
    ended: watch::Sender<bool>,
}

struct Published {
    checkpoint: Checkpoint,
    fault: Option<String>,
    /// How many durable records wake the publisher.
    wake_at: u64,
}

impl Shared {
    pub(crate) fn new(
        options: &Options,
        durable: u64,
        segment: Arc<Segment>,
        checkpoint: Checkpoint,
    ) -> Self {
        let bounds = Bounds {
            records: options.queue_records,
            bytes: options.queue_bytes,
        };
        Self {
            queue: Queue::new(bounds),
            taps: Taps::default(),
            durable: watch::Sender::new(durable),
            written: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            segments: Mutex::new(vec![segment]),
            published: Mutex::new(Published {
                checkpoint,
                fault: None,
                wake_at: 0,
            }),
            news: Condvar::new(),
            finished: AtomicBool::new(false),
            ended: watch::Sender::new(false),
        }
    }

    /// Journal bytes that are not in tiles yet.
    pub(crate) fn backlog(&self) -> u64 {
        let written = self.written.load(Ordering::Relaxed);
        written.saturating_sub(self.consumed.load(Ordering::Relaxed))
    }

    pub(crate) fn durable(&self) -> u64 {
        *self.durable.borrow()
    }

    pub(crate) fn publishing_fault(&self) -> Option<String> {
        self.published.lock().fault.clone()
    }

    pub(crate) fn set_publishing_fault(&self, fault: Option<String>) {
        self.published.lock().fault = fault;
    }

    pub(crate) fn set_checkpoint(&self, checkpoint: Checkpoint) {
        self.published.lock().checkpoint = checkpoint;
    }

    /// Tells the publisher how many records are durable, if that is enough for it to act.
    pub(crate) fn tell_publisher(&self, durable: u64) {
        if durable >= self.published.lock().wake_at {
            self.news.notify_all();
        }
    }

    /// Lets the publisher sleep until that many records are durable or nothing more will be written,
    /// at most for a time.
    pub(crate) fn wait_for_records(&self, durable: u64, most: Duration) {
        let mut published = self.published.lock();
        published.wake_at = durable;
        // Looked at under the lock that the writer takes after it has changed this.
        if self.durable() < durable && !self.has_finished_writing() {
            self.news.wait_for(&mut published, most);
        }
    }

    /// Notes that nothing more will be written.
    pub(crate) fn finish_writing(&self) {
        self.finished.store(true, Ordering::Release);
        self.taps.close();
        drop(self.published.lock());
        self.news.notify_all();
    }

    pub(crate) fn has_finished_writing(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }
}

/// The audit log, to be written. Many producers share one; only one process may write a log.
///
/// Dropping it lets what was taken in still be written, in the background; [`AuditLog::close`] waits
/// for that.
pub struct AuditLog {
    shared: Arc<Shared>,
    options: Arc<Options>,
    verifier: VerifierKey,
}

impl AuditLog {
    /// Opens a log, or begins one; repairs what a crash has left. Blocks; takes a time that depends on
    /// the records since the last checkpoint, not on the size of the log.
    ///
    /// # Errors
    /// When another process writes it, what was complete is damaged, the key or the origin is not the
    /// log's, or the disk cannot be read or written.
    pub fn open(dir: &Path, options: Options) -> Result<(Arc<Self>, Recovery), AuditError> {
        Self::open_on(Arc::new(RealDisk), dir, options)
    }

    /// Opens a log whose writes go through a given [`Disk`].
    ///
    /// # Errors
    /// As [`AuditLog::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
    ) -> Result<(Arc<Self>, Recovery), AuditError> {
        let options = Arc::new(options);
        let opened = recovery::open(disk, dir, Arc::clone(&options))?;
        let log = Self {
            shared: opened.shared,
            options,
            verifier: opened.verifier,
        };
        Ok((Arc::new(log), opened.recovery))
    }

    /// Writes a record and waits until it is durable; its index. If the caller stops waiting, the
    /// record may still be written.
    ///
    /// # Errors
    /// When the record is too long, the log cannot be written (then at once), the queue stays full, or
    /// the log is closed. After [`AuditError::Unavailable`] the record may be in the log
    /// nevertheless: a failed write does not tell what reached the disk.
    pub async fn append(&self, record: impl Into<NewRecord>) -> Result<u64, AuditError> {
        let record = record.into();
        check_length(&record)?;
        let (ack, told) = oneshot::channel();
        let mut entry = Entry {
            record,
            ack: Some(ack),
        };
        let mut deadline = None;
        loop {
            let room = self.shared.queue.room();
            let mut room = std::pin::pin!(room);
            // Listening begins before the attempt, so that no news is missed between the two.
            if deadline.is_some() {
                room.as_mut().enable();
            }
            match self.shared.queue.push(entry) {
                Ok(()) => break,
                Err((back, Refused::Full)) => entry = back,
                Err((_, refused)) => return Err(refused.into()),
            }
            let Some(until) = deadline else {
                deadline = Some(tokio::time::Instant::now() + self.options.wait_for_room);
                continue;
            };
            if tokio::time::timeout_at(until, room).await.is_err() {
                return Err(AuditError::Full);
            }
        }
        match told.await {
            Ok(Ok(index)) => Ok(index),
            Ok(Err(reason)) => Err(AuditError::Unavailable(reason)),
            Err(_) => Err(AuditError::Closed),
        }
    }

    /// Lets a record be written, in the order of all records, without waiting for it. While the log
    /// cannot be written, it is kept for later.
    ///
    /// # Errors
    /// When the record is too long, the queue is full, or the log is closed.
    pub fn submit(&self, record: impl Into<NewRecord>) -> Result<(), AuditError> {
        let record = record.into();
        check_length(&record)?;
        let entry = Entry { record, ack: None };
        self.shared
            .queue
            .push(entry)
            .map_err(|(_, refused)| refused.into())
    }

    /// Whether the log is written as it should be.
    ///
    /// # Errors
    /// Why it is not. If only the checkpoints cannot be written, `append` still succeeds.
    pub fn health(&self) -> Result<(), AuditError> {
        if self.shared.queue.is_closed() {
            return Err(AuditError::Closed);
        }
        match self
            .shared
            .queue
            .fault()
            .or_else(|| self.shared.publishing_fault())
        {
            Some(reason) => Err(AuditError::Unavailable(reason)),
            None => Ok(()),
        }
    }

    /// How many records are durable.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.shared.durable()
    }

    /// Follows the number of durable records.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.durable.subscribe()
    }

    /// Follows the records that become durable from now on, with room for so many records and bytes that
    /// were not taken yet. Nobody who writes waits for it.
    #[must_use]
    pub fn tap(&self, records: usize, bytes: usize) -> Tap {
        self.shared.taps.open(records, bytes)
    }

    /// The last checkpoint that is on the disk.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        Some(self.shared.published.lock().checkpoint.clone())
    }

    /// What verifies this log's checkpoints.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Takes nothing in any more, waits until everything is written and a checkpoint covers it, and
    /// lets go of the log. If that fails, it is reported to `tracing`, and the next start repairs it.
    pub async fn close(&self) {
        let mut ended = self.shared.ended.subscribe();
        self.shared.queue.close();
        // The sender is in `self`, so this cannot fail.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

fn check_length(record: &NewRecord) -> Result<(), AuditError> {
    match record.bytes.len() {
        bytes if bytes > LONGEST_RECORD => Err(AuditError::TooLong { bytes }),
        _ => Ok(()),
    }
}

impl From<Refused> for AuditError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Full,
            Refused::Closed => Self::Closed,
            Refused::Unavailable(reason) => Self::Unavailable(reason),
        }
    }
}
