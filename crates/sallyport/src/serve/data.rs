//! The data directory: private to its owner, and used by one process at a time.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The data directory, locked as long as this lives.
pub(super) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the folder if it is not there, and locks it.
    ///
    /// # Errors
    /// [`Failure`] when others can look into it, another process uses it, or it cannot be written.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &std::io::Error| {
            Failure::new(format!(
                "the data directory {} cannot be used: {error}",
                path.display()
            ))
            .hint("set `data_dir` to a folder that this user may write")
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| failed(&error))?;
        let mode = std::fs::metadata(path)
            .map_err(|error| failed(&error))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            return Err(Failure::new(format!(
                "others can look into the data directory {} (mode {:o}), where the keys are",
                path.display(),
                mode & 0o777
            ))
            .hint(format!("chmod 700 {}", path.display())));
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(|error| failed(&error))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Failure::new(format!(
                "another Sallyport runs with the data directory {}",
                path.display()
            ))
            .hint("stop it first, or give this one a `data_dir` of its own"),
            TryLockError::Error(error) if error.kind() == ErrorKind::Unsupported => Failure::new(
                format!("the file system of {} cannot lock files", path.display()),
            )
            .hint("set `data_dir` to a folder on a local disk"),
            TryLockError::Error(error) => failed(&error),
        })?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The folder itself, where the store is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The signing keys of the token service.
    pub(super) fn keys(&self) -> PathBuf {
        self.path.join("keys")
    }

    /// The certification authority of the trust domain.
    pub(super) fn authority(&self) -> PathBuf {
        self.path.join("authority")
    }

    /// The key that the audit log's checkpoints are signed with.
    pub(super) fn log_key(&self) -> PathBuf {
        self.path.join("log.key")
    }

    /// The vault, where content is kept.
    pub(super) fn vault(&self) -> PathBuf {
        self.path.join("vault")
    }

    /// The key that the keys of the vault's tasks are sealed with.
    pub(super) fn vault_key(&self) -> PathBuf {
        self.path.join("vault.key")
    }

    /// What open tasks have read, sealed.
    pub(super) fn ledgers(&self) -> PathBuf {
        self.path.join("ledgers")
    }

    /// Evidence that was collected.
    pub(super) fn evidence(&self) -> PathBuf {
        self.path.join("evidence")
    }

    /// The audit log.
    pub(super) fn log(&self) -> PathBuf {
        log_dir(&self.path)
    }
}

/// The audit log in a data directory.
pub(crate) fn log_dir(data: &Path) -> PathBuf {
    data.join("log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_and_has_one_user() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("data");
        let open = DataDir::open(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let second = DataDir::open(&path).err().unwrap();
        assert!(second.message().contains("another Sallyport"), "{second}");
        drop(open);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_folder_that_others_can_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let failure = DataDir::open(home.path()).err().unwrap();
        assert!(failure.remedy().unwrap().starts_with("chmod 700"));
    }
}
