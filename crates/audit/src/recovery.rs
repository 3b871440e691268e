//! Opening a log for writing: brings it into the state that it had when the last record was
//! acknowledged, or refuses.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

use crate::bundle;
use crate::checkpoint::Checkpoint;
use crate::disk::Disk;
use crate::error::AuditError;
use crate::journal::{FOLDER, SegmentWriter};
use crate::key::LogKey;
use crate::log::{Options, Shared};
use crate::note::VerifierKey;
use crate::publisher::{CHECKPOINT, Publisher, UNFINISHED};
use crate::reader::{Problems, tree_check::TreeCheck};
use crate::scan::Tail;
use crate::stored::Stored;
use crate::tile::{Kind, Tile, WIDTH};
use crate::tree::Edge;
use crate::writer::Writer;

/// The file with the verifier key.
pub(crate) const VERIFIER: &str = "log.vkey";
const LOCK: &str = "lock";
/// How many of the newest records are compared with their hashes at each start.
const RECHECKED: u64 = 65_536;

/// What opening a log found and repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// How many records the log has.
    pub records: u64,
    /// How many of them no checkpoint covered yet: they came from the journal.
    pub from_journal: u64,
    /// Bytes at the end of the journal that a crash tore. They belonged to records that were never
    /// acknowledged, and were dropped.
    pub torn_bytes: u64,
    /// Whether the log was begun now.
    pub begun: bool,
}

pub(crate) struct Opened {
    pub(crate) shared: Arc<Shared>,
    pub(crate) verifier: VerifierKey,
    pub(crate) recovery: Recovery,
}

pub(crate) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: Arc<Options>,
) -> Result<Opened, AuditError> {
    make_folder(&*disk, dir)?;
    let lock = lock(dir)?;
    let key = LogKey::load_or_make(&options.key, &options.origin)?;
    let verifier = key.verifier().clone();
    keep_verifier(&*disk, dir, &verifier)?;
    make_inner_folders(&*disk, dir)?;

    let covered = read_checkpoint(dir, &verifier)?;
    let size = covered.as_ref().map_or(0, Checkpoint::size);
    let had_journal = dir.join(FOLDER).is_dir();
    if covered.is_some() && !had_journal {
        let what = "it is missing, and with it the records since the checkpoint. If there were none, \
                    make an empty folder of this name";
        return Err(AuditError::damaged(FOLDER, what));
    }
    let (edge, tail_bundle) = match &covered {
        Some(checkpoint) => check_covered(dir, checkpoint)?,
        None => (Edge::default(), Vec::new()),
    };
    let tail = Tail::read(dir, size).map_err(AuditError::io(&dir.join(FOLDER)))?;
    if let Some(damage) = tail.damage.first() {
        return Err(AuditError::Damaged(damage.clone()));
    }
    if covered.is_none() && tail.segments.is_empty() && dir.join("tile").exists() {
        return Err(AuditError::damaged(
            CHECKPOINT,
            "it is missing, but there are tiles",
        ));
    }
    let begun = covered.is_none() && tail.end == 0;
    // Before the first checkpoint: from then on, a log without this folder has lost it.
    disk.make_dir(&dir.join(FOLDER))
        .map_err(AuditError::io(dir))?;
    disk.sync_dir(dir).map_err(AuditError::io(dir))?;

    let mut publisher = Publisher::new(Arc::clone(&disk), dir, key, edge, tail_bundle);
    let checkpoint = match covered {
        Some(checkpoint) if checkpoint.size() == tail.end => checkpoint,
        _ => publisher.catch_up(&tail.segments, tail.end)?,
    };
    remove_old_partials(&publisher, tail.end);

    // The checkpoint covers the whole journal now, so a new one begins.
    let number = tail.number.saturating_add(1);
    let (segment_writer, segment) =
        SegmentWriter::create(&*disk, dir, number, tail.end, options.ahead_bytes)
            .map_err(AuditError::io(&dir.join(FOLDER)))?;
    for (_, path) in crate::journal::list(dir)
        .map_err(AuditError::io(dir))?
        .unwrap_or_default()
    {
        if path != segment.path() {
            disk.remove(&path).map_err(AuditError::io(&path))?;
        }
    }

    let recovery = Recovery {
        records: tail.end,
        from_journal: tail.end - size,
        torn_bytes: tail.torn,
        begun,
    };
    let shared = Arc::new(Shared::new(
        &options,
        tail.end,
        Arc::new(segment),
        checkpoint,
    ));
    let writer = Writer {
        shared: Arc::clone(&shared),
        disk,
        dir: dir.to_owned(),
        options: Arc::clone(&options),
        segment: Some(segment_writer),
        number,
        next: tail.end,
    };
    publisher.forget_recovery();
    start("audit-writer", move || writer.run())?;
    let publishing = Arc::clone(&shared);
    start("audit-publisher", move || {
        publisher.run(&publishing, &options, lock)
    })?;
    Ok(Opened {
        shared,
        verifier,
        recovery,
    })
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), AuditError> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map(drop).map_err(AuditError::io(Path::new(name)))
}

fn make_folder(disk: &dyn Disk, dir: &Path) -> Result<(), AuditError> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(dir)
        .map_err(AuditError::io(dir))?;
    let parent = match dir.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    disk.sync_dir(parent).map_err(AuditError::io(parent))
}

fn make_inner_folders(disk: &dyn Disk, dir: &Path) -> Result<(), AuditError> {
    let unfinished = dir.join(UNFINISHED);
    disk.make_dir(&unfinished)
        .map_err(AuditError::io(&unfinished))?;
    for file in std::fs::read_dir(&unfinished).map_err(AuditError::io(&unfinished))? {
        let path = file.map_err(AuditError::io(&unfinished))?.path();
        disk.remove(&path).map_err(AuditError::io(&path))?;
    }
    Ok(())
}

/// Keeps every other process from writing, for as long as the file is open.
fn lock(dir: &Path) -> Result<File, AuditError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o640)
        .open(&path)
        .map_err(AuditError::io(&path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(AuditError::Locked { path }),
        Err(error) => Err(AuditError::io(&path)(error.into())),
    }
}

/// Writes the verifier key for others to read, or checks that the log is this key's.
fn keep_verifier(disk: &dyn Disk, dir: &Path, verifier: &VerifierKey) -> Result<(), AuditError> {
    let path = dir.join(VERIFIER);
    let expected = verifier.to_string();
    match std::fs::read_to_string(&path) {
        Ok(found) if found.trim_end() == expected => Ok(()),
        // A crash before the very first record may have left an incomplete one.
        Ok(found) if dir.join(CHECKPOINT).exists() || dir.join(FOLDER).exists() => {
            Err(AuditError::OtherKey {
                path,
                found: found.trim_end().chars().take(300).collect(),
                expected,
            })
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(AuditError::io(&path)(error)),
        _ => std::fs::write(&path, format!("{expected}\n"))
            .and_then(|()| File::open(&path)?.sync_all())
            .and_then(|()| disk.sync_dir(dir))
            .map_err(AuditError::io(&path)),
    }
}

fn read_checkpoint(dir: &Path, verifier: &VerifierKey) -> Result<Option<Checkpoint>, AuditError> {
    let path: PathBuf = dir.join(CHECKPOINT);
    let note = match std::fs::read_to_string(&path) {
        Ok(note) => note,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(AuditError::damaged(CHECKPOINT, "it is not UTF-8"));
        }
        Err(error) => return Err(AuditError::io(&path)(error)),
    };
    Checkpoint::verify(&note, verifier)
        .map(Some)
        .map_err(|error| AuditError::damaged(CHECKPOINT, error.to_string()))
}

/// Checks the newest part of what the checkpoint covers, and gives what is needed to go on from there.
fn check_covered(dir: &Path, checkpoint: &Checkpoint) -> Result<(Edge, Vec<u8>), AuditError> {
    let size = checkpoint.size();
    let stored = Stored::new(dir);
    let mut problems = Problems::default();
    TreeCheck::new(&stored, size, checkpoint.root(), &mut problems)
        .from(size.saturating_sub(RECHECKED))
        .run(&mut |_| {});
    if let Some(problem) = problems.into_list().into_iter().next() {
        return Err(AuditError::damaged(
            problem.file.clone(),
            problem.in_words(),
        ));
    }
    let levels = stored.edge(size).into_iter().collect::<Result<Vec<_>, _>>();
    let edge = levels
        .map_err(AuditError::Damaged)
        .map(|levels| Edge::from_levels(size, levels))?
        .filter(|edge| edge.root() == checkpoint.root())
        .ok_or_else(|| {
            AuditError::damaged("tile", "its right edge does not belong to the checkpoint")
        })?;
    let mut tail_bundle = Vec::new();
    if let Some(tile) = Tile::in_tree(Kind::Entries, size / WIDTH, size) {
        for record in stored.records(tile).map_err(AuditError::Damaged)? {
            bundle::push(&mut tail_bundle, &record);
        }
    }
    Ok((edge, tail_bundle))
}

/// A crash may have kept the incomplete forms of the last full tiles from being removed.
fn remove_old_partials(publisher: &Publisher, size: u64) {
    let mut count = size;
    for level in 0..Edge::levels(size) {
        if let Some(n) = (count / WIDTH).checked_sub(1) {
            publisher.remove_partials(Tile::full(Kind::Hashes(level), n));
            if level == 0 {
                publisher.remove_partials(Tile::full(Kind::Entries, n));
            }
        }
        count /= WIDTH;
    }
}
