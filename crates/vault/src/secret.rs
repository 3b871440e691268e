//! The keys: one of the vault, which seals those of tasks, which seal payloads.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::TaskId;
use zeroize::Zeroizing;

use crate::error::VaultError;

/// What the file of the vault's key begins with.
const LABEL: &str = "sallyport-vault-key-1:";
/// Longest key file, in bytes.
const LIMIT: u64 = 256;
/// What a sealed key of a task begins with.
const MAGIC: &[u8; 8] = b"sealkey1";
const KEY: usize = 32;
const NONCE: usize = 12;
const TAG: usize = 16;
/// The length of a sealed key of a task, in bytes.
pub(crate) const SEALED_KEY: usize = MAGIC.len() + NONCE + KEY + TAG;

/// The key that the keys of tasks are sealed with. The library wipes it when it is dropped.
pub(crate) struct VaultKey(RandomizedNonceKey);

/// The key of one task. The library wipes it when it is dropped.
pub(crate) struct TaskKey(RandomizedNonceKey);

fn cipher(key: &[u8]) -> Result<RandomizedNonceKey, VaultError> {
    RandomizedNonceKey::new(&AES_256_GCM_SIV, key).map_err(|_| VaultError::Crypto)
}

/// Nonce, ciphertext and tag.
fn seal(key: &RandomizedNonceKey, about: &[u8], content: &[u8]) -> Result<Vec<u8>, VaultError> {
    let mut sealed = Vec::with_capacity(NONCE + content.len() + TAG);
    sealed.extend_from_slice(&[0; NONCE]);
    sealed.extend_from_slice(content);
    let (nonce, tag) = key
        .seal_in_place_separate_tag(Aad::from(about), &mut sealed[NONCE..])
        .map_err(|_| VaultError::Crypto)?;
    sealed[..NONCE].copy_from_slice(nonce.as_ref());
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// The content; `None` when it was not sealed with this key, or not about this.
fn open(key: &RandomizedNonceKey, about: &[u8], mut sealed: Vec<u8>) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, content) = sealed.split_at_mut_checked(NONCE)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let length = key
        .open_in_place(nonce, Aad::from(about), content)
        .ok()?
        .len();
    let mut opened = Zeroizing::new(sealed);
    opened.copy_within(NONCE..NONCE + length, 0);
    opened.truncate(length);
    Some(opened)
}

/// What a key of a task is for: one cannot stand for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// The payloads of the task.
    Payloads,
    /// The journal of the task.
    Journal,
}

impl Use {
    /// What the key of a task is bound to.
    fn about(self, task: &TaskId) -> Vec<u8> {
        match self {
            Self::Payloads => format!("the key of {task}"),
            Self::Journal => format!("the key of the journal of {task}"),
        }
        .into_bytes()
    }
}

impl VaultKey {
    /// Reads the key from its file; makes key and file, for the owner only, if there is none.
    ///
    /// # Errors
    /// When others may read the file, it holds no key, or cannot be read or made.
    pub(crate) fn load_or_make(path: &Path) -> Result<Self, VaultError> {
        match File::open(path) {
            Ok(file) => Self::load(file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path),
            Err(error) => Err(VaultError::io(path)(error)),
        }
    }

    fn load(file: File, path: &Path) -> Result<Self, VaultError> {
        // Asked of the open file: whatever the path names a moment later does not matter.
        let mode = file.metadata().map_err(VaultError::io(path))?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(VaultError::KeyExposed {
                path: path.to_owned(),
                mode,
            });
        }
        // Room for all of it, so that growing leaves no copy behind.
        let mut text = Zeroizing::new(Vec::with_capacity(LIMIT as usize + 1));
        file.take(LIMIT)
            .read_to_end(&mut text)
            .map_err(VaultError::io(path))?;
        let not_a_key = || VaultError::NotAKey(path.to_owned());
        let text = text
            .trim_ascii_end()
            .strip_prefix(LABEL.as_bytes())
            .ok_or_else(not_a_key)?;
        let mut key = Zeroizing::new([0; KEY + 1]);
        match STANDARD.decode_slice(text, &mut key[..]) {
            Ok(KEY) => Ok(Self(cipher(&key[..KEY])?)),
            _ => Err(not_a_key()),
        }
    }

    /// A crash leaves the whole file or none.
    fn make(path: &Path) -> Result<Self, VaultError> {
        let key = random_key()?;
        let base64 = Zeroizing::new(STANDARD.encode(&key[..]));
        let text = Zeroizing::new(format!("{LABEL}{}\n", *base64));
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(VaultError::io(&unfinished)(error));
            }
            _ => {}
        }
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            // Unlike a rename, this fails when there is a file already.
            .and_then(|()| std::fs::hard_link(&unfinished, path));
        let removed = std::fs::remove_file(&unfinished);
        written.and(removed).map_err(VaultError::io(path))?;
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        File::open(parent)
            .and_then(|dir| dir.sync_all())
            .map_err(VaultError::io(parent))?;
        Ok(Self(cipher(&key[..])?))
    }

    /// A new key for a task, and the same as it is kept.
    pub(crate) fn new_task_key(
        &self,
        task: &TaskId,
        purpose: Use,
    ) -> Result<(TaskKey, Vec<u8>), VaultError> {
        let key = random_key()?;
        let mut sealed = MAGIC.to_vec();
        sealed.extend_from_slice(&seal(&self.0, &purpose.about(task), &key[..])?);
        Ok((TaskKey(cipher(&key[..])?), sealed))
    }

    /// The key of a task, from what is kept of it.
    pub(crate) fn open_task_key(
        &self,
        task: &TaskId,
        purpose: Use,
        sealed: &[u8],
    ) -> Result<TaskKey, VaultError> {
        let other = || VaultError::OtherKey { task: *task };
        let sealed = sealed.strip_prefix(MAGIC).ok_or_else(other)?;
        let key = open(&self.0, &purpose.about(task), sealed.to_vec()).ok_or_else(other)?;
        if key.len() != KEY {
            return Err(other());
        }
        Ok(TaskKey(cipher(&key)?))
    }
}

impl TaskKey {
    /// Seals a payload together with its head.
    pub(crate) fn seal(&self, head: &[u8], content: &[u8]) -> Result<Vec<u8>, VaultError> {
        seal(&self.0, head, content)
    }

    /// Opens a payload; `None` when it, or its head, is not as it was sealed.
    pub(crate) fn open(&self, head: &[u8], sealed: Vec<u8>) -> Option<Zeroizing<Vec<u8>>> {
        open(&self.0, head, sealed)
    }
}

fn random_key() -> Result<Zeroizing<[u8; KEY]>, VaultError> {
    let mut key = Zeroizing::new([0; KEY]);
    getrandom::fill(&mut key[..]).map_err(|_| VaultError::Crypto)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use std::os::unix::fs::PermissionsExt;

    fn task(n: u8) -> TaskId {
        TaskId::new(Timestamp::UNIX_EPOCH, [n; 10])
    }

    #[test]
    fn a_vault_key_survives_the_disk_and_is_for_its_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("vault.key");
        let made = VaultKey::load_or_make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
        let (key, sealed) = made.new_task_key(&task(1), Use::Payloads).unwrap();
        assert_eq!(sealed.len(), SEALED_KEY);
        let loaded = VaultKey::load_or_make(&path).unwrap();
        let again = loaded
            .open_task_key(&task(1), Use::Payloads, &sealed)
            .unwrap();
        let payload = key.seal(b"head", b"a secret").unwrap();
        assert_eq!(again.open(b"head", payload).unwrap()[..], b"a secret"[..]);
        for mode in [0o640, 0o604, 0o777] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let refused = VaultKey::load_or_make(&path).err().unwrap();
            assert!(matches!(refused, VaultError::KeyExposed { mode: m, .. } if m == mode));
        }
        for bad in ["", "x", "sallyport-vault-key-1:AAAA\n"] {
            std::fs::write(&path, bad).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let refused = VaultKey::load_or_make(&path).err().unwrap();
            assert!(matches!(refused, VaultError::NotAKey(_)), "{bad}");
        }
    }

    #[test]
    fn a_key_is_its_tasks_alone_and_a_payload_its_heads() {
        let home = tempfile::tempdir().unwrap();
        let vault = VaultKey::load_or_make(&home.path().join("a")).unwrap();
        let other = VaultKey::load_or_make(&home.path().join("b")).unwrap();
        let (key, sealed) = vault.new_task_key(&task(1), Use::Payloads).unwrap();
        assert!(
            vault
                .open_task_key(&task(2), Use::Payloads, &sealed)
                .is_err()
        );
        let as_journal = vault.open_task_key(&task(1), Use::Journal, &sealed);
        assert!(as_journal.is_err());
        assert!(
            other
                .open_task_key(&task(1), Use::Payloads, &sealed)
                .is_err()
        );
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(
                vault
                    .open_task_key(&task(1), Use::Payloads, &changed)
                    .is_err(),
                "{at}"
            );
        }
        assert!(
            vault
                .open_task_key(&task(1), Use::Payloads, &sealed[..20])
                .is_err()
        );
        let payload = key.seal(b"head", b"a secret").unwrap();
        assert!(!payload.windows(8).any(|part| part == b"a secret"));
        assert!(key.open(b"another", payload.clone()).is_none());
        assert!(key.open(b"head", payload[..11].to_vec()).is_none());
        let mut changed = payload;
        changed[13] ^= 1;
        assert!(key.open(b"head", changed).is_none());
    }
}
