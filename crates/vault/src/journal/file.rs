//! The file of one journal: a sealed key, then sealed entries, each bound to its place and to the one before.
//!
//! | part | bytes |
//! | --- | --- |
//! | the journal's key, sealed with the vault's and bound to the task | 68 |
//! | each entry: its length, then nonce, ciphertext and tag (AES-256-GCM-SIV, RFC 8452) | 4 + 28 + length |
//!
//! An entry cannot be changed, left out of the middle, moved, or taken from another journal. Entries can be
//! cut off the end: whoever keeps a journal must know how many there were.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use model::TaskId;
use zeroize::Zeroizing;

use super::Damage;
use crate::error::VaultError;
use crate::secret::{SEALED_KEY, TaskKey, Use, VaultKey};

/// The length of the tag that a sealed entry ends with, in bytes.
const TAG: usize = 16;
/// What sealing adds to an entry, in bytes.
const SEALING: usize = 28;
/// Longest entry, in bytes.
pub(super) const LONGEST: usize = 4 << 20;

/// A journal that can be appended to.
pub(super) struct Journal {
    path: PathBuf,
    key: TaskKey,
    /// Bytes of the file.
    length: u64,
    end: End,
    /// Whether something was written since the last time it was made durable.
    pub(super) unsynced: bool,
}

/// Behind which entry the next one stands.
#[derive(Clone, Copy, Default)]
struct End {
    entries: u32,
    last: [u8; TAG],
}

impl End {
    /// What the next entry is bound to.
    fn about(&self, task: &TaskId) -> Vec<u8> {
        let mut about = format!("entry {} of the journal of {task} behind ", self.entries);
        about.push_str(&hex(&self.last));
        about.into_bytes()
    }

    fn behind(self, sealed: &[u8]) -> Self {
        let mut last = [0; TAG];
        if let Some(tag) = sealed.last_chunk::<TAG>() {
            last = *tag;
        }
        Self {
            entries: self.entries.saturating_add(1),
            last,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What was read of a journal.
pub(super) struct Found {
    pub(super) journal: Journal,
    pub(super) entries: Vec<Zeroizing<Vec<u8>>>,
    pub(super) damage: Option<Damage>,
    /// How many bytes were cut off.
    pub(super) cut: u64,
}

impl Journal {
    /// Begins the journal of a task that has none.
    pub(super) fn new(path: PathBuf, task: &TaskId, vault: &VaultKey) -> Result<Self, VaultError> {
        let (key, sealed) = vault.new_task_key(task, Use::Journal)?;
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(&sealed))
            .map_err(VaultError::io(&path))?;
        Ok(Self {
            path,
            key,
            length: SEALED_KEY as u64,
            end: End::default(),
            unsynced: true,
        })
    }

    /// Reads the journal of a task, as far as it is as it was written; the rest is cut off, so that it can
    /// be appended to. `None` when there is none.
    ///
    /// # Errors
    /// [`VaultError::OtherKey`] when it is not this task's, or was sealed with another vault key; when the
    /// disk cannot be read or written.
    pub(super) fn read(
        path: PathBuf,
        task: &TaskId,
        vault: &VaultKey,
        most: u64,
    ) -> Result<Option<Found>, VaultError> {
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(file) => file
                .take(most.saturating_add(1))
                .read_to_end(&mut bytes)
                .map_err(VaultError::io(&path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(VaultError::io(&path)(error)),
        };
        let (sealed, mut rest) = bytes
            .split_at_checked(SEALED_KEY)
            .ok_or(VaultError::OtherKey { task: *task })?;
        let key = vault.open_task_key(task, Use::Journal, sealed)?;
        let mut journal = Self {
            path,
            key,
            length: SEALED_KEY as u64,
            end: End::default(),
            unsynced: false,
        };
        let mut entries = Vec::new();
        let mut damage = None;
        while !rest.is_empty() {
            let Some((sealed, behind)) = frame(rest) else {
                damage = Some(Damage::HalfWritten);
                break;
            };
            let about = journal.end.about(task);
            let Some(entry) = journal.key.open(&about, sealed.to_vec()) else {
                damage = Some(Damage::Changed);
                break;
            };
            entries.push(entry);
            journal.end = journal.end.behind(sealed);
            journal.length += (rest.len() - behind.len()) as u64;
            rest = behind;
        }
        if damage.is_some() {
            OpenOptions::new()
                .write(true)
                .open(&journal.path)
                .and_then(|file| file.set_len(journal.length))
                .map_err(VaultError::io(&journal.path))?;
            journal.unsynced = true;
        }
        Ok(Some(Found {
            journal,
            entries,
            damage,
            cut: rest.len() as u64,
        }))
    }

    /// Appends an entry. After an error nothing of it is there, or the journal must not be used any more.
    pub(super) fn append(&mut self, task: &TaskId, entry: &[u8]) -> Result<u64, VaultError> {
        let sealed = self.key.seal(&self.end.about(task), entry)?;
        let length = u32::try_from(sealed.len()).map_err(|_| VaultError::Crypto)?;
        let mut frame = Vec::with_capacity(4 + sealed.len());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&sealed);
        let failed = || VaultError::io(&self.path);
        let mut file = OpenOptions::new()
            .append(true)
            .open(&self.path)
            .map_err(failed())?;
        if let Err(error) = file.write_all(&frame) {
            file.set_len(self.length).map_err(failed())?;
            return Err(failed()(error));
        }
        self.length += frame.len() as u64;
        self.end = self.end.behind(&sealed);
        self.unsynced = true;
        Ok(frame.len() as u64)
    }

    /// Bytes of the file.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// What an entry takes in the file, in bytes.
    pub(super) fn cost(entry: &[u8]) -> u64 {
        (4 + SEALING + entry.len()) as u64
    }

    /// Makes what was written durable.
    pub(super) fn sync(&mut self) -> Result<(), VaultError> {
        if std::mem::take(&mut self.unsynced) {
            File::open(&self.path)
                .and_then(|file| file.sync_all())
                .map_err(VaultError::io(&self.path))?;
        }
        Ok(())
    }
}

/// The first sealed entry, and what stands behind it; `None` when it is not all there.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    if length > LONGEST + SEALING {
        return None;
    }
    rest.split_at_checked(length)
}

/// Destroys a journal: its key is overwritten before the file is removed. True when there was one.
pub(super) fn destroy(path: &Path) -> Result<bool, VaultError> {
    let overwritten = OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| {
            file.write_all(&[0; SEALED_KEY])?;
            file.sync_data()
        });
    match overwritten {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(VaultError::io(path))?,
    }
    std::fs::remove_file(path).map_err(VaultError::io(path))?;
    Ok(true)
}
