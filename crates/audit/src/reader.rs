//! Reading a log, also while another process writes it.

mod problem;
mod query;
#[cfg(test)]
mod tests;
pub(crate) mod tree_check;
mod verify;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::checkpoint::Checkpoint;
use crate::error::{AuditError, Damage};
use crate::hash::Hash;
use crate::journal::Cursor;
use crate::note::{NoteError, VerifierKey};
use crate::proof::{self, InclusionProof};
use crate::publisher::CHECKPOINT;
use crate::recovery::VERIFIER;
use crate::scan::Tail;
use crate::stored::Stored;
use crate::tile::{Kind, Tile, WIDTH};

pub use problem::Problem;
pub(crate) use problem::Problems;
pub use verify::Report;

/// How often looking at a log is tried again when the writer publishes at the same moment.
const TRIES: usize = 100;
/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(100);

/// A log as it was when it was looked at: a view that does not change until [`Reader::refresh`].
///
/// It contains the records that the journal has beyond the last checkpoint. A record whose `append`
/// has not returned yet may be among them.
pub struct Reader {
    dir: PathBuf,
    stored: Stored,
    key: VerifierKey,
    checkpoint: Result<Option<Checkpoint>, NoteError>,
    tail: Tail,
}

impl Reader {
    /// Opens a log, and takes its verifier key from its folder: what is verified then is that the log
    /// is in itself consistent. Use [`Reader::open_with`] to find out whether it is the right log.
    ///
    /// # Errors
    /// When the folder is no log, or cannot be read.
    pub fn open(dir: &Path) -> Result<Self, AuditError> {
        let path = dir.join(VERIFIER);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(AuditError::NotALog(dir.to_owned()));
            }
            read => read.map_err(AuditError::io(&path))?,
        };
        Self::open_with(dir, text.trim_end().parse()?)
    }

    /// Opens a log whose verifier key is known from elsewhere.
    ///
    /// # Errors
    /// When the folder is no log, or cannot be read.
    pub fn open_with(dir: &Path, key: VerifierKey) -> Result<Self, AuditError> {
        let (checkpoint, tail) = look(dir, &key)?;
        if checkpoint == Ok(None) && !tail.exists {
            return Err(AuditError::NotALog(dir.to_owned()));
        }
        Ok(Self {
            dir: dir.to_owned(),
            stored: Stored::new(dir),
            key,
            checkpoint,
            tail,
        })
    }

    /// Looks at the log anew; its size now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn refresh(&mut self) -> Result<u64, AuditError> {
        (self.checkpoint, self.tail) = look(&self.dir, &self.key)?;
        Ok(self.size())
    }

    /// Waits until the log has more records than `seen`, at most for a time; its size then. Blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn wait(&mut self, seen: u64, most: Duration) -> Result<u64, AuditError> {
        let until = Instant::now() + most;
        loop {
            let size = self.refresh()?;
            let rest = until.saturating_duration_since(Instant::now());
            if size > seen || rest.is_zero() {
                return Ok(size);
            }
            std::thread::sleep(POLL.min(rest));
        }
    }

    /// How many records the log has, with those that no checkpoint covers yet.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tail.end
    }

    /// The last checkpoint, if there is one and the log's key has signed it.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref().ok()?.as_ref()
    }

    /// The verifier key that is used.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.key
    }

    fn covered(&self) -> u64 {
        self.checkpoint().map_or(0, Checkpoint::size)
    }

    /// Records with their indices, in order, as they are on the disk; [`Reader::verify`] tells whether
    /// they are as they were written. After an error there is nothing more.
    #[must_use]
    pub fn entries(&self, range: Range<u64>) -> Entries<'_> {
        let end = range.end.min(self.size());
        Entries {
            reader: self,
            next: range.start,
            end,
            ready: VecDeque::new(),
            cursor: None,
        }
    }

    /// The newest `count` records.
    #[must_use]
    pub fn last(&self, count: u64) -> Entries<'_> {
        self.entries(self.size().saturating_sub(count)..self.size())
    }

    /// Proves that a record is in the log; the proof's text form is C2SP tlog-proof.
    ///
    /// # Errors
    /// When no checkpoint covers the record yet, or the tiles cannot be read.
    pub fn prove(&self, index: u64) -> Result<InclusionProof, AuditError> {
        let size = self.covered();
        let Some(checkpoint) = self.checkpoint().filter(|_| index < size) else {
            return Err(AuditError::NotCovered { index, size });
        };
        let path = proof::inclusion(index, size, &mut self.stored.nodes(size));
        let path = path.map_err(AuditError::Damaged)?;
        Ok(InclusionProof {
            index,
            path,
            checkpoint: checkpoint.note().to_owned(),
        })
    }

    /// Proves that the log's tree of size `old` is the beginning of that of size `new`; to be checked
    /// with [`crate::check_consistency`].
    ///
    /// # Errors
    /// When `old` is above `new` or `new` above the checkpoint, or the tiles cannot be read.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, AuditError> {
        let size = self.covered();
        if let Some(beyond) = [(old, new), (new, size)]
            .iter()
            .find(|(low, high)| low > high)
        {
            return Err(AuditError::NotCovered {
                index: beyond.0,
                size: beyond.1,
            });
        }
        proof::consistency(old, new, &mut self.stored.nodes(size)).map_err(AuditError::Damaged)
    }

    /// The root hash of the log's first `size` records.
    ///
    /// # Errors
    /// When the checkpoint covers fewer, or the tiles cannot be read.
    pub fn root(&self, size: u64) -> Result<Hash, AuditError> {
        let covered = self.covered();
        if size > covered {
            return Err(AuditError::NotCovered {
                index: size,
                size: covered,
            });
        }
        proof::root(0..size, &mut self.stored.nodes(covered)).map_err(AuditError::Damaged)
    }

    /// The records of a bundle, from one on.
    fn bundle(&self, first: u64, end: u64) -> Result<VecDeque<Bytes>, Damage> {
        let n = first / WIDTH;
        let Some(tile) = Tile::in_tree(Kind::Entries, n, self.covered()) else {
            return Ok(VecDeque::new());
        };
        let records = self.stored.records(tile)?;
        let skip = (first - n * WIDTH) as usize;
        Ok(records
            .into_iter()
            .skip(skip)
            .take((end - first) as usize)
            .collect())
    }
}

/// A checkpoint and the journal beyond it, of the same moment.
fn look(
    dir: &Path,
    key: &VerifierKey,
) -> Result<(Result<Option<Checkpoint>, NoteError>, Tail), AuditError> {
    let path = dir.join(CHECKPOINT);
    let mut before = read_note(&path)?;
    // The writer is at work meanwhile. Damage stays; what is gone at a second look was only being
    // written.
    let mut damage = None;
    for _ in 0..TRIES {
        let checkpoint = match &before {
            None => Ok(None),
            Some(note) => match std::str::from_utf8(note) {
                Ok(note) => Checkpoint::verify(note, key).map(Some),
                Err(_) => Err(NoteError::Malformed("it is not UTF-8")),
            },
        };
        let covered = checkpoint
            .as_ref()
            .ok()
            .and_then(Option::as_ref)
            .map_or(0, Checkpoint::size);
        let tail = Tail::read(dir, covered);
        let after = read_note(&path)?;
        match tail {
            // A new checkpoint means that segments may have been dropped meanwhile.
            Ok(tail) if after == before => {
                if tail.damage.is_empty() || damage.as_ref() == Some(&tail.damage) {
                    return Ok((checkpoint, tail));
                }
                damage = Some(tail.damage);
            }
            Err(error) if after == before && error.kind() != io::ErrorKind::NotFound => {
                return Err(AuditError::io(dir)(error));
            }
            _ => before = after,
        }
    }
    Err(AuditError::io(dir)(io::Error::new(
        io::ErrorKind::Interrupted,
        "the log changes faster than it can be read",
    )))
}

fn read_note(path: &Path) -> Result<Option<Vec<u8>>, AuditError> {
    match std::fs::read(path) {
        Ok(note) => Ok(Some(note)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(AuditError::io(path)(error)),
    }
}

/// Records with their indices, in order.
pub struct Entries<'a> {
    reader: &'a Reader,
    next: u64,
    end: u64,
    ready: VecDeque<Bytes>,
    cursor: Option<Cursor>,
}

impl Entries<'_> {
    fn fill(&mut self) -> Result<(), AuditError> {
        let reader = self.reader;
        if self.next < reader.covered() {
            self.ready = reader
                .bundle(self.next, self.end)
                .map_err(AuditError::Damaged)?;
        } else {
            let cursor = self
                .cursor
                .get_or_insert_with(|| reader.tail.cursor(self.next));
            let frame = cursor
                .read(&reader.tail.segments)
                .map_err(AuditError::io(&reader.dir))?;
            self.ready = frame.map(|frame| frame.records.into()).unwrap_or_default();
        }
        match self.ready.is_empty() {
            true => Err(AuditError::damaged(
                "journal",
                format!("record {} cannot be read", self.next),
            )),
            false => Ok(()),
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<(u64, Bytes), AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        if self.ready.is_empty()
            && let Err(error) = self.fill()
        {
            self.end = self.next;
            return Some(Err(error));
        }
        let record = self.ready.pop_front()?;
        self.next += 1;
        Some(Ok((self.next - 1, record)))
    }
}
