//! The folder with the sealed keys of tasks. Who destroys a task's key destroys its payloads: nothing else
//! opens them.
//!
//! `TASK.key` is the sealed key. `TASK.gone` says that the key was destroyed, so that no new one is made
//! for what the task does afterwards; it is there before the key is overwritten and removed, so that a
//! crash in between is finished at the next start.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit::disk::Disk;
use model::TaskId;

use crate::error::VaultError;
use crate::secret::{SEALED_KEY, TaskKey, Use, VaultKey};

const KEY: &str = ".key";
const GONE: &str = ".gone";
const UNFINISHED: &str = ".unfinished";

/// The keys of tasks.
#[derive(Clone)]
pub(crate) struct TaskKeys {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    vault: Arc<VaultKey>,
}

/// What there is of a task's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyState {
    /// It is there.
    There,
    /// It was destroyed.
    Destroyed,
}

impl TaskKeys {
    /// Opens the folder, finishing what a crash has left half done.
    pub(crate) fn open(
        dir: PathBuf,
        disk: Arc<dyn Disk>,
        vault: Arc<VaultKey>,
    ) -> Result<(Self, BTreeMap<TaskId, KeyState>), VaultError> {
        let keys = Self { dir, disk, vault };
        let failed = || VaultError::io(&keys.dir);
        let mut found = BTreeMap::new();
        let mut dead = Vec::new();
        for entry in std::fs::read_dir(&keys.dir).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(name) = name else { continue };
            if name.ends_with(UNFINISHED) {
                keys.disk.remove(&path).map_err(VaultError::io(&path))?;
            } else if let Some(task) = task_in(name, GONE) {
                found.insert(task, KeyState::Destroyed);
                dead.push(task);
            } else if let Some(task) = task_in(name, KEY) {
                found.entry(task).or_insert(KeyState::There);
            }
        }
        for task in dead {
            keys.wipe(&task)?;
        }
        Ok((keys, found))
    }

    fn path(&self, task: &TaskId, suffix: &str) -> PathBuf {
        self.dir.join(format!("{task}{suffix}"))
    }

    /// Makes a key for a task that has none. When this returns, the key survives a crash.
    pub(crate) fn make(&self, task: &TaskId) -> Result<TaskKey, VaultError> {
        let (key, sealed) = self.vault.new_task_key(task, Use::Payloads)?;
        self.write(&self.path(task, KEY), &sealed)?;
        Ok(key)
    }

    /// The key of a task, if it has one.
    pub(crate) fn load(&self, task: &TaskId) -> Result<Option<TaskKey>, VaultError> {
        let path = self.path(task, KEY);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(VaultError::io(&path)(error)),
        };
        let mut sealed = Vec::with_capacity(SEALED_KEY + 1);
        file.take(SEALED_KEY as u64 + 1)
            .read_to_end(&mut sealed)
            .map_err(VaultError::io(&path))?;
        self.vault
            .open_task_key(task, Use::Payloads, &sealed)
            .map(Some)
    }

    /// Destroys the key of a task for good.
    pub(crate) fn destroy(&self, task: &TaskId) -> Result<(), VaultError> {
        let gone = self.path(task, GONE);
        if !gone.exists() {
            self.write(&gone, b"")?;
        }
        self.wipe(task)
    }

    /// Forgets a task of which nothing is in the vault any more.
    pub(crate) fn forget(&self, task: &TaskId) -> Result<(), VaultError> {
        self.wipe(task)?;
        self.remove(&self.path(task, GONE))
    }

    /// Overwrites the key, and removes it. On disks that write elsewhere what was overwritten may still be
    /// found with forensic means; it is sealed with the vault's key there.
    fn wipe(&self, task: &TaskId) -> Result<(), VaultError> {
        let path = self.path(task, KEY);
        let overwritten = OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(&[0; SEALED_KEY])?;
                file.sync_all()
            });
        match overwritten {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(VaultError::io(&path))?,
        }
        self.remove(&path)
    }

    fn remove(&self, path: &Path) -> Result<(), VaultError> {
        match self.disk.remove(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(VaultError::io(path))?,
        }
        self.disk
            .sync_dir(&self.dir)
            .map_err(VaultError::io(&self.dir))
    }

    /// Writes a file as a whole, or not at all.
    fn write(&self, path: &Path, content: &[u8]) -> Result<(), VaultError> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        let written = self
            .disk
            .create(&unfinished)
            .and_then(|mut file| {
                file.append(content)?;
                file.sync()
            })
            .and_then(|()| self.disk.rename(&unfinished, path))
            .and_then(|()| self.disk.sync_dir(&self.dir));
        if written.is_err() {
            // It would be in the way of the next attempt.
            let _ = self.disk.remove(&unfinished);
        }
        written.map_err(VaultError::io(path))
    }
}

fn task_in(name: &str, suffix: &str) -> Option<TaskId> {
    TaskId::parse(name.strip_suffix(suffix)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use audit::disk::RealDisk;
    use jiff::Timestamp;

    fn open(dir: &Path) -> (TaskKeys, BTreeMap<TaskId, KeyState>) {
        let vault = Arc::new(VaultKey::load_or_make(&dir.join("vault.key")).unwrap());
        let keys = dir.join("keys");
        let _ = std::fs::create_dir(&keys);
        TaskKeys::open(keys, Arc::new(RealDisk), vault).unwrap()
    }

    #[test]
    fn a_destroyed_key_is_gone_from_the_disk_and_stays_gone() {
        let home = tempfile::tempdir().unwrap();
        let (keys, found) = open(home.path());
        assert!(found.is_empty());
        let task = TaskId::new(Timestamp::UNIX_EPOCH, [1; 10]);
        keys.make(&task).unwrap();
        assert!(keys.load(&task).unwrap().is_some());
        keys.destroy(&task).unwrap();
        assert!(keys.load(&task).unwrap().is_none());
        assert!(!keys.path(&task, KEY).exists());
        let (keys, found) = open(home.path());
        assert_eq!(found[&task], KeyState::Destroyed);
        keys.forget(&task).unwrap();
        assert!(open(home.path()).1.is_empty());
    }

    #[test]
    fn a_crash_in_the_middle_of_a_destruction_is_finished() {
        let home = tempfile::tempdir().unwrap();
        let (keys, _) = open(home.path());
        let task = TaskId::new(Timestamp::UNIX_EPOCH, [1; 10]);
        keys.make(&task).unwrap();
        std::fs::write(keys.path(&task, GONE), "").unwrap();
        std::fs::write(keys.dir.join("task_x.key.unfinished"), "half").unwrap();
        let (keys, found) = open(home.path());
        assert_eq!(found[&task], KeyState::Destroyed);
        assert!(keys.load(&task).unwrap().is_none());
        assert_eq!(std::fs::read_dir(&keys.dir).unwrap().count(), 1);
    }
}
