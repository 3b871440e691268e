//! The vault as those see it who put payloads in, and who look for them.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use audit::disk::{Disk, RealDisk};
use bytes::Bytes;
use jiff::Timestamp;
use model::{AgentName, DecisionId, TaskId};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot, watch};
use zeroize::Zeroizing;

use crate::error::{NotKept, VaultError};
use crate::frame::Head;
use crate::holdings::{Expired, Holding, Holdings, Limits};
use crate::keys::{KeyState, TaskKeys};
use crate::payload::{Bundle, Capture, Payload};
use crate::room::Room;
use crate::secret::VaultKey;
use crate::segment::{self, Segment};
use crate::writer::{Work, Writer};

/// Most that waits to be sealed, or still gathers, in bytes.
const WAITING: usize = 64 << 20;
/// Most bundles that wait to be sealed.
const BUNDLES: usize = 8_192;
/// How much earlier than it says a payload may have been sealed: clocks are set back now and then.
const SLACK: Duration = Duration::from_secs(3_600);

/// What the handle and the writer share.
pub(crate) struct Shared {
    pub(crate) holdings: Mutex<Holdings>,
    pub(crate) limits: RwLock<Limits>,
}

/// The vault. Many producers share one; only one process may use a vault's folder.
pub struct Vault {
    shared: Arc<Shared>,
    room: Arc<Room>,
    ask: mpsc::Sender<Work>,
    ended: watch::Receiver<bool>,
    keys: TaskKeys,
    segments: PathBuf,
}

/// A payload, opened.
pub struct Shown {
    /// What it is.
    pub head: Head,
    /// As much of it as is kept.
    pub content: Zeroizing<Vec<u8>>,
}

impl Vault {
    /// Opens the vault in a folder, making both, and the key in its file, if they are not there. Blocks;
    /// takes a time that depends on the number of segments, and on what the last process left unfinished.
    ///
    /// # Errors
    /// [`VaultError`] when the key cannot be used, or the disk cannot be read or written.
    pub fn open(dir: &Path, key: &Path, limits: Limits) -> Result<Arc<Self>, VaultError> {
        Self::open_on(Arc::new(RealDisk), dir, key, limits)
    }

    /// Opens a vault whose writes go through a given [`Disk`].
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        key: &Path,
        limits: Limits,
    ) -> Result<Arc<Self>, VaultError> {
        let vault = Arc::new(VaultKey::load_or_make(key)?);
        let (segments, keys) = (dir.join("segments"), dir.join("keys"));
        for folder in [&segments, &keys] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(VaultError::io(folder))?;
        }
        let (keys, states) = TaskKeys::open(keys, Arc::clone(&disk), vault)?;
        let (mut holdings, number) = read(&*disk, &segments)?;
        for (task, state) in states {
            match (holdings.tasks.get_mut(&task), state) {
                (Some(holding), KeyState::Destroyed) => holding.destroyed = true,
                (Some(_), KeyState::There) => {}
                // Nothing was sealed with it, or nothing of that is left.
                (None, _) => keys.forget(&task)?,
            }
        }
        let shared = Arc::new(Shared {
            holdings: Mutex::new(holdings),
            limits: RwLock::new(limits),
        });
        let (ask, asked) = mpsc::channel(BUNDLES);
        let (has_ended, ended) = watch::channel(false);
        let writer = Writer {
            shared: Arc::clone(&shared),
            disk,
            keys: keys.clone(),
            dir: segments.clone(),
            number,
            segment: None,
            cached: std::collections::HashMap::new(),
            keyless: None,
        };
        std::thread::Builder::new()
            .name("vault".to_owned())
            .spawn(move || writer.run(asked, has_ended))
            .map_err(VaultError::io(dir))?;
        Ok(Arc::new(Self {
            shared,
            room: Room::new(WAITING),
            ask,
            ended,
            keys,
            segments,
        }))
    }

    /// Takes other limits into use. What is there stays.
    pub fn set_limits(&self, limits: Limits) {
        *self.shared.limits.write() = limits;
    }

    /// Begins to gather a payload that passes in parts.
    #[must_use]
    pub fn capture(&self) -> Capture {
        let limit = self.shared.limits.read().payload_bytes;
        Capture::new(limit, self.room.take(0))
    }

    /// A payload that is there as a whole, with its salted hash.
    #[must_use]
    pub fn payload(&self, part: &'static str, bytes: &Bytes, hash: Option<String>) -> Payload {
        let limit = self.shared.limits.read().payload_bytes;
        let kept = bytes.slice(..bytes.len().min(limit));
        let room = self.room.take(kept.len());
        Payload {
            part,
            whole: bytes.len() as u64,
            hash,
            content: room.map(|room| (kept, room)).ok_or(NotKept::NoRoom),
        }
    }

    /// Hands over the payloads of an action; never waits. Whoever made the bundle is told what became of
    /// them.
    pub fn submit(&self, bundle: Bundle) {
        if let Err(refused) = self.ask.try_send(Work::Keep(bundle)) {
            let (work, why) = match refused {
                mpsc::error::TrySendError::Full(work) => (work, NotKept::NoRoom),
                mpsc::error::TrySendError::Closed(work) => (work, NotKept::Closed),
            };
            if let Work::Keep(bundle) = work {
                bundle.refuse(why);
            }
        }
    }

    /// Whether a payload of an agent's task would be kept now, as far as can be known.
    ///
    /// # Errors
    /// [`NotKept`]: why it would not.
    pub fn would_keep(&self, task: &TaskId, agent: &AgentName) -> Result<(), NotKept> {
        if *self.ended.borrow() {
            return Err(NotKept::Closed);
        }
        let limits = *self.shared.limits.read();
        let holdings = self.shared.holdings.lock();
        if let Some(reason) = &holdings.fault {
            return Err(NotKept::Failed(reason.clone()));
        }
        if self.room.free() < limits.payload_bytes {
            return Err(NotKept::NoRoom);
        }
        let most = limits.payload_bytes as u64;
        holdings.admit(task, agent, most.min(limits.task_bytes), &limits)
    }

    /// Bytes on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.holdings.lock().total
    }

    /// Why nothing can be written at present, if so.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.shared.holdings.lock().fault.clone()
    }

    /// What is kept of each task, the latest task first; at most so many, before a given one.
    #[must_use]
    pub fn tasks(&self, before: Option<&TaskId>, most: usize) -> Vec<(TaskId, Holding)> {
        let holdings = self.shared.holdings.lock();
        let tasks = holdings.tasks.iter().rev();
        let tasks = tasks.filter(|(task, _)| before.is_none_or(|before| *task < before));
        tasks
            .take(most)
            .map(|(task, holding)| (*task, holding.clone()))
            .collect()
    }

    /// What is kept of a task, if anything is.
    #[must_use]
    pub fn holding(&self, task: &TaskId) -> Option<Holding> {
        self.shared.holdings.lock().tasks.get(task).cloned()
    }

    /// What is kept of a task, the latest first; at most so much. Blocks.
    ///
    /// # Errors
    /// [`VaultError`] when there is nothing, or the disk cannot be read.
    pub fn list(&self, task: &TaskId, most: usize) -> Result<Vec<Head>, VaultError> {
        if !self.shared.holdings.lock().tasks.contains_key(task) {
            return Err(VaultError::NothingOf { task: *task });
        }
        let mut all = Vec::new();
        for number in self.numbers()?.into_iter().rev() {
            let mut heads = Vec::new();
            self.each(number, |_, found| {
                if found.head.task == *task {
                    heads.push(found.head);
                }
                Ok(())
            })?;
            all.extend(heads.into_iter().rev());
            if all.len() >= most {
                all.truncate(most);
                break;
            }
        }
        Ok(all)
    }

    /// Opens what is kept of a decision, or one part of it. Blocks.
    ///
    /// # Errors
    /// [`VaultError`] when there is nothing, its key was destroyed, or it is damaged.
    pub fn show(
        &self,
        decision: &DecisionId,
        part: Option<&str>,
    ) -> Result<Vec<Shown>, VaultError> {
        let mut shown = Vec::new();
        for number in self.numbers_since(decision)? {
            self.each(number, |segment, found| {
                let wanted = part.is_none_or(|part| part == found.head.part);
                if found.head.decision != *decision || !wanted {
                    return Ok(());
                }
                let task = found.head.task;
                let key = self.keys.load(&task)?;
                let key = key.ok_or(VaultError::Destroyed { task })?;
                let sealed = segment.sealed(&found).map_err(self.failed(number))?;
                let content = key
                    .open(&found.written, sealed)
                    .ok_or(VaultError::Damaged {
                        decision: *decision,
                        segment: number,
                    })?;
                shown.push(Shown {
                    head: found.head,
                    content,
                });
                Ok(())
            })?;
        }
        if shown.is_empty() {
            let decision = *decision;
            return Err(VaultError::Nothing { decision });
        }
        Ok(shown)
    }

    /// Destroys the key of a task, and so everything that is kept of it, for good. Nothing more of the task
    /// is kept afterwards.
    ///
    /// # Errors
    /// [`VaultError`] when nothing is kept of it, or the disk cannot be written.
    pub async fn destroy(&self, task: TaskId) -> Result<(), VaultError> {
        let (tell, told) = oneshot::channel();
        self.ask_for(Work::Destroy(task, tell)).await?;
        told.await.unwrap_or(Err(VaultError::Closed))
    }

    /// Removes what was sealed before a moment, as far as whole segments are that old.
    ///
    /// # Errors
    /// [`VaultError`] when the disk cannot be read or written.
    pub async fn expire(&self, before: Timestamp) -> Result<Expired, VaultError> {
        let (tell, told) = oneshot::channel();
        self.ask_for(Work::Expire(before, tell)).await?;
        told.await.unwrap_or(Err(VaultError::Closed))
    }

    /// Seals what was handed over, and takes nothing more.
    pub async fn close(&self) {
        let mut ended = self.ended.clone();
        // An error is that it has ended already.
        let _ = self.ask_for(Work::Close).await;
        let _ = ended.wait_for(|ended| *ended).await;
    }

    async fn ask_for(&self, work: Work) -> Result<(), VaultError> {
        self.ask.send(work).await.map_err(|_| VaultError::Closed)
    }

    fn numbers(&self) -> Result<Vec<u64>, VaultError> {
        segment::numbers(&self.segments).map_err(VaultError::io(&self.segments))
    }

    /// The segments that payloads of a decision can be in.
    fn numbers_since(&self, decision: &DecisionId) -> Result<Vec<u64>, VaultError> {
        let made = made_at(decision);
        let made = made.saturating_sub(SLACK).unwrap_or(Timestamp::MIN);
        let mut numbers = self.numbers()?;
        let holdings = self.shared.holdings.lock();
        numbers.retain(|number| {
            let complete = holdings.complete.get(number);
            complete.is_none_or(|last| *last >= made)
        });
        Ok(numbers)
    }

    /// Looks at each payload of a segment. One that was removed meanwhile has none.
    fn each(
        &self,
        number: u64,
        mut look: impl FnMut(&Segment<std::fs::File>, segment::Found) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        let path = segment::path(&self.segments, number);
        let segment = match Segment::open(&path) {
            Ok(Some(segment)) => segment,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(VaultError::io(&path)(error)),
        };
        for found in segment.payloads() {
            look(&segment, found.map_err(VaultError::io(&path))?)?;
        }
        Ok(())
    }

    fn failed(&self, number: u64) -> impl FnOnce(io::Error) -> VaultError + use<> {
        let path = segment::path(&self.segments, number);
        move |source| VaultError::Io { path, source }
    }
}

/// What is in the segments of a folder, and the number of the newest one. Those with nothing in them are
/// removed.
fn read(disk: &dyn Disk, dir: &Path) -> Result<(Holdings, u64), VaultError> {
    let mut holdings = Holdings::default();
    let mut newest = 0;
    for number in segment::numbers(dir).map_err(VaultError::io(dir))? {
        newest = number;
        let path = segment::path(dir, number);
        let failed = || VaultError::io(&path);
        let segment = Segment::open(&path).map_err(failed())?;
        let content = match &segment {
            Some(segment) => segment.content().map_err(failed())?,
            None => None,
        };
        match content {
            Some(content) => holdings.add(number, &content),
            None => disk.remove(&path).map_err(failed())?,
        }
    }
    Ok((holdings, newest))
}

/// When a decision was made: its id says so (RFC 9562 §5.7).
fn made_at(decision: &DecisionId) -> Timestamp {
    let text = decision.to_string();
    let digits = text.rsplit('_').next().and_then(|hex| hex.get(..12));
    let millis = digits.and_then(|digits| i64::from_str_radix(digits, 16).ok());
    millis
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
        .unwrap_or(Timestamp::MIN)
}

/// The payloads of a segment that is in memory: what stands in clear of each. Damaged places are left out.
#[must_use]
pub fn heads(segment: &[u8]) -> Vec<Head> {
    match Segment::of(segment) {
        Ok(Some(segment)) => {
            let found = segment.payloads().filter_map(Result::ok);
            found.map(|found| found.head).collect()
        }
        _ => Vec::new(),
    }
}
