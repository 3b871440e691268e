//! What may be allowed so that some branches of the file tree stay closed.
//!
//! Landlock rules only allow, and each is for everything beneath a folder. So a folder with a closed branch
//! in it cannot be allowed itself; instead each of its other entries is. Three things follow: such a folder
//! cannot be listed, nothing can be made directly in it, and what comes to be there later stays closed.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

/// Branches that stay closed.
#[derive(Debug, Default, Clone)]
pub(super) struct Closed {
    paths: Vec<PathBuf>,
    /// The same by device and number, for other names of them.
    files: HashSet<(u64, u64)>,
}

/// A folder or file that may be allowed with everything beneath it.
#[derive(Debug)]
pub(super) struct Open {
    /// Where it is, without symbolic links.
    pub(super) path: PathBuf,
    /// Refers to it, whatever becomes of its name.
    pub(super) file: OwnedFd,
    /// Whether it is a folder.
    pub(super) is_folder: bool,
}

impl Closed {
    /// Closes these paths. What does not exist yet is closed under its name.
    pub(super) fn new<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut closed = Self::default();
        for path in paths {
            let path = resolve(path);
            if let Some(identity) = identity_of(&path) {
                closed.files.insert(identity);
            }
            closed.paths.push(path);
        }
        closed
    }

    /// Whether a path is closed or below one that is.
    fn covers(&self, path: &Path) -> bool {
        self.paths.iter().any(|closed| path.starts_with(closed))
    }

    /// Whether something below a path is closed.
    fn is_below(&self, path: &Path) -> bool {
        self.paths
            .iter()
            .any(|closed| closed != path && closed.starts_with(path))
    }

    /// Tells everything beneath `root` that is neither closed nor has something closed in it, in pieces as
    /// large as possible. Nothing when there is no `root`. Symbolic links are left out: what they lead to is
    /// allowed, or not, where it is. No more than one piece is open at once, however many there are.
    ///
    /// # Errors
    /// When `root` cannot be looked at. What is beneath it and cannot be looked at stays closed.
    pub(super) fn around(&self, root: &Path, tell: &mut dyn FnMut(Open)) -> io::Result<()> {
        let path = match root.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if !self.covers(&path) {
            let file = openat2(
                CWD,
                &path,
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                // Nobody put a link there since.
                ResolveFlags::NO_SYMLINKS,
            )?;
            self.piece(path, file, tell)?;
        }
        Ok(())
    }

    fn piece(&self, path: PathBuf, file: OwnedFd, tell: &mut dyn FnMut(Open)) -> io::Result<()> {
        let about = fstat(&file)?;
        let kind = FileType::from_raw_mode(about.st_mode);
        let is_folder = kind == FileType::Directory;
        if kind == FileType::Symlink || self.files.contains(&(about.st_dev, about.st_ino)) {
            return Ok(());
        }
        if !self.is_below(&path) {
            tell(Open {
                path,
                file,
                is_folder,
            });
            return Ok(());
        }
        if !is_folder {
            return Ok(());
        }
        let listed = openat(
            &file,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        // Who cannot list it gives nothing of it away.
        let Ok(listed) = listed else {
            return Ok(());
        };
        for entry in Dir::read_from(&listed)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let child = path.join(OsStr::from_bytes(name));
            if matches!(name, b"." | b"..") || self.covers(&child) {
                continue;
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // It may have gone in the meantime.
            if let Ok(opened) = openat(listed.as_fd(), entry.file_name(), flags, Mode::empty()) {
                self.piece(child, opened, tell)?;
            }
        }
        Ok(())
    }
}

/// The path without symbolic links, as far as it exists.
fn resolve(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for folder in absolute.ancestors() {
        if let Ok(found) = folder.canonicalize() {
            let rest = absolute.strip_prefix(folder).unwrap_or(Path::new(""));
            // Joining nothing would add a slash.
            return if rest == Path::new("") {
                found
            } else {
                found.join(rest)
            };
        }
    }
    absolute
}

fn identity_of(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let about = std::fs::metadata(path).ok()?;
    Some((about.dev(), about.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn paths(closed: &Closed, root: &Path) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        closed
            .around(root, &mut |open| paths.push(open.path))
            .unwrap();
        paths.sort();
        paths
    }

    #[test]
    fn what_is_beside_a_closed_branch_is_allowed_piece_by_piece() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for each in ["a/data/keys", "a/other/deep", "b/c"] {
            std::fs::create_dir_all(root.join(each)).unwrap();
        }
        std::fs::write(root.join("a/file"), "x").unwrap();
        let closed = Closed::new([root.join("a/data").as_path()]);
        let expected = [root.join("a/file"), root.join("a/other"), root.join("b")];
        assert_eq!(paths(&closed, &root), expected);
        assert_eq!(paths(&closed, &root.join("a/data")), [] as [PathBuf; 0]);
        assert_eq!(
            paths(&closed, &root.join("a/data/keys")),
            [] as [PathBuf; 0]
        );
        assert_eq!(paths(&closed, &root.join("a/missing")), [] as [PathBuf; 0]);
        assert_eq!(paths(&closed, &root.join("b")), [root.join("b")]);
    }

    #[test]
    fn other_names_of_what_is_closed_are_closed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/data")).unwrap();
        std::fs::write(root.join("secret"), "x").unwrap();
        std::fs::hard_link(root.join("secret"), root.join("same")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        std::os::unix::fs::symlink("/", root.join("everything")).unwrap();
        // Named through a link, and not there yet.
        let closed = Closed::new([
            root.join("link/data").as_path(),
            root.join("secret").as_path(),
            root.join("link/later").as_path(),
        ]);
        assert!(closed.covers(&root.join("real/later/x")));
        assert_eq!(paths(&closed, &root), [] as [PathBuf; 0]);
        assert_eq!(
            paths(&closed, &root.join("link/data/..")),
            [] as [PathBuf; 0]
        );
    }

    /// A path of up to four short names.
    fn branch() -> impl Strategy<Value = PathBuf> {
        proptest::collection::vec("[ab]", 1..=4).prop_map(|names| names.iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn exactly_what_has_nothing_closed_in_it_is_allowed(
            made in proptest::collection::vec(branch(), 1..8),
            closed in proptest::collection::vec(branch(), 1..4),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().canonicalize().unwrap();
            let mut all = HashSet::new();
            for branch in &made {
                std::fs::create_dir_all(root.join(branch)).unwrap();
                all.extend(branch.ancestors().map(|path| root.join(path)));
            }
            let closed: Vec<PathBuf> = closed.iter().map(|path| root.join(path)).collect();
            let tree = Closed::new(closed.iter().map(PathBuf::as_path));
            let allowed = paths(&tree, &root);
            for path in all {
                let path = path.components().collect::<PathBuf>();
                let is_allowed = allowed.iter().any(|open| path.starts_with(open));
                let is_closed = closed
                    .iter()
                    .any(|closed| path.starts_with(closed) || closed.starts_with(&path));
                prop_assert_eq!(is_allowed, !is_closed, "{}", path.display());
            }
        }
    }
}
