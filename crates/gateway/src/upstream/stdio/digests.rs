//! Programs that are what they were when somebody pinned them.
//!
//! Before a program is started, the files that it is made of are compared with their digests: the program
//! itself, found as it would be started; each argument that names a file, which is how scripts are run;
//! and whatever else was pinned, such as the folder of a package with all that is in it. What has changed
//! is not started. A program that fetches what it runs (`npx`, `uvx`, a container) is only pinned itself:
//! no digest of a file here can cover what it will fetch, so such packages are to be installed first and
//! pinned as a folder.
//!
//! Between the look and the start lies a moment in which somebody who may write the files could change
//! them. Against that stands who may: the confinement keeps the program itself from it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use model::config::Server;
use sha2::{Digest, Sha256};

use crate::hex;

/// What the digest of a file begins with.
const FILE: &str = "sha256:";
/// What the digest of a folder begins with.
const TREE: &str = "tree-sha256:";
/// Most entries of a folder.
const ENTRIES: usize = 200_000;
/// Largest folder, in bytes.
const TREE_BYTES: u64 = 4 << 30;
/// Deepest nesting of a folder.
const DEEPEST: usize = 64;
/// Digests of files that are remembered, by what the file system says of them.
const REMEMBERED: u64 = 262_144;

/// A file's identity and version: device, inode, size, and when content and metadata were changed last.
/// The last one cannot be set by whoever may write the file.
type Version = (u64, u64, u64, i64, i64, i64, i64);

static KNOWN: LazyLock<moka::sync::Cache<Version, [u8; 32]>> =
    LazyLock::new(|| moka::sync::Cache::new(REMEMBERED));

/// Why a program is not started.
#[derive(Debug, thiserror::Error)]
pub enum NotPinned {
    /// It is not where programs are looked for.
    #[error("`{0}` is not found in `PATH`")]
    NotFound(String),
    /// A file that it is made of has no digest.
    #[error("{} is not pinned; `sallyport mcp pin` pins it", .0.display())]
    Unknown(PathBuf),
    /// A file is another one than was pinned.
    #[error("{} is not what was pinned; look at what changed, then `sallyport mcp pin` pins it anew", .0.display())]
    Changed(PathBuf),
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a server's command is made of on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The program, found as it would be started.
    pub program: PathBuf,
    /// The arguments that name files.
    pub files: Vec<PathBuf>,
    /// The program fetches what it runs, so that its digest says little.
    pub fetches: Option<&'static str>,
}

/// Programs that fetch what they run, with what can be done instead.
const FETCHING: [(&str, &str); 9] = [
    (
        "npx",
        "`npm install` it into a folder, run it with `node`, and pin the folder",
    ),
    (
        "pnpx",
        "`pnpm install` it into a folder, run it with `node`, and pin the folder",
    ),
    (
        "bunx",
        "`bun install` it into a folder, run it with `bun`, and pin the folder",
    ),
    (
        "uvx",
        "`uv venv` and `uv pip install` it, run it from there, and pin the folder",
    ),
    (
        "uv",
        "`uv venv` and `uv pip install` it, run it from there, and pin the folder",
    ),
    (
        "pipx",
        "install it into a virtual environment, run it from there, and pin the folder",
    ),
    ("docker", "name the image by its digest: `image@sha256:…`"),
    ("podman", "name the image by its digest: `image@sha256:…`"),
    (
        "deno",
        "vendor what it imports, run it with `--cached-only`, and pin the folder",
    ),
];

/// Finds what a server's command is made of. `path` is the value of `PATH` that the program is started
/// with; the server's folder must be absolute.
///
/// # Errors
/// [`NotPinned::NotFound`]
pub fn made_of(server: &Server, path: Option<&std::ffi::OsStr>) -> Result<Made, NotPinned> {
    let (program, arguments) = server
        .command
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let directory = server.directory.as_deref();
    let within = |name: &str| directory.map_or_else(|| PathBuf::from(name), |dir| dir.join(name));
    let found = if program.contains('/') {
        Some(within(program)).filter(|path| path.is_file())
    } else {
        path.into_iter()
            .flat_map(std::env::split_paths)
            .map(|folder| folder.join(program))
            .find(|path| is_executable(path))
    };
    let found = found.ok_or_else(|| NotPinned::NotFound(program.escape_debug().to_string()))?;
    let files = arguments
        .iter()
        // `--config=file` names a file too.
        .map(|argument| {
            argument
                .split_once('=')
                .map_or(argument.as_str(), |(_, value)| value)
        })
        .filter(|name| !name.is_empty())
        .map(within)
        .filter(|path| path.is_file())
        .collect();
    let called = found.file_name().and_then(std::ffi::OsStr::to_str);
    let fetches = FETCHING
        .iter()
        .find(|(name, _)| called == Some(name))
        .map(|(_, instead)| *instead);
    Ok(Made {
        program: found,
        files,
        fetches,
    })
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.is_file() && about.mode() & 0o111 != 0)
}

/// Compares what a command is made of with what was pinned, and everything else that was.
///
/// # Errors
/// [`NotPinned`]
pub(super) fn check(made: &Made, pinned: &BTreeMap<PathBuf, String>) -> Result<(), NotPinned> {
    for file in std::iter::once(&made.program).chain(&made.files) {
        let covered = pinned.contains_key(file)
            || pinned
                .iter()
                .any(|(folder, digest)| digest.starts_with(TREE) && file.starts_with(folder));
        if !covered {
            return Err(NotPinned::Unknown(file.clone()));
        }
    }
    for (path, wanted) in pinned {
        if digest(path)? != *wanted {
            return Err(NotPinned::Changed(path.clone()));
        }
    }
    Ok(())
}

/// The digest of a file, or of a folder with everything in it: names, contents, what links point to, and
/// what may be executed.
///
/// # Errors
/// [`NotPinned::Unreadable`], also when a folder has more than can be looked at.
pub fn digest(path: &Path) -> Result<String, NotPinned> {
    let failed = |source| NotPinned::Unreadable {
        path: path.to_owned(),
        source,
    };
    let about = fs::metadata(path).map_err(failed)?;
    if about.is_dir() {
        let mut tree = Tree::default();
        tree.folder(path, path, 0).map_err(failed)?;
        Ok(format!("{TREE}{}", hex(&tree.hash.finalize())))
    } else {
        Ok(format!("{FILE}{}", hex(&of_file(path).map_err(failed)?)))
    }
}

fn of_file(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let about = file.metadata()?;
    let version = |about: &fs::Metadata| {
        (
            about.dev(),
            about.ino(),
            about.size(),
            about.mtime(),
            about.mtime_nsec(),
            about.ctime(),
            about.ctime_nsec(),
        )
    };
    let before = version(&about);
    if let Some(known) = KNOWN.get(&before) {
        return Ok(known);
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
    }
    let digest: [u8; 32] = hash.finalize().into();
    // One that was written to in the meantime, or so recently that the clock does not tell, is not known.
    if version(&file.metadata()?) == before && is_settled(&about) {
        KNOWN.insert(before, digest);
    }
    Ok(digest)
}

/// Whether a file's last change is so long ago that another one would have another time.
fn is_settled(about: &fs::Metadata) -> bool {
    let now = jiff::Timestamp::now().as_second();
    now - about.ctime() > 2
}

#[derive(Default)]
struct Tree {
    hash: Sha256,
    entries: usize,
    bytes: u64,
}

impl Tree {
    fn folder(&mut self, root: &Path, folder: &Path, depth: usize) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(io::Error::other("it is nested too deeply"));
        }
        let mut names = fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for path in names {
            self.entries += 1;
            if self.entries > ENTRIES {
                return Err(io::Error::other(format!(
                    "it has more than {ENTRIES} entries"
                )));
            }
            let about = fs::symlink_metadata(&path)?;
            let name = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .as_os_str()
                .as_bytes();
            let kind = about.file_type();
            if kind.is_symlink() {
                self.entry(b'l', name, fs::read_link(&path)?.as_os_str().as_bytes());
            } else if kind.is_dir() {
                self.entry(b'd', name, b"");
                self.folder(root, &path, depth + 1)?;
            } else if kind.is_file() {
                self.bytes = self.bytes.saturating_add(about.size());
                if self.bytes > TREE_BYTES {
                    return Err(io::Error::other(format!(
                        "it has more than {TREE_BYTES} bytes"
                    )));
                }
                let executable = if about.mode() & 0o111 == 0 {
                    b'f'
                } else {
                    b'x'
                };
                self.entry(executable, name, &of_file(&path)?);
            } else {
                return Err(io::Error::other(
                    "it has what is neither file, folder nor link",
                ));
            }
        }
        Ok(())
    }

    /// One entry; lengths come first, so that no two trees are the same bytes.
    fn entry(&mut self, kind: u8, name: &[u8], content: &[u8]) {
        self.hash.update([kind]);
        for part in [name, content] {
            self.hash.update((part.len() as u64).to_be_bytes());
            self.hash.update(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(paths: &[&Path]) -> BTreeMap<PathBuf, String> {
        paths
            .iter()
            .map(|path| ((*path).to_owned(), digest(path).unwrap()))
            .collect()
    }

    fn server(home: &Path, command: &[&str]) -> Server {
        Server {
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            directory: Some(home.to_owned()),
            ..Server::default()
        }
    }

    #[test]
    fn what_changed_or_was_not_pinned_is_not_started() {
        let home = tempfile::tempdir().unwrap();
        let script = home.path().join("server.py");
        fs::write(&script, "print(1)").unwrap();
        let shell = Path::new("/bin/sh");
        let made = made_of(
            &server(
                home.path(),
                &["sh", "server.py", "--flag", "--log=none.txt"],
            ),
            Some("/nowhere:/bin".as_ref()),
        )
        .unwrap();
        assert_eq!(
            (made.program.as_path(), made.files.as_slice()),
            (shell, &[script.clone()][..])
        );
        let both = pinned(&[shell, &script]);
        check(&made, &both).unwrap();
        let without = pinned(&[shell]);
        assert!(matches!(check(&made, &without), Err(NotPinned::Unknown(path)) if path == script));
        fs::write(&script, "print(2)").unwrap();
        assert!(matches!(check(&made, &both), Err(NotPinned::Changed(path)) if path == script));
        fs::remove_file(&script).unwrap();
        assert!(matches!(
            check(&made, &both),
            Err(NotPinned::Unreadable { .. })
        ));
    }

    #[test]
    fn a_change_is_seen_though_size_and_time_are_the_same() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("a");
        fs::write(&file, "one").unwrap();
        let (before, when) = (
            digest(&file).unwrap(),
            fs::metadata(&file).unwrap().modified().unwrap(),
        );
        fs::write(&file, "two").unwrap();
        File::open(&file).unwrap().set_modified(when).unwrap();
        assert_ne!(digest(&file).unwrap(), before);
    }

    #[test]
    fn a_folder_is_all_that_is_in_it() {
        let home = tempfile::tempdir().unwrap();
        let inner = home.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("f"), "x").unwrap();
        let mut seen = vec![digest(home.path()).unwrap()];
        let mut differs = |what: &str| {
            let now = digest(home.path()).unwrap();
            assert!(!seen.contains(&now), "{what}");
            seen.push(now);
        };
        fs::write(inner.join("f"), "y").unwrap();
        differs("content");
        fs::rename(inner.join("f"), inner.join("g")).unwrap();
        differs("name");
        fs::create_dir(inner.join("h")).unwrap();
        differs("an empty folder");
        std::os::unix::fs::symlink("g", inner.join("l")).unwrap();
        differs("a link");
        fs::remove_file(inner.join("l")).unwrap();
        std::os::unix::fs::symlink("h", inner.join("l")).unwrap();
        differs("another link");
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(inner.join("g"), fs::Permissions::from_mode(0o755)).unwrap();
        differs("what may be executed");
        assert_eq!(digest(home.path()).unwrap(), *seen.last().unwrap());
    }

    #[test]
    fn programs_that_fetch_are_named() {
        let home = tempfile::tempdir().unwrap();
        let npx = home.path().join("npx");
        fs::write(&npx, "").unwrap();
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&npx, fs::Permissions::from_mode(0o755)).unwrap();
        let path = home.path().as_os_str();
        let made = made_of(
            &server(home.path(), &["npx", "-y", "some-package"]),
            Some(path),
        )
        .unwrap();
        assert!(
            made.fetches
                .is_some_and(|instead| instead.contains("npm install"))
        );
        assert!(made_of(&server(home.path(), &["absent"]), Some(path)).is_err());
    }
}
