//! What the journal holds beyond the checkpoint.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::Damage;
use crate::journal::{self, Cursor, HEADER, Opened, Segment, Step};

/// How far apart marks are, in bytes of a segment.
const MARK_EVERY: u64 = 64 * 1024;

/// The journal as it was found.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    pub(crate) segments: Vec<Arc<Segment>>,
    marks: Vec<Mark>,
    /// The index after that of the last record.
    pub(crate) end: u64,
    /// Bytes at the end that are no complete frame: a crash tore them, or they are being written.
    pub(crate) torn: u64,
    /// Records that the journal should have, and has not.
    pub(crate) damage: Vec<Damage>,
    /// The highest number of a file in the folder.
    pub(crate) number: u64,
    /// Whether there is a folder at all.
    pub(crate) exists: bool,
}

/// Where a frame begins.
#[derive(Debug)]
struct Mark {
    first: u64,
    offset: u64,
    segment: usize,
}

impl Tail {
    /// Reads the journal of a log whose checkpoint covers `covered` records. What is wrong with parts
    /// that the checkpoint covers does no harm, and is not reported.
    pub(crate) fn read(dir: &Path, covered: u64) -> io::Result<Self> {
        let mut tail = Self {
            end: covered,
            ..Self::default()
        };
        let Some(files) = journal::list(dir)? else {
            return Ok(tail);
        };
        tail.exists = true;
        tail.number = files.last().map_or(0, |(number, _)| *number);
        let mut headless: Option<(String, u64)> = None;
        for (number, path) in files {
            let name = journal::relative(&path);
            match Segment::open(path, number)? {
                Opened::Segment(segment) => {
                    // What is in a file without a header is harmless if the next one begins early enough:
                    // `follow` says so by finding no gap.
                    headless = None;
                    tail.segments.push(Arc::new(segment));
                }
                // A crash while it was made; nothing was acknowledged from it.
                Opened::NoHeader(length) if length <= HEADER => tail.torn += length,
                Opened::NoHeader(length) => headless = Some((name, length)),
            }
        }
        tail.follow(covered)?;
        if let Some((name, length)) = headless {
            let what = format!("its header was changed; {length} bytes of records cannot be read");
            tail.damage.push(Damage { file: name, what });
        }
        Ok(tail)
    }

    fn follow(&mut self, covered: u64) -> io::Result<()> {
        let mut at = covered;
        let segments = self.segments.clone();
        for (number, segment) in segments.iter().enumerate() {
            let limit = segments.get(number + 1).map_or(u64::MAX, |next| next.base);
            self.note_gap(segment, at.max(covered), segment.base);
            at = segment.base;
            let mut offset = HEADER;
            let mut marked = None;
            while at < limit {
                let frame = match segment.at(offset)? {
                    Step::Frame(frame) => frame,
                    Step::End => break,
                    Step::Bad => match segment.resync(offset)? {
                        Some(frame) => frame,
                        None => {
                            self.torn += segment.content_length()?.saturating_sub(offset);
                            break;
                        }
                    },
                };
                self.note_gap(segment, at.max(covered), frame.first);
                if marked.is_none_or(|marked| frame.start >= marked + MARK_EVERY) {
                    marked = Some(frame.start);
                    self.marks.push(Mark {
                        first: frame.first,
                        offset: frame.start,
                        segment: number,
                    });
                }
                at = frame.next();
                offset = frame.end;
            }
            at = at.min(limit);
        }
        self.end = at.max(covered);
        Ok(())
    }

    fn note_gap(&mut self, segment: &Segment, from: u64, to: u64) {
        if from < to {
            let what = match to - from {
                1 => format!("record {from} is damaged or missing"),
                _ => format!("records {from} to {} are damaged or missing", to - 1),
            };
            self.damage.push(Damage {
                file: segment.name(),
                what,
            });
        }
    }

    /// Reads from a record on.
    pub(crate) fn cursor(&self, next: u64) -> Cursor {
        // The segment that has precedence for this record; a mark of another one leads astray.
        let segment = self
            .segments
            .iter()
            .rposition(|segment| segment.base <= next);
        let mark = self
            .marks
            .iter()
            .rev()
            .find(|mark| Some(mark.segment) == segment && mark.first <= next);
        match mark {
            Some(mark) => Cursor::near(next, Arc::clone(&self.segments[mark.segment]), mark.offset),
            None => Cursor::at(next),
        }
    }
}
