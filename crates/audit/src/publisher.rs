//! The publisher thread: puts durable records into tiles and bundles, signs a checkpoint over them,
//! and drops the journal that is not needed any more.
//!
//! Everything is written beside its place, synced, and renamed; then the folders are synced; only
//! then the checkpoint is written in the same way, and only after that segments are dropped. So at any
//! moment the checkpoint on the disk is covered by tiles on the disk, and everything beyond it by the
//! journal. A failure anywhere leaves this state as it was, and the whole step is repeated.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::bundle;
use crate::checkpoint::Checkpoint;
use crate::disk::Disk;
use crate::error::AuditError;
use crate::hash::Hash;
use crate::journal::{Cursor, Segment};
use crate::key::LogKey;
use crate::log::{Options, Shared};
use crate::tile::{Kind, Tile, WIDTH};
use crate::tree::Edge;

/// The folder of files that are not complete yet.
pub(crate) const UNFINISHED: &str = "tmp";
/// The file of the checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// Most folders that are remembered as durable.
const MOST_FOLDERS: usize = 4096;

/// How long to sleep when there is nothing to do; news ends it earlier.
const IDLE: Duration = Duration::from_secs(3600);

/// Tells, however the thread ends, that it has, after the log is let go of.
struct Ended<'a> {
    shared: &'a Shared,
    lock: Option<File>,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        drop(self.lock.take());
        self.shared.end();
    }
}

/// Writes tiles and checkpoints.
pub(crate) struct Publisher {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    key: LogKey,
    done: Progress,
    /// Folders that are known to survive a crash.
    folders: HashSet<PathBuf>,
    unfinished: u64,
}

/// How far the tiles go.
#[derive(Clone)]
pub(crate) struct Progress {
    pub(crate) edge: Edge,
    /// The records of the incomplete bundle, encoded.
    pub(crate) bundle: Vec<u8>,
    pub(crate) cursor: Cursor,
    /// Journal bytes that were read.
    bytes: u64,
}

impl Publisher {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        key: LogKey,
        edge: Edge,
        bundle: Vec<u8>,
    ) -> Self {
        let cursor = Cursor::at(edge.size());
        let done = Progress {
            edge,
            bundle,
            cursor,
            bytes: 0,
        };
        Self {
            disk,
            dir: dir.to_owned(),
            key,
            done,
            folders: HashSet::new(),
            unfinished: 0,
        }
    }

    /// Begins to count journal bytes: what was read until now is no part of the running journal.
    pub(crate) fn forget_recovery(&mut self) {
        self.done.bytes = 0;
        self.done.cursor = Cursor::at(self.size());
    }

    /// How many records the last checkpoint covers.
    pub(crate) fn size(&self) -> u64 {
        self.done.edge.size()
    }

    /// Runs until everything is written, then lets go of the log's lock.
    pub(crate) fn run(mut self, shared: &Shared, options: &Options, lock: File) {
        let _ended = Ended {
            shared,
            lock: Some(lock),
        };
        let mut last: Option<Instant> = None;
        let mut delay = options.retry_first;
        loop {
            let finished = shared.has_finished_writing();
            let durable = shared.durable();
            let waiting = durable - self.size();
            if waiting == 0 {
                if finished {
                    return;
                }
                shared.wait_for_records(durable + 1, IDLE);
                continue;
            }
            let rest = last.and_then(|last| options.publish_every.checked_sub(last.elapsed()));
            if let Some(rest) = rest.filter(|_| waiting < options.publish_records && !finished) {
                shared.wait_for_records(self.size() + options.publish_records, rest);
                continue;
            }
            match self.publish(shared, durable) {
                Ok(()) => {
                    delay = options.retry_first;
                    shared.set_publishing_fault(None);
                }
                Err(error) => {
                    tracing::error!(%error, "tiles and checkpoint of the audit log cannot be written");
                    shared.set_publishing_fault(Some(error.to_string()));
                    if finished {
                        return;
                    }
                    shared.wait_for_records(u64::MAX, delay);
                    delay = (delay * 2).min(options.retry_most);
                }
            }
            last = Some(Instant::now());
        }
    }

    fn publish(&mut self, shared: &Shared, durable: u64) -> Result<(), AuditError> {
        let segments = shared.segments.lock().clone();
        let checkpoint = self.catch_up(&segments, durable)?;
        let covered = checkpoint.size();
        shared.set_checkpoint(checkpoint);
        shared.consumed.store(self.done.bytes, Ordering::Relaxed);
        let mut segments = shared.segments.lock();
        let needless = segments
            .iter()
            .skip(1)
            .take_while(|later| later.base <= covered)
            .count();
        for segment in segments.drain(..needless) {
            if let Err(error) = self.disk.remove(segment.path()) {
                tracing::warn!(%error, segment = segment.name(), "a journal segment cannot be removed");
            }
        }
        Ok(())
    }

    /// Writes the tiles of all records up to `durable`, and a checkpoint over them.
    pub(crate) fn catch_up(
        &mut self,
        segments: &[Arc<Segment>],
        durable: u64,
    ) -> Result<Checkpoint, AuditError> {
        let mut next = self.done.clone();
        let mut touched = HashSet::new();
        let mut full = Vec::new();
        while next.edge.size() < durable {
            let size = next.edge.size();
            let missing =
                || AuditError::damaged("journal", format!("record {size} cannot be read"));
            let frame = next
                .cursor
                .read(segments)
                .map_err(AuditError::io(&self.dir))?;
            let frame = frame.ok_or_else(missing)?;
            next.bytes += frame.end - frame.start;
            for record in frame.records {
                let mut tiles = Vec::new();
                next.edge.push(Hash::of_leaf(&record), |tile, hashes| {
                    tiles.push((tile, hashes))
                });
                bundle::push(&mut next.bundle, &record);
                if next.edge.size().is_multiple_of(WIDTH) {
                    let tile = Tile::full(Kind::Entries, next.edge.size() / WIDTH - 1);
                    self.place_tile(tile, &next.bundle, &mut touched)?;
                    next.bundle.clear();
                    full.push(tile);
                }
                for (tile, hashes) in tiles {
                    self.place_tile(tile, &Hash::flatten(&hashes), &mut touched)?;
                    full.push(tile);
                }
            }
        }
        for (tile, hashes) in next.edge.partial() {
            self.place_tile(tile, &Hash::flatten(hashes), &mut touched)?;
        }
        let size = next.edge.size();
        if let Some(tile) = Tile::in_tree(Kind::Entries, size / WIDTH, size) {
            self.place_tile(tile, &next.bundle, &mut touched)?;
        }
        self.sync(touched)?;
        let checkpoint = Checkpoint::sign(size, next.edge.root(), &self.key);
        let path = self.dir.join(CHECKPOINT);
        self.place(&path, checkpoint.note().as_bytes())
            .and_then(|()| self.disk.sync_dir(&self.dir))
            .map_err(AuditError::io(&path))?;
        self.done = next;
        full.iter().for_each(|tile| self.remove_partials(*tile));
        Ok(checkpoint)
    }

    /// Removes the incomplete forms of a tile that is complete and durable now.
    pub(crate) fn remove_partials(&self, tile: Tile) {
        let folder = self.dir.join(tile.partials());
        let Ok(files) = std::fs::read_dir(&folder) else {
            return;
        };
        for file in files.flatten() {
            // What stays takes up room, and does no other harm.
            let _ = self.disk.remove(&file.path());
        }
        let _ = self.disk.remove_dir(&folder);
    }

    fn place_tile(
        &mut self,
        tile: Tile,
        bytes: &[u8],
        touched: &mut HashSet<PathBuf>,
    ) -> Result<(), AuditError> {
        let path = self.dir.join(tile.path());
        let mut folder = path.parent();
        let mut missing = Vec::new();
        while let Some(at) = folder.filter(|at| *at != self.dir && !self.folders.contains(*at)) {
            missing.push(at.to_owned());
            folder = at.parent();
        }
        for folder in missing.into_iter().rev() {
            self.disk
                .make_dir(&folder)
                .map_err(AuditError::io(&folder))?;
            // A folder survives a crash only with its name in the folder above.
            touched.extend(folder.parent().map(Path::to_owned));
            touched.insert(folder);
        }
        touched.extend(path.parent().map(Path::to_owned));
        self.place(&path, bytes).map_err(AuditError::io(&path))
    }

    /// Puts a whole file in its place, or leaves the place as it was.
    fn place(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.unfinished += 1;
        let unfinished = self.dir.join(UNFINISHED).join(self.unfinished.to_string());
        let placed = self.disk.create(&unfinished).and_then(|mut file| {
            file.append(bytes)?;
            file.sync()?;
            self.disk.rename(&unfinished, path)
        });
        if placed.is_err() {
            // The next start empties the folder anyway.
            let _ = self.disk.remove(&unfinished);
        }
        placed
    }

    fn sync(&mut self, touched: HashSet<PathBuf>) -> Result<(), AuditError> {
        for folder in &touched {
            self.disk.sync_dir(folder).map_err(AuditError::io(folder))?;
        }
        if self.folders.len() > MOST_FOLDERS {
            self.folders.clear();
        }
        self.folders
            .extend(touched.into_iter().filter(|folder| *folder != self.dir));
        Ok(())
    }
}
