//! The writer thread: seals payloads, makes a group of them durable with one `fdatasync`, and only then
//! tells what became of them. It is the only one that changes what is on the disk.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use audit::disk::Disk;
use jiff::Timestamp;
use model::{AgentName, DecisionId, TaskId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{NotKept, VaultError};
use crate::frame::Head;
use crate::holdings::Expired;
use crate::keys::TaskKeys;
use crate::payload::{Bundle, Kept, Payload};
use crate::secret::TaskKey;
use crate::segment::{self, Segment, SegmentWriter, Tally};
use crate::vault::Shared;

/// Length of a segment, in bytes, at which the next one is begun.
const SEGMENT: u64 = 64 << 20;
/// Time after which the next one is begun all the same, so that old payloads can be removed.
const OLDEST: Duration = Duration::from_secs(24 * 3_600);
/// Most bundles that are made durable together.
const GROUP: usize = 256;
/// Most keys that are held in memory.
const CACHED: usize = 1_024;

/// What the writer is asked to do, in order.
pub(crate) enum Work {
    Keep(Bundle),
    Destroy(TaskId, oneshot::Sender<Result<(), VaultError>>),
    Expire(Timestamp, oneshot::Sender<Result<Expired, VaultError>>),
    Close,
}

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) keys: TaskKeys,
    /// The folder of the segments.
    pub(crate) dir: PathBuf,
    /// The number of the newest segment.
    pub(crate) number: u64,
    /// Absent before the first payload, and after a failure.
    pub(crate) segment: Option<SegmentWriter>,
    pub(crate) cached: HashMap<TaskId, TaskKey>,
    /// Why keys could not be made lately, if so.
    pub(crate) keyless: Option<String>,
}

/// Whose payloads are sealed.
struct About {
    task: TaskId,
    agent: AgentName,
    decision: DecisionId,
    now: Timestamp,
}

/// Tells, however the thread ends, that it has.
struct Ended(watch::Sender<bool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Writer {
    /// Runs until it is closed, or nobody is left who could ask for something.
    pub(crate) fn run(mut self, mut asked: mpsc::Receiver<Work>, ended: watch::Sender<bool>) {
        let _ended = Ended(ended);
        let mut next = None;
        while let Some(work) = next.take().or_else(|| asked.blocking_recv()) {
            match work {
                Work::Keep(bundle) => {
                    let mut group = vec![bundle];
                    while group.len() < GROUP {
                        match asked.try_recv() {
                            Ok(Work::Keep(bundle)) => group.push(bundle),
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.keep(group);
                }
                Work::Destroy(task, told) => {
                    let _ = told.send(self.destroy(&task));
                }
                Work::Expire(before, told) => {
                    let _ = told.send(self.expire(before));
                }
                Work::Close => break,
            }
        }
        if let Err(reason) = self.complete() {
            tracing::warn!(%reason, "the vault's last segment was not completed; it is read at the next start");
        }
    }

    /// Seals a group, and tells what became of it.
    fn keep(&mut self, group: Vec<Bundle>) {
        let now = Timestamp::now();
        let mut broken = None;
        let mut done = Vec::with_capacity(group.len());
        for mut bundle in group {
            let about = About {
                task: bundle.task,
                agent: bundle.agent.clone(),
                decision: bundle.decision,
                now,
            };
            let payloads = std::mem::take(&mut bundle.payloads);
            let kept: Vec<Kept> = payloads
                .into_iter()
                .map(|payload| self.one(&about, payload, &mut broken))
                .collect();
            done.push((bundle, kept));
        }
        if broken.is_none()
            && let Some(segment) = &mut self.segment
        {
            broken = segment.sync().err().map(|error| error.to_string());
        }
        if broken.is_some() {
            // After a failure neither the file nor the page cache tells what is on the disk.
            self.abandon();
        }
        let keyless = self.keyless.take();
        self.note_fault(broken.as_deref().or(keyless.as_deref()));
        for (bundle, mut kept) in done {
            if let Some(reason) = &broken {
                for kept in kept.iter_mut().filter(|kept| kept.kept.is_ok()) {
                    kept.kept = Err(NotKept::Failed(reason.clone()));
                }
            }
            bundle.tell(kept);
        }
    }

    /// Seals one payload. `broken` is why nothing more of this group can be written.
    fn one(&mut self, about: &About, payload: Payload, broken: &mut Option<String>) -> Kept {
        let mut kept = Kept {
            part: payload.part,
            bytes: payload.whole,
            hash: payload.hash,
            kept: Err(NotKept::Closed),
        };
        kept.kept = payload.content.and_then(|(content, _room)| {
            if let Some(reason) = broken {
                return Err(NotKept::Failed(reason.clone()));
            }
            let head = Head {
                task: about.task,
                agent: about.agent.clone(),
                decision: about.decision,
                part: kept.part.to_owned(),
                time: about.now,
                bytes: kept.bytes,
                kept: content.len() as u64,
                hash: kept.hash.clone(),
            };
            self.append(&head, &content, broken)
                .map(|()| content.len() as u64)
        });
        kept
    }

    fn append(
        &mut self,
        head: &Head,
        content: &[u8],
        broken: &mut Option<String>,
    ) -> Result<(), NotKept> {
        let limits = *self.shared.limits.read();
        self.shared.holdings.lock().admit(
            &head.task,
            &head.agent,
            content.len() as u64,
            &limits,
        )?;
        let failed = |error: &dyn std::fmt::Display| NotKept::Failed(error.to_string());
        let written = serde_json::to_vec(head).map_err(|error| failed(&error))?;
        let sealed = self
            .key(&head.task)
            .and_then(|key| key.seal(&written, content))
            .map_err(|error| {
                if let VaultError::Io { .. } = error {
                    self.keyless = Some(error.to_string());
                }
                failed(&error)
            })?;
        let appended = self
            .begin(head.time)
            .and_then(|segment| segment.append(head, &written, &sealed));
        match appended {
            Ok(bytes) => {
                let tally = Tally {
                    agent: head.agent.clone(),
                    payloads: 1,
                    bytes,
                };
                self.shared.holdings.lock().count(&head.task, &tally);
                Ok(())
            }
            Err(error) => {
                *broken = Some(error.to_string());
                Err(failed(&error))
            }
        }
    }

    /// The key of a task; a new one when it has none. It is on the disk before anything is sealed with it.
    fn key(&mut self, task: &TaskId) -> Result<&TaskKey, VaultError> {
        if !self.cached.contains_key(task) {
            let key = match self.keys.load(task)? {
                Some(key) => key,
                None => self.keys.make(task)?,
            };
            if self.cached.len() >= CACHED {
                self.cached.clear();
            }
            self.cached.insert(*task, key);
        }
        Ok(&self.cached[task])
    }

    /// The segment to write, a new one when it is time.
    fn begin(&mut self, now: Timestamp) -> std::io::Result<&mut SegmentWriter> {
        let is_over = |segment: &SegmentWriter| {
            let oldest = segment.begun.saturating_add(OLDEST);
            segment.length >= SEGMENT || oldest.is_ok_and(|oldest| oldest < now)
        };
        if self.segment.as_ref().is_some_and(is_over) {
            self.complete()?;
        }
        if self.segment.is_none() {
            self.number += 1;
            let disk = Arc::clone(&self.disk);
            let begun = SegmentWriter::create(&*disk, &self.dir, self.number, now)?;
            self.segment = Some(begun);
        }
        Ok(self.segment.as_mut().expect("made above if there was none"))
    }

    /// Completes the segment that is written.
    fn complete(&mut self) -> std::io::Result<()> {
        let Some(segment) = self.segment.take() else {
            return Ok(());
        };
        self.note_complete(&segment);
        segment.finish()
    }

    /// Goes on with another segment: what this one holds is found by reading it.
    fn abandon(&mut self) {
        if let Some(segment) = self.segment.take() {
            self.note_complete(&segment);
        }
    }

    fn note_complete(&self, segment: &SegmentWriter) {
        if let Some(content) = &segment.content {
            let mut holdings = self.shared.holdings.lock();
            holdings.complete.insert(segment.number, content.last);
        }
    }

    fn note_fault(&self, reason: Option<&str>) {
        let mut holdings = self.shared.holdings.lock();
        match (reason, holdings.fault.is_some()) {
            (Some(reason), false) => tracing::error!(reason, "the vault cannot be written"),
            (None, true) => tracing::info!("the vault can be written again"),
            _ => {}
        }
        holdings.fault = reason.map(str::to_owned);
    }

    fn destroy(&mut self, task: &TaskId) -> Result<(), VaultError> {
        if !self.shared.holdings.lock().tasks.contains_key(task) {
            return Err(VaultError::NothingOf { task: *task });
        }
        self.cached.remove(task);
        self.keys.destroy(task)?;
        if let Some(holding) = self.shared.holdings.lock().tasks.get_mut(task) {
            holding.destroyed = true;
        }
        Ok(())
    }

    /// Removes the segments whose last payload was sealed before a moment.
    fn expire(&mut self, before: Timestamp) -> Result<Expired, VaultError> {
        let over = |segment: &SegmentWriter| {
            let last = segment.content.as_ref().map(|content| content.last);
            last.is_some_and(|last| last < before)
        };
        if self.segment.as_ref().is_some_and(over) {
            self.complete().map_err(VaultError::io(&self.dir))?;
        }
        let old: Vec<u64> = {
            let holdings = self.shared.holdings.lock();
            let complete = holdings.complete.iter();
            let old = complete.filter(|(_, last)| **last < before);
            old.map(|(number, _)| *number).collect()
        };
        let mut all = Expired::default();
        for number in old {
            let path = segment::path(&self.dir, number);
            let content = Segment::open(&path)
                .and_then(|segment| segment.map_or(Ok(None), |segment| segment.content()))
                .map_err(VaultError::io(&path))?;
            self.disk.remove(&path).map_err(VaultError::io(&path))?;
            self.disk
                .sync_dir(&self.dir)
                .map_err(VaultError::io(&self.dir))?;
            let Some(content) = content else {
                self.shared.holdings.lock().complete.remove(&number);
                continue;
            };
            let (expired, empty) = self.shared.holdings.lock().take_out(number, &content);
            for task in empty {
                self.cached.remove(&task);
                self.keys.forget(&task)?;
            }
            all.payloads += expired.payloads;
            all.tasks += expired.tasks;
            all.bytes += expired.bytes;
        }
        Ok(all)
    }
}
