//! Journals: what open tasks must not lose over the end of the process, sealed, and gone with the task.
//!
//! Each task that has something to keep has one file, with a key of its own that is sealed with the vault's.
//! Entries are handed over without waiting and written by one thread; they are in the hands of the operating
//! system a moment later, so that the death of the process loses only what was still queued. They are made
//! durable when the journals are closed; the failure of the machine may lose what was written since. What
//! is kept must therefore be such that losing its end does no harm, and its reader must know how much to
//! expect.
//!
//! What is over a limit is not kept.

mod file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use model::TaskId;
use zeroize::Zeroizing;

use crate::error::VaultError;
use crate::room::{Room, Taken};
use crate::secret::VaultKey;
use file::{Found, Journal};

/// What a journal's file is called behind the task's id.
const SUFFIX: &str = ".journal";
/// Most that waits to be written, in bytes.
const WAITING: usize = 32 << 20;
/// What each entry counts for at least while it waits, in bytes.
const LEAST: usize = 256;

/// How much is kept, in bytes of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalLimits {
    /// Of one task.
    pub task: u64,
    /// Of all.
    pub total: u64,
}

impl Default for JournalLimits {
    fn default() -> Self {
        Self {
            task: 8 << 20,
            total: 1 << 30,
        }
    }
}

/// What was wrong with a journal that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It ends within an entry, as after a crash.
    #[error("it ends within an entry, as after a crash")]
    HalfWritten,
    /// An entry is not as it was written there.
    #[error("an entry is not the one that was written there: the file was changed, or damaged")]
    Changed,
    /// It belongs to another task or another vault.
    #[error("it was not sealed for this task with this vault's key")]
    Foreign,
}

/// What was read of a journal.
#[derive(Debug, Default)]
pub struct KeptEntries {
    /// Its entries, in the order in which they were handed over.
    pub entries: Vec<Zeroizing<Vec<u8>>>,
    /// Why there are no more, if that is not because there were no more.
    pub damage: Option<Damage>,
}

/// The journals of all open tasks. Many producers share them; only one process may use their folder.
pub struct Journals {
    ask: mpsc::Sender<Work>,
    room: Arc<Room>,
}

enum Work {
    Append(TaskId, Zeroizing<Vec<u8>>, Taken),
    Read(TaskId, mpsc::SyncSender<Result<KeptEntries, VaultError>>),
    Destroy(TaskId),
    KeepOnly(BTreeSet<TaskId>),
    Close(mpsc::SyncSender<()>),
}

impl Journals {
    /// Opens the journals in a folder, which is made if it is not there; the key is the vault's. Blocks.
    ///
    /// # Errors
    /// [`VaultError`] when the key cannot be used, or the folder cannot be read or made.
    pub fn open(dir: &Path, key: &Path, limits: JournalLimits) -> Result<Arc<Self>, VaultError> {
        let vault = VaultKey::load_or_make(key)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(VaultError::io(dir))?;
        let mut total = 0;
        for entry in std::fs::read_dir(dir).map_err(VaultError::io(dir))? {
            let metadata = entry.and_then(|entry| entry.metadata());
            total += metadata.map_err(VaultError::io(dir))?.len();
        }
        let (ask, asked) = mpsc::channel();
        let writer = Writer {
            dir: dir.to_owned(),
            vault,
            limits,
            total,
            journals: HashMap::new(),
            failing: false,
        };
        std::thread::Builder::new()
            .name("journals".to_owned())
            .spawn(move || writer.run(asked))
            .map_err(VaultError::io(dir))?;
        Ok(Arc::new(Self {
            ask,
            room: Room::new(WAITING),
        }))
    }

    /// Hands an entry over to be appended; never waits. False when it is not kept because too much waits.
    pub fn append(&self, task: TaskId, entry: Vec<u8>) -> bool {
        let entry = Zeroizing::new(entry);
        let Some(room) = self.room.take(entry.len().max(LEAST)) else {
            return false;
        };
        self.ask.send(Work::Append(task, entry, room)).is_ok()
    }

    /// What is kept of a task, with what was handed over before. Blocks.
    ///
    /// # Errors
    /// [`VaultError`] when the disk cannot be read, or the journals are closed.
    pub fn read(&self, task: TaskId) -> Result<KeptEntries, VaultError> {
        let (tell, told) = mpsc::sync_channel(1);
        let closed = |_| VaultError::Closed;
        self.ask
            .send(Work::Read(task, tell))
            .map_err(|_| VaultError::Closed)?;
        told.recv().map_err(closed)?
    }

    /// Destroys what is kept of a task, for good; never waits. What was handed over before goes with it.
    pub fn destroy(&self, task: TaskId) {
        // When the writer has ended, the next start destroys what has no open task.
        let _ = self.ask.send(Work::Destroy(task));
    }

    /// Destroys what is kept of all tasks but these; never waits.
    pub fn keep_only(&self, tasks: BTreeSet<TaskId>) {
        let _ = self.ask.send(Work::KeepOnly(tasks));
    }

    /// Makes what was handed over durable, and takes nothing more. Blocks.
    pub fn close(&self) {
        let (tell, told) = mpsc::sync_channel(1);
        if self.ask.send(Work::Close(tell)).is_ok() {
            // An error is that it has ended already.
            let _ = told.recv();
        }
    }
}

/// Who writes; the only one that touches the files.
struct Writer {
    dir: PathBuf,
    vault: VaultKey,
    limits: JournalLimits,
    /// Bytes of all files.
    total: u64,
    journals: HashMap<TaskId, Journal>,
    /// Whether the last entry could not be written, so that it is said once.
    failing: bool,
}

impl Writer {
    fn run(mut self, asked: mpsc::Receiver<Work>) {
        while let Ok(work) = asked.recv() {
            match work {
                Work::Append(task, entry, _room) => {
                    let appended = self.append(task, &entry);
                    let failing = appended.is_err();
                    if let Err(error) = appended
                        && !self.failing
                    {
                        tracing::warn!(%error, %task, "what a task has read is not kept over a restart");
                    }
                    self.failing = failing;
                }
                Work::Read(task, tell) => {
                    let _ = tell.send(self.read(task));
                }
                Work::Destroy(task) => self.destroy(task),
                Work::KeepOnly(tasks) => self.keep_only(&tasks),
                Work::Close(tell) => {
                    self.sync();
                    // Nothing is taken any more by the time that anybody knows of it.
                    drop(asked);
                    let _ = tell.send(());
                    return;
                }
            }
        }
        self.sync();
    }

    fn path(&self, task: &TaskId) -> PathBuf {
        self.dir.join(format!("{task}{SUFFIX}"))
    }

    fn append(&mut self, task: TaskId, entry: &[u8]) -> Result<(), VaultError> {
        if !self.journals.contains_key(&task) {
            // It may have one of an earlier run that nobody has read yet.
            self.read(task)?;
        }
        if !self.journals.contains_key(&task) {
            let journal = Journal::new(self.path(&task), &task, &self.vault)?;
            self.total += journal.length();
            self.journals.insert(task, journal);
        }
        let Some(journal) = self.journals.get_mut(&task) else {
            return Ok(());
        };
        let cost = Journal::cost(entry);
        let fits = entry.len() <= file::LONGEST
            && journal.length() + cost <= self.limits.task
            && self.total + cost <= self.limits.total;
        if fits {
            match journal.append(&task, entry) {
                Ok(written) => self.total += written,
                Err(error) => {
                    // What is in the file is read again before the next entry.
                    self.journals.remove(&task);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, task: TaskId) -> Result<KeptEntries, VaultError> {
        let path = self.path(&task);
        match Journal::read(path.clone(), &task, &self.vault, self.limits.task) {
            Ok(None) => Ok(KeptEntries::default()),
            Ok(Some(Found {
                journal,
                entries,
                damage,
                cut,
            })) => {
                self.total = self.total.saturating_sub(cut);
                self.journals.insert(task, journal);
                Ok(KeptEntries { entries, damage })
            }
            Err(VaultError::OtherKey { .. }) => {
                self.destroy(task);
                Ok(KeptEntries {
                    entries: Vec::new(),
                    damage: Some(Damage::Foreign),
                })
            }
            Err(error) => Err(error),
        }
    }

    fn destroy(&mut self, task: TaskId) {
        self.journals.remove(&task);
        let path = self.path(&task);
        let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        match file::destroy(&path) {
            Ok(_) => self.total = self.total.saturating_sub(bytes),
            Err(error) => {
                tracing::error!(%error, %task, "what a task has read was not destroyed; the next start tries again");
            }
        }
    }

    fn keep_only(&mut self, tasks: &BTreeSet<TaskId>) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let task = name
                .to_str()
                .and_then(|name| name.strip_suffix(SUFFIX))
                .and_then(|id| TaskId::parse(id).ok());
            if let Some(task) = task.filter(|task| !tasks.contains(task)) {
                self.destroy(task);
            }
        }
    }

    fn sync(&mut self) {
        for (task, journal) in &mut self.journals {
            if let Err(error) = journal.sync() {
                tracing::warn!(%error, %task, "what a task has read may not survive a failure of the machine");
            }
        }
        if let Err(error) = File::open(&self.dir).and_then(|dir| dir.sync_all()) {
            tracing::warn!(%error, "the folder of the journals was not made durable");
        }
    }
}
