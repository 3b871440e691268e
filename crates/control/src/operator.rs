//! The operator's token: one secret in a file of the data directory, for whoever runs Sallyport.

use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use identity::secret::{self, OPERATOR};
use zeroize::Zeroizing;

/// The file's name in the data directory.
const FILE: &str = "operator.token";
/// The prefix, and 32 random bytes in base64url.
const LENGTH: usize = OPERATOR.len() + 43;

/// Knows the operator's token when it sees it, by its hash; the token itself is only in the file.
pub struct OperatorToken {
    hash: [u8; 32],
}

/// Why the operator's token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OperatorTokenError {
    /// The file cannot be read or written.
    #[error("the operator's token {} cannot be used: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it.
    #[error(
        "the operator's token {} may be read by others than its owner (mode {mode:03o}): whoever \
         read it can do everything; delete the file, and a new token is made at the next start",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file holds something else.
    #[error(
        "{} holds no operator token; delete the file, and a new one is made at the next start",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl OperatorToken {
    /// Reads the token from the data directory; makes it when there is none.
    ///
    /// # Errors
    /// [`OperatorTokenError`], also when others can read the file.
    pub fn open(data_dir: &Path) -> Result<Self, OperatorTokenError> {
        let path = data_dir.join(FILE);
        let failed = |source| OperatorTokenError::Io {
            path: path.clone(),
            source,
        };
        if !path.try_exists().map_err(failed)? {
            make(&path).map_err(failed)?;
        }
        let file = std::fs::File::open(&path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(OperatorTokenError::Exposed { path, mode });
        }
        let text = Zeroizing::new(io::read_to_string(io::Read::take(file, 4_096)).map_err(failed)?);
        let token = text.trim_end();
        if token.len() != LENGTH || !token.starts_with(OPERATOR) {
            return Err(OperatorTokenError::Malformed { path });
        }
        Ok(Self {
            hash: secret::hash(token),
        })
    }

    /// Whether a text is the token, in the same time whatever the answer.
    #[must_use]
    pub fn is(&self, token: &str) -> bool {
        secret::matches(token, &self.hash)
    }

    /// Whether a request carries the token, as a bearer token (RFC 6750 §2.1).
    #[must_use]
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        bearer(headers).is_some_and(|token| self.is(token))
    }
}

/// The bearer token of the one `Authorization` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Writes a new token beside the place and moves it there, so that the file is never half written.
fn make(path: &Path) -> io::Result<()> {
    let beside = path.with_extension("new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(secret::generate(OPERATOR).as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let first = OperatorToken::open(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(first.is(text.trim_end()));
        assert!(OperatorToken::open(dir.path()).unwrap().is(text.trim_end()));
        for other in ["", "spo_", &text, &text[..LENGTH - 1]] {
            assert!(!first.is(other), "{other:?}");
        }
    }

    #[test]
    fn one_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _ = OperatorToken::open(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let exposed = OperatorToken::open(dir.path()).err().unwrap();
        assert!(matches!(
            exposed,
            OperatorTokenError::Exposed { mode: 0o640, .. }
        ));
    }

    #[test]
    fn an_empty_file_is_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let malformed = OperatorToken::open(dir.path()).err().unwrap();
        assert!(matches!(malformed, OperatorTokenError::Malformed { .. }));
    }

    #[test]
    fn it_must_come_in_the_one_authorization_header() {
        let dir = tempfile::tempdir().unwrap();
        let token = OperatorToken::open(dir.path()).unwrap();
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        let good = format!("Bearer {}", text.trim_end());
        let mut headers = HeaderMap::new();
        assert!(!token.is_in(&headers));
        headers.append(AUTHORIZATION, good.parse().unwrap());
        assert!(token.is_in(&headers));
        headers.append(AUTHORIZATION, good.parse().unwrap());
        assert!(!token.is_in(&headers));
    }
}
