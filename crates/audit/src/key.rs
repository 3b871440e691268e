//! The log's signing key on disk: PKCS#8 (RFC 5958) in PEM (RFC 7468), for its owner only.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::error::AuditError;
use crate::note::{VerifierKey, is_key_name};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// Longest key file, in bytes.
const LIMIT: u64 = 4096;

/// The Ed25519 key that a log signs its checkpoints with. The library wipes it when it is dropped.
pub struct LogKey {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

impl LogKey {
    /// Makes a key for a log of that name.
    ///
    /// # Errors
    /// When the name cannot be one, or the cryptographic library fails.
    pub fn generate(origin: &str) -> Result<Self, AuditError> {
        Self::of(
            Ed25519KeyPair::generate().map_err(|_| AuditError::Crypto)?,
            origin,
        )
    }

    /// Reads the key from its file; makes key and file if there is none.
    ///
    /// # Errors
    /// When others may read the file, it holds no key, or the name cannot be one.
    pub fn load_or_make(path: &Path, origin: &str) -> Result<Self, AuditError> {
        match File::open(path) {
            Ok(file) => Self::load(file, path, origin),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Self::generate(origin)?;
                key.save(path)?;
                Ok(key)
            }
            Err(error) => Err(AuditError::io(path)(error)),
        }
    }

    /// What verifies this key's signatures.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    pub(crate) fn signature_line(&self, text: &[u8]) -> String {
        self.verifier.signature_line(self.pair.sign(text).as_ref())
    }

    fn of(pair: Ed25519KeyPair, origin: &str) -> Result<Self, AuditError> {
        if !is_key_name(origin) {
            return Err(AuditError::Origin(origin.chars().take(200).collect()));
        }
        let public = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| AuditError::Crypto)?;
        Ok(Self {
            pair,
            verifier: VerifierKey::new(origin, public),
        })
    }

    fn load(file: File, path: &Path, origin: &str) -> Result<Self, AuditError> {
        // Asked of the open file: whatever the path names a moment later does not matter.
        let about = file.metadata().map_err(AuditError::io(path))?;
        let mode = about.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(AuditError::KeyExposed {
                path: path.to_owned(),
                mode,
            });
        }
        let not_a_key = || AuditError::NotAKey {
            path: path.to_owned(),
        };
        // Room for all of it, so that growing leaves no copy behind.
        let mut text = Zeroizing::new(Vec::with_capacity(LIMIT as usize + 1));
        file.take(LIMIT)
            .read_to_end(&mut text)
            .map_err(AuditError::io(path))?;
        let der = decode(&text).ok_or_else(not_a_key)?;
        Self::of(
            Ed25519KeyPair::from_pkcs8(&der).map_err(|_| not_a_key())?,
            origin,
        )
    }

    /// Writes the key into a new file. A crash leaves the whole file or none.
    fn save(&self, path: &Path) -> Result<(), AuditError> {
        let der: Pkcs8V1Der<'static> = self.pair.as_der().map_err(|_| AuditError::Crypto)?;
        let base64 = Zeroizing::new(STANDARD.encode(der.as_ref()));
        let text = Zeroizing::new(format!("{BEGIN}\n{}\n{END}\n", *base64));
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(AuditError::io(&unfinished)(error));
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
        written.and(removed).map_err(AuditError::io(path))?;
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        File::open(parent)
            .and_then(|dir| dir.sync_all())
            .map_err(AuditError::io(parent))
    }
}

/// The one key in a PEM text.
fn decode(pem: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(pem).ok()?;
    let body = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
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

    #[test]
    fn a_key_survives_the_disk_and_is_for_its_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("log.key");
        let made = LogKey::load_or_make(&path, "example.com/log").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
        let loaded = LogKey::load_or_make(&path, "example.com/log").unwrap();
        assert_eq!(loaded.verifier(), made.verifier());
        let note = format!("text\n\n{}", loaded.signature_line(b"text\n"));
        assert_eq!(made.verifier().open(&note), Ok("text\n"));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("log.key");
        LogKey::load_or_make(&path, "example.com/log").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o777] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let refused = LogKey::load_or_make(&path, "example.com/log")
                .err()
                .unwrap();
            assert!(matches!(refused, AuditError::KeyExposed { mode: m, .. } if m == mode));
            assert!(refused.to_string().contains("chmod"));
        }
    }

    #[test]
    fn what_is_no_key_or_no_name_is_told() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("log.key");
        for bad in [
            "",
            "x",
            "-----BEGIN PRIVATE KEY-----\nMAAA\n-----END PRIVATE KEY-----\n",
        ] {
            std::fs::write(&path, bad).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let refused = LogKey::load_or_make(&path, "example.com/log")
                .err()
                .unwrap();
            assert!(matches!(refused, AuditError::NotAKey { .. }));
        }
        for bad in ["", "a b", "a+b", "a\nb", "a\u{2003}b"] {
            assert!(
                matches!(LogKey::generate(bad), Err(AuditError::Origin(_))),
                "{bad:?}"
            );
        }
    }
}
