//! The folder of an instance: its key, and where it enrolled. `sallyport agent enroll` writes it,
//! `sallyport connect` and the other commands that act as an agent read it.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use identity::InstanceKey;
use model::{AgentName, InstanceId};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The private key, readable by its owner only.
const KEY: &str = "key.pem";
/// Everything else.
const ABOUT: &str = "instance.json";

/// What an instance knows of itself beside its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstanceFolder {
    /// Its id, which is its OAuth `client_id`.
    pub(crate) id: InstanceId,
    /// The agent that it is a copy of.
    pub(crate) agent: AgentName,
    /// Base URL of the control listener, which is also the issuer of tokens.
    pub(crate) control: String,
    /// Base URL of the gateway.
    pub(crate) gateway: String,
}

impl InstanceFolder {
    /// Where an instance lives when nobody says otherwise: `$SALLYPORT_INSTANCE`, or
    /// `~/.sallyport/instance`.
    pub(crate) fn default_dir() -> PathBuf {
        match std::env::var_os("SALLYPORT_INSTANCE") {
            Some(dir) if !dir.is_empty() => PathBuf::from(dir),
            _ => std::env::home_dir()
                .unwrap_or_else(|| PathBuf::from("."))
                .join(".sallyport/instance"),
        }
    }

    /// Reads the folder that was named, or that where an instance lives when nobody says otherwise.
    ///
    /// # Errors
    /// [`Failure`] when there is no usable instance in it.
    pub(crate) fn open_named(dir: Option<&Path>) -> Result<(Self, InstanceKey), Failure> {
        let dir = dir.map_or_else(Self::default_dir, Path::to_owned);
        Self::open(&dir)
    }

    /// Reads the folder.
    ///
    /// # Errors
    /// [`Failure`] when there is no usable instance in it.
    pub(crate) fn open(dir: &Path) -> Result<(Self, InstanceKey), Failure> {
        let enroll = "`sallyport agent enroll` makes one; `--instance DIR` names it";
        let path = dir.join(ABOUT);
        let text = std::fs::read(&path).map_err(|error| {
            Failure::new(format!("no instance in {}: {error}", dir.display())).hint(enroll)
        })?;
        let about: Self = serde_json::from_slice(&text).map_err(|error| {
            Failure::new(format!("{} is damaged: {error}", path.display())).hint(enroll)
        })?;
        let key = InstanceKey::load_pem(&dir.join(KEY))
            .map_err(|error| Failure::new(format!("the instance's key cannot be used: {error}")))?;
        Ok((about, key))
    }
}

/// A folder with a key in it that nobody knows yet. Unless it is completed, the key is removed
/// again.
pub(crate) struct Unfinished {
    dir: PathBuf,
    completed: bool,
}

impl Unfinished {
    /// Makes the folder, which others than its owner cannot look into, and writes the key.
    ///
    /// # Errors
    /// [`Failure`] when there is an instance already, or the folder cannot be written.
    pub(crate) fn begin(dir: &Path, key: &InstanceKey) -> Result<Self, Failure> {
        if dir.join(ABOUT).exists() {
            return Err(
                Failure::new(format!("{} holds an instance already", dir.display()))
                    .hint("name another folder with `--instance DIR`, or remove this one"),
            );
        }
        if dir.join(KEY).exists() {
            let why = format!(
                "{} holds the key of an enrolment that did not finish",
                dir.display()
            );
            return Err(Failure::new(why).hint("remove the folder, and enrol with a new token"));
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| not_written(dir, &error))?;
        key.save_pem(&dir.join(KEY))
            .map_err(|error| not_written(dir, &error))?;
        Ok(Self {
            dir: dir.to_owned(),
            completed: false,
        })
    }

    /// Writes the rest, after the key was enrolled.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be written.
    pub(crate) fn complete(mut self, about: &InstanceFolder) -> Result<(), Failure> {
        let text =
            serde_json::to_string_pretty(about).map_err(|error| not_written(&self.dir, &error))?;
        std::fs::write(self.dir.join(ABOUT), text + "\n")
            .map_err(|error| not_written(&self.dir, &error))?;
        self.completed = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.completed {
            // What cannot be removed is found, and named, by the next try.
            let _ = std::fs::remove_file(self.dir.join(KEY));
        }
    }
}

fn not_written(dir: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!(
        "cannot write the instance into {}: {error}",
        dir.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_opens_again_and_is_never_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("instance");
        let about = InstanceFolder {
            id: InstanceId::new(jiff::Timestamp::UNIX_EPOCH, [7; 10]),
            agent: AgentName::parse("triage").unwrap(),
            control: "http://127.0.0.1:8600".to_owned(),
            gateway: "http://127.0.0.1:8601".to_owned(),
        };
        let key = InstanceKey::generate().unwrap();
        Unfinished::begin(&dir, &key)
            .unwrap()
            .complete(&about)
            .unwrap();
        let (read, read_key) = InstanceFolder::open(&dir).unwrap();
        assert_eq!(read, about);
        assert_eq!(
            read_key.public_jwk().to_string(),
            key.public_jwk().to_string()
        );
        assert!(Unfinished::begin(&dir, &key).is_err());
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&dir).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn an_enrolment_that_fails_leaves_no_key_behind() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("instance");
        let key = InstanceKey::generate().unwrap();
        drop(Unfinished::begin(&dir, &key).unwrap());
        assert!(!dir.join(KEY).exists());
        let begun = Unfinished::begin(&dir, &key).unwrap();
        let refused = Unfinished::begin(&dir, &key).err().unwrap();
        assert!(refused.message().contains("did not finish"));
        assert!(dir.join(KEY).exists(), "the other one's key is left alone");
        drop(begun);
    }

    #[test]
    fn a_folder_without_an_instance_is_explained() {
        let home = tempfile::tempdir().unwrap();
        let failure = InstanceFolder::open(home.path()).err().unwrap();
        assert!(failure.remedy().unwrap().contains("enroll"));
    }
}
