//! Noticing that files were changed.
//!
//! Folders are watched, not files: editors write a new file and rename it over the old one, which
//! a watch on the file itself would follow into nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// How long it must be quiet before a change counts as done.
const QUIET: Duration = Duration::from_millis(200);
/// How long a change is waited for at most, when it is never quiet.
const PATIENCE: Duration = Duration::from_secs(2);
/// The folders beside the configuration file that belong to it.
const FOLDERS: [&str; 4] = ["templates", "annotations", "rules", "policies"];

/// A watch on a configuration file and the folders beside it.
pub(super) struct Watch {
    watcher: RecommendedWatcher,
    changes: mpsc::Receiver<()>,
    folder: PathBuf,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// When the operating system does not allow it.
    pub(super) fn new(file: &Path) -> notify::Result<Self> {
        // One waiting change is as good as many.
        let (sender, changes) = mpsc::channel(1);
        let config = file.file_name().map(ToOwned::to_owned);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let concerns = event.is_ok_and(|event| {
                !matches!(event.kind, EventKind::Access(_))
                    && event
                        .paths
                        .iter()
                        .any(|path| concerns(path, config.as_deref()))
            });
            if concerns {
                // Full: a change is waiting already.
                let _ = sender.try_send(());
            }
        })?;
        let folder = std::path::absolute(crate::setup::folder_of(file))?;
        let mut watch = Self {
            watcher,
            changes,
            folder,
        };
        let folder = watch.folder.clone();
        watch.watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        watch.watch_folders();
        Ok(watch)
    }

    /// Resolves when something was changed and it has become quiet.
    pub(super) async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            // The watcher is gone: nothing will ever be noticed.
            std::future::pending::<()>().await;
        }
        let until_quiet = async {
            while let Ok(Some(())) = tokio::time::timeout(QUIET, self.changes.recv()).await {}
        };
        let _ = tokio::time::timeout(PATIENCE, until_quiet).await;
        // A folder may have come, or been replaced by another one of the same name.
        self.watch_folders();
    }

    fn watch_folders(&mut self) {
        for name in FOLDERS {
            let folder = self.folder.join(name);
            if folder.is_dir()
                && let Err(error) = self.watcher.watch(&folder, RecursiveMode::NonRecursive)
            {
                tracing::warn!(%error, folder = %folder.display(), "changes here will not be noticed");
            }
        }
    }
}

/// Whether a path is one that a setup is read from.
fn concerns(path: &Path, config: Option<&std::ffi::OsStr>) -> bool {
    let Some(name) = path.file_name() else {
        return false;
    };
    if name.as_encoded_bytes().starts_with(b".") {
        return false;
    }
    let within = path.parent().and_then(Path::file_name);
    let in_folder = |folder: &str, ending: &str| {
        within.is_some_and(|within| within == folder)
            && path.extension().is_some_and(|end| end == ending)
    };
    Some(name) == config
        || name == crate::setup::rules::PINS
        || FOLDERS.iter().any(|folder| name == *folder)
        || in_folder("templates", "toml")
        || in_folder("annotations", "toml")
        || in_folder("rules", "toml")
        || in_folder("policies", "cedar")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_noticed(watch: &mut Watch) -> bool {
        tokio::time::timeout(Duration::from_secs(5), watch.changed())
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn writing_renaming_and_new_folders_are_noticed() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("sallyport.toml");
        std::fs::write(&file, "a").unwrap();
        let mut watch = Watch::new(&file).unwrap();
        std::fs::write(&file, "b").unwrap();
        assert!(is_noticed(&mut watch).await);
        // As editors do.
        std::fs::write(home.path().join(".sallyport.toml.swp"), "c").unwrap();
        std::fs::rename(home.path().join(".sallyport.toml.swp"), &file).unwrap();
        assert!(is_noticed(&mut watch).await);
        std::fs::create_dir(home.path().join("policies")).unwrap();
        assert!(is_noticed(&mut watch).await);
        std::fs::write(home.path().join("policies/p.cedar"), "").unwrap();
        assert!(is_noticed(&mut watch).await);
    }

    #[test]
    fn only_what_is_read_concerns() {
        let config = Some(std::ffi::OsStr::new("sallyport.toml"));
        for path in [
            "/x/sallyport.toml",
            "/x/templates",
            "/x/templates/a.toml",
            "/x/annotations/a.toml",
            "/x/rules/a.toml",
            "/x/pins.toml",
            "/x/policies/a.cedar",
        ] {
            assert!(concerns(Path::new(path), config), "{path}");
        }
        for path in [
            "/x/data",
            "/x/other.toml",
            "/x/templates/a.toml~",
            "/x/templates/.a.toml",
            "/x/policies/4913",
        ] {
            assert!(!concerns(Path::new(path), config), "{path}");
        }
    }
}
