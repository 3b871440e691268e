//! Private keys on disk: PKCS#8 (RFC 5958) in PEM (RFC 7468), readable by their owner only.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::signing::{SigningFailed, SigningKey};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----\n";
const END: &str = "-----END PRIVATE KEY-----\n";
/// How the names of files of keys end that replace others in time.
pub(crate) const DATED: &str = "pem";
/// Longest key file, in bytes.
const LIMIT: u64 = 8192;

/// Why a key could not be read, made or kept.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Others than the owner may read or change it.
    #[error(
        "{path} is open to others (mode {mode:03o}): run `chmod go= {path}`, and replace the key if \
         somebody may have read it"
    )]
    Exposed {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is no P-256 private key.
    #[error("{path} is no P-256 private key in PEM (`BEGIN PRIVATE KEY`)")]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The name of a file in the folder of signing keys does not belong to what is in it.
    #[error("{path} does not belong among the signing keys: move it away")]
    Misnamed {
        /// The file.
        path: PathBuf,
    },
    /// Something is in the way.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The cryptographic library failed.
    #[error(transparent)]
    Signing(#[from] SigningFailed),
}

impl KeyError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// The name of the file of a key that replaces others in time: when it was made, and its thumbprint.
pub(crate) fn dated_name(created_at: Timestamp, thumbprint: &str) -> String {
    format!("{:012}.{thumbprint}.{DATED}", created_at.as_second())
}

/// Reads a key whose file has a [`dated_name`], and when it was made. The name must be the key's own.
pub(crate) fn load_dated(path: &Path) -> Result<(SigningKey, Timestamp), KeyError> {
    let misnamed = || KeyError::Misnamed {
        path: path.to_owned(),
    };
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(misnamed)?;
    let seconds = name
        .split_once('.')
        .and_then(|(seconds, _)| seconds.parse().ok());
    let created_at = seconds
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .ok_or_else(misnamed)?;
    let signing = load(path)?;
    if name != dated_name(created_at, &signing.public().thumbprint()) {
        return Err(misnamed());
    }
    Ok((signing, created_at))
}

/// Makes a folder that only its owner can look into, or checks that it is one.
pub(crate) fn private_dir(path: &Path) -> Result<(), KeyError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(KeyError::io(path))?;
    let about = std::fs::metadata(path).map_err(KeyError::io(path))?;
    closed_to_others(path, &about)
}

fn closed_to_others(path: &Path, about: &std::fs::Metadata) -> Result<(), KeyError> {
    let mode = about.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(KeyError::Exposed {
        path: path.to_owned(),
        mode,
    })
}

/// Reads a key from a file that is closed to others.
pub(crate) fn load(path: &Path) -> Result<SigningKey, KeyError> {
    let file = File::open(path).map_err(KeyError::io(path))?;
    // Asked of the open file: whatever the path names a moment later does not matter.
    let about = file.metadata().map_err(KeyError::io(path))?;
    closed_to_others(path, &about)?;
    let not_a_key = || KeyError::NotAKey {
        path: path.to_owned(),
    };
    if !about.is_file() || about.len() > LIMIT {
        return Err(not_a_key());
    }
    // Room for all of it, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(Vec::with_capacity(LIMIT as usize + 1));
    file.take(LIMIT)
        .read_to_end(&mut text)
        .map_err(KeyError::io(path))?;
    let der = decode(&text).ok_or_else(not_a_key)?;
    SigningKey::from_pkcs8(&der).map_err(|_| not_a_key())
}

/// What a key's file is called until it is complete.
pub(crate) const UNFINISHED: &str = "unfinished";

/// Writes a key into a new file; one that exists is never replaced. When this returns, the key is
/// on the disk. A crash leaves the whole key or none, and perhaps an unfinished file beside it.
pub(crate) fn save(key: &SigningKey, path: &Path) -> Result<(), KeyError> {
    let der = key.to_pkcs8()?;
    let unfinished = path.with_extension(UNFINISHED);
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(KeyError::io(&unfinished)(error));
        }
        _ => {}
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|mut file| {
            file.write_all(encode(&der).as_bytes())?;
            file.sync_all()
        })
        // Unlike a rename, this fails when there is a file already.
        .and_then(|()| std::fs::hard_link(&unfinished, path));
    let removed = std::fs::remove_file(&unfinished);
    written.and(removed).map_err(KeyError::io(path))?;
    sync_parent(path)
}

/// Writes what everyone may read into a file, as a whole or not at all. When this returns, it is on the disk.
pub(crate) fn write_public(path: &Path, text: &[u8]) -> Result<(), KeyError> {
    let unfinished = path.with_extension(UNFINISHED);
    File::create(&unfinished)
        .and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&unfinished, path))
        .map_err(KeyError::io(path))?;
    sync_parent(path)
}

/// Makes what was created or removed beside `path` survive a crash.
pub(crate) fn sync_parent(path: &Path) -> Result<(), KeyError> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(KeyError::io(parent))
}

fn encode(der: &[u8]) -> Zeroizing<String> {
    let mut base64 = Zeroizing::new(vec![0; der.len().div_ceil(3) * 4]);
    let length = STANDARD.encode_slice(der, &mut base64).unwrap_or(0);
    let mut text = Zeroizing::new(String::with_capacity(length + length / 32 + 128));
    text.push_str(BEGIN);
    for line in base64[..length].chunks(64) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text.push_str(END);
    text
}

/// The one key in a PEM text.
fn decode(pem: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(pem).ok()?;
    let body = text
        .trim()
        .strip_prefix(BEGIN.trim_end())?
        .strip_suffix(END.trim_end())?;
    let mut base64 = Zeroizing::new(Vec::with_capacity(body.len()));
    base64.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; base64.len()]);
    let length = STANDARD.decode_slice(&base64[..], &mut der).ok()?;
    der.truncate(length);
    Some(der)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_survives_the_disk() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key.pem");
        let key = SigningKey::generate().unwrap();
        save(&key, &path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(load(&path).unwrap().public(), key.public());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(BEGIN) && text.ends_with(END));
        assert!(text.lines().all(|line| line.len() <= 64), "RFC 7468 §2");
    }

    #[test]
    fn a_file_that_exists_is_never_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key.pem");
        std::fs::write(&path, "precious").unwrap();
        assert!(save(&SigningKey::generate().unwrap(), &path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key.pem");
        save(&SigningKey::generate().unwrap(), &path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o777] {
            chmod(&path, mode);
            let refused = load(&path).err().unwrap();
            assert!(matches!(refused, KeyError::Exposed { mode: m, .. } if m == mode));
            assert!(refused.to_string().contains("chmod"));
        }
        chmod(&path, 0o400);
        assert!(load(&path).is_ok());
    }

    #[test]
    fn a_folder_that_others_can_look_into_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("keys");
        private_dir(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        chmod(&path, 0o750);
        assert!(matches!(private_dir(&path), Err(KeyError::Exposed { .. })));
    }

    #[test]
    fn what_is_no_key_is_told() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key.pem");
        let good = encode(&SigningKey::generate().unwrap().to_pkcs8().unwrap());
        for bad in [
            String::new(),
            good.replace("PRIVATE", "PUBLIC"),
            good[..good.len() / 2].to_owned(),
            good.replacen("MI", "MA", 1),
            format!("{}{}", &*good, &*good),
            "x".repeat(10_000),
        ] {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, bad).unwrap();
            chmod(&path, 0o600);
            assert!(matches!(load(&path), Err(KeyError::NotAKey { .. })));
        }
        assert!(matches!(
            load(&home.path().join("none")),
            Err(KeyError::Io { .. })
        ));
    }
}
