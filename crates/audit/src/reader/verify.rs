//! Verifying a whole log.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::tree_check::TreeCheck;
use super::{Problem, Problems, Reader};
use crate::checkpoint::Checkpoint;
use crate::error::{AuditError, Damage};
use crate::hash::Hash;
use crate::publisher::CHECKPOINT;
use crate::tile::{HEIGHT, Kind, Tile};

/// What verification found.
#[derive(Debug)]
pub struct Report {
    /// How many records the log has.
    pub size: u64,
    /// How many of them the checkpoint covers.
    pub covered: u64,
    /// The root hash of the checkpoint.
    pub root: Option<Hash>,
    /// The checkpoint, if the log's key has signed it.
    pub checkpoint: Option<Checkpoint>,
    /// Everything that is not as it was written.
    pub problems: Vec<Problem>,
    /// How many problems there are beyond those listed.
    pub more_problems: u64,
    /// Bytes at the end of the journal that are no complete record: one is being written, or a crash
    /// tore it and the next start will drop it. That is no problem.
    pub unfinished_bytes: u64,
}

impl Report {
    /// Whether the log is as it was written.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Reader {
    /// Recomputes the whole log from its records, and compares it with its tiles, its checkpoint, the
    /// signature, the journal, and a checkpoint that was kept elsewhere: what was kept must still be in
    /// the log. `progress` is told how many of how many records are done.
    ///
    /// # Errors
    /// When the log cannot be read at all. Whatever is wrong with it is in the report.
    pub fn verify(
        &self,
        kept: Option<&Checkpoint>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Report, AuditError> {
        // Listed first: what the writer adds meanwhile is then beyond the list, not beyond the log.
        let files = tile_files(&self.dir)?;
        let now = Self::open_with(&self.dir, self.key.clone())?;
        let mut problems = Problems::default();
        let (covered, size) = (now.covered(), now.size());
        match &now.checkpoint {
            Err(error) => problems.file(Damage {
                file: CHECKPOINT.to_owned(),
                what: error.to_string(),
            }),
            // A segment is made only after the first checkpoint.
            Ok(None) if !files.is_empty() || !now.tail.segments.is_empty() => {
                let what = "it is missing".to_owned();
                problems.file(Damage {
                    file: CHECKPOINT.to_owned(),
                    what,
                });
            }
            Ok(_) => {}
        }
        if let Some(checkpoint) = now.checkpoint() {
            TreeCheck::new(&now.stored, covered, checkpoint.root(), &mut problems)
                .run(&mut |done| progress(done, size));
        }
        if let Some(kept) = kept {
            now.check_kept(kept, &mut problems);
        }
        // Without a checkpoint nothing is known of the tiles, and each of them would be named.
        if now.checkpoint.is_ok() {
            now.check_files(&files, &mut problems);
            now.check_journal(&mut problems)?;
        }
        progress(size, size);
        Ok(Report {
            size,
            covered,
            root: now.checkpoint().map(Checkpoint::root),
            checkpoint: now.checkpoint().cloned(),
            unfinished_bytes: now.tail.torn,
            more_problems: problems.more(),
            problems: problems.into_list(),
        })
    }

    fn check_kept(&self, kept: &Checkpoint, problems: &mut Problems) {
        let what = match self.root(kept.size()) {
            _ if kept.origin() != self.key.name() => {
                format!(
                    "the kept checkpoint is of `{}`, not of this log",
                    kept.origin()
                )
            }
            Ok(root) if root == kept.root() => return,
            Ok(_) => format!(
                "the kept checkpoint over {} records does not belong to this log: it was rewritten",
                kept.size()
            ),
            Err(AuditError::NotCovered { index, size }) => {
                format!(
                    "the kept checkpoint has {index} records, this one only {size}: records were dropped"
                )
            }
            Err(error) => format!("the kept checkpoint cannot be compared: {error}"),
        };
        problems.file(Damage {
            file: CHECKPOINT.to_owned(),
            what,
        });
    }

    /// Names files among the tiles that do not belong there.
    fn check_files(&self, files: &BTreeSet<String>, problems: &mut Problems) {
        for file in files {
            let what = match Tile::parse(file) {
                None => Some("it is no file of a log".to_owned()),
                Some(tile) => self.foreign(tile),
            };
            if let Some(what) = what {
                problems.file(Damage {
                    file: file.clone(),
                    what,
                });
            }
        }
    }

    /// Why a tile does not belong to the log, if so.
    fn foreign(&self, tile: Tile) -> Option<String> {
        let height = match tile.kind {
            Kind::Hashes(level) if level >= 8 => return Some("no log is that large".to_owned()),
            Kind::Hashes(level) => HEIGHT * u32::from(level),
            Kind::Entries => 0,
        };
        if tile.end() > self.size() >> height {
            return Some(format!(
                "it goes beyond the {} records of the log",
                self.size()
            ));
        }
        // Older, shorter forms of a tile must be its beginning; the others are compared with the records.
        let now = Tile::in_tree(tile.kind, tile.n, self.covered() >> height)?;
        if tile.width >= now.width {
            return None;
        }
        let older = self
            .stored
            .content(tile)
            .ok()
            .filter(|content| content.exact)?;
        let whole = match tile.kind {
            Kind::Hashes(_) => self.stored.hashes(tile).map(drop),
            Kind::Entries => self.stored.records(tile).map(drop),
        };
        if let Err(damage) = whole {
            return Some(damage.what);
        }
        let newer = self.stored.content(now).ok()?;
        (!newer.bytes.starts_with(&older.bytes))
            .then(|| format!("it is not the beginning of {}", newer.file))
    }

    /// Checks the records beyond the checkpoint, and that those before are the same as in the tiles.
    fn check_journal(&self, problems: &mut Problems) -> Result<(), AuditError> {
        for damage in &self.tail.damage {
            problems.file(damage.clone());
        }
        if !self.tail.exists {
            let what = "it is missing, and with it the records since the checkpoint".to_owned();
            problems.file(Damage {
                file: "journal".to_owned(),
                what,
            });
        }
        let Some(first) = self.tail.segments.iter().map(|segment| segment.base).min() else {
            return Ok(());
        };
        let covered = self.covered();
        let mut node = self.stored.nodes(covered);
        let mut cursor = self.tail.cursor(first);
        while cursor.next() < covered {
            let frame = cursor
                .read(&self.tail.segments)
                .map_err(AuditError::io(&self.dir))?;
            let Some(frame) = frame else { return Ok(()) };
            for (index, record) in (frame.first..covered).zip(&frame.records) {
                // Tiles that cannot be read or were changed are named elsewhere.
                if node(0, index).is_ok_and(|hash| hash != Hash::of_leaf(record))
                    && self
                        .bundle(index, index + 1)
                        .is_ok_and(|there| there != [&record[..]])
                {
                    problems.record(
                        index,
                        "journal".to_owned(),
                        "it is another one than in the tiles",
                    );
                }
            }
        }
        Ok(())
    }
}

/// The files among the tiles, relative to the log's folder.
fn tile_files(dir: &Path) -> Result<BTreeSet<String>, AuditError> {
    let mut files = BTreeSet::new();
    let mut folders = vec!["tile".to_owned()];
    while let Some(folder) = folders.pop() {
        let path = dir.join(&folder);
        let list = match std::fs::read_dir(&path) {
            // The writer removes what is not needed any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            list => list.map_err(AuditError::io(&path))?,
        };
        for entry in list {
            let entry = entry.map_err(AuditError::io(&path))?;
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            match entry.file_type().map_err(AuditError::io(&path))?.is_dir() {
                true => folders.push(name),
                false => {
                    files.insert(name);
                }
            }
        }
    }
    Ok(files)
}
