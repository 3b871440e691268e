//! The journal: segments of frames, one frame for each group of records that became durable together.
//!
//! A segment is a header and then frames. A new segment is begun when one is large, after a failed
//! write (what the old file holds is not to be trusted then), and at each start. A segment says with
//! which record it begins, and takes precedence over what earlier segments hold from there on.
//!
//! | header, 48 bytes | | frame | |
//! | --- | --- | --- | --- |
//! | magic | 8 | marker: the nonce's first 8 bytes | 8 |
//! | index of the first record | 8 | length of the body, number of records | 4 + 4 |
//! | nonce | 16 | index of the first record | 8 |
//! | digest of the above | 16 | body: an entry bundle | |
//! | | | digest of the nonce and the above | 16 |
//!
//! Numbers are big-endian; digests are the first half of SHA-256. The nonce is random, so that no
//! content of a record can pass for a frame. After the last frame there may be zeros: room for more.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};

use crate::bundle;
use crate::disk::{Disk, DiskFile};

/// The folder of the segments.
pub(crate) const FOLDER: &str = "journal";
const SUFFIX: &str = ".journal";
const MAGIC: &[u8; 8] = b"tlogjnl1";
/// Bytes before the first frame.
pub(crate) const HEADER: u64 = 48;
const FRAME_HEADER: usize = 24;
const DIGEST: usize = 16;
/// Longest body of a frame, in bytes; the writer's groups are smaller.
const LONGEST_BODY: usize = 32 << 20;

fn digest(parts: &[&[u8]]) -> [u8; DIGEST] {
    let hash = parts
        .iter()
        .fold(Sha256::new(), |hash, part| hash.chain_update(part))
        .finalize();
    let mut half = [0; DIGEST];
    half.copy_from_slice(&hash[..DIGEST]);
    half
}

/// The segment that is written.
pub(crate) struct SegmentWriter {
    file: Box<dyn DiskFile>,
    nonce: [u8; 16],
    length: u64,
    /// Up to where there are zeros to replace.
    reserved: u64,
    /// How far ahead zeros are written.
    ahead: u64,
    frame: Vec<u8>,
}

impl SegmentWriter {
    /// Begins a segment. When this returns, the segment survives a crash.
    pub(crate) fn create(
        disk: &dyn Disk,
        dir: &Path,
        number: u64,
        base: u64,
        ahead: u64,
    ) -> io::Result<(Self, Segment)> {
        let folder = dir.join(FOLDER);
        let path = folder.join(format!("{number:020}{SUFFIX}"));
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let mut header = Vec::with_capacity(HEADER as usize);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&base.to_be_bytes());
        header.extend_from_slice(&nonce);
        header.extend_from_slice(&digest(&[&header]));
        let mut file = disk.create(&path)?;
        let begun = file
            .append(&header)
            .and_then(|()| file.reserve(ahead))
            .and_then(|()| file.sync())
            .and_then(|()| disk.sync_dir(&folder))
            .and_then(|()| File::open(&path));
        match begun {
            Ok(read) => {
                let segment = Segment {
                    number,
                    base,
                    nonce,
                    path,
                    file: read,
                };
                Ok((
                    Self {
                        file,
                        nonce,
                        length: HEADER,
                        reserved: HEADER + ahead,
                        ahead,
                        frame: Vec::new(),
                    },
                    segment,
                ))
            }
            Err(error) => {
                // An empty segment is harmless; it only takes up room.
                let _ = disk.remove(&path);
                Err(error)
            }
        }
    }

    /// Appends a frame and makes it durable. After an error the segment must not be written again.
    pub(crate) fn append<'a>(
        &mut self,
        first: u64,
        records: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> io::Result<u64> {
        let frame = &mut self.frame;
        frame.clear();
        frame.extend_from_slice(&self.nonce[..8]);
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(&(records.len() as u32).to_be_bytes());
        frame.extend_from_slice(&first.to_be_bytes());
        for record in records {
            bundle::push(frame, record);
        }
        let length = frame.len() - FRAME_HEADER;
        frame[8..12].copy_from_slice(&(length as u32).to_be_bytes());
        let sum = digest(&[&self.nonce, frame]);
        frame.extend_from_slice(&sum);
        self.file.append(frame)?;
        self.length += frame.len() as u64;
        if self.length > self.reserved {
            self.file.reserve(self.ahead)?;
            self.reserved = self.length + self.ahead;
        }
        self.file.sync()?;
        Ok(frame.len() as u64)
    }

    /// Its length so far, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }
}

/// A segment, to be read.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// The index of its first record.
    pub(crate) base: u64,
    nonce: [u8; 16],
    path: PathBuf,
    file: File,
}

/// Records that became durable together.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The index of the first record.
    pub(crate) first: u64,
    /// The records.
    pub(crate) records: Vec<Bytes>,
    /// Where the frame begins and ends in its segment.
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Frame {
    /// The index after that of the last record.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.records.len() as u64
    }
}

/// What there is at a place in a segment.
pub(crate) enum Step {
    Frame(Frame),
    /// Nothing: the segment ends here.
    End,
    /// Bytes that are no frame.
    Bad,
}

/// What a file in the journal's folder turned out to be.
pub(crate) enum Opened {
    Segment(Segment),
    /// It has no valid header; the length of what is in it, in bytes.
    NoHeader(u64),
}

impl Segment {
    pub(crate) fn open(path: PathBuf, number: u64) -> io::Result<Opened> {
        let file = File::open(&path)?;
        let mut header = [0; HEADER as usize];
        match file.read_exact_at(&mut header, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Opened::NoHeader(content_length(&file)?));
            }
            read => read?,
        }
        let (text, sum) = header.split_at(HEADER as usize - DIGEST);
        if &text[..8] != MAGIC || digest(&[text]) != *sum {
            return Ok(Opened::NoHeader(content_length(&file)?));
        }
        let base = (&text[8..16]).get_u64();
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&text[16..32]);
        Ok(Opened::Segment(Self {
            number,
            base,
            nonce,
            path,
            file,
        }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its path, relative to the log's folder.
    pub(crate) fn name(&self) -> String {
        relative(&self.path)
    }

    /// Its length in bytes, without zeros at its end.
    pub(crate) fn content_length(&self) -> io::Result<u64> {
        content_length(&self.file)
    }

    /// Reads what is at an offset.
    pub(crate) fn at(&self, start: u64) -> io::Result<Step> {
        let length = self.file.metadata()?.len();
        if start >= length {
            return Ok(Step::End);
        }
        let mut header = [0; FRAME_HEADER];
        if length - start < (FRAME_HEADER + DIGEST) as u64 {
            return self.end_or_bad(start);
        }
        self.file.read_exact_at(&mut header, start)?;
        if header == [0; FRAME_HEADER] {
            return self.end_or_bad(start);
        }
        let mut fields = &header[8..];
        let (body_length, count, first) = (
            fields.get_u32() as usize,
            fields.get_u32(),
            fields.get_u64(),
        );
        let end = start + (FRAME_HEADER + body_length + DIGEST) as u64;
        if header[..8] != self.nonce[..8] || body_length > LONGEST_BODY || end > length {
            return Ok(Step::Bad);
        }
        let mut body = vec![0; body_length + DIGEST];
        self.file
            .read_exact_at(&mut body, start + FRAME_HEADER as u64)?;
        let sum = digest(&[&self.nonce, &header, &body[..body_length]]);
        if body[body_length..] != sum {
            return Ok(Step::Bad);
        }
        body.truncate(body_length);
        let records: Option<Vec<Bytes>> = bundle::split(body.into()).collect();
        let overflow = first.checked_add(u64::from(count)).is_none();
        Ok(match records {
            Some(records)
                if records.len() == count as usize && !records.is_empty() && !overflow =>
            {
                Step::Frame(Frame {
                    first,
                    records,
                    start,
                    end,
                })
            }
            _ => Step::Bad,
        })
    }

    /// What it means that there is no frame at an offset: the end, if nothing but zeros follows.
    fn end_or_bad(&self, start: u64) -> io::Result<Step> {
        Ok(if self.content_length()? <= start {
            Step::End
        } else {
            Step::Bad
        })
    }

    /// The next valid frame after an offset where none is.
    pub(crate) fn resync(&self, after: u64) -> io::Result<Option<Frame>> {
        const CHUNK: usize = 1 << 20;
        let mut buffer = vec![0; CHUNK];
        let mut from = after + 1;
        loop {
            let mut filled = 0;
            while filled < CHUNK {
                match self
                    .file
                    .read_at(&mut buffer[filled..], from + filled as u64)?
                {
                    0 => break,
                    read => filled += read,
                }
            }
            for (at, window) in buffer[..filled].windows(8).enumerate() {
                if window == &self.nonce[..8]
                    && let Step::Frame(frame) = self.at(from + at as u64)?
                {
                    return Ok(Some(frame));
                }
            }
            if filled < CHUNK {
                return Ok(None);
            }
            from += (CHUNK - 7) as u64;
        }
    }
}

/// The length of a file without the zeros at its end.
fn content_length(file: &File) -> io::Result<u64> {
    let mut chunk = [0; 16 << 10];
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(chunk.len() as u64);
        let part = &mut chunk[..usize::try_from(end - start).unwrap_or(0)];
        match file.read_exact_at(part, start) {
            // It became shorter meanwhile.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                end = end.min(file.metadata()?.len());
                continue;
            }
            read => read?,
        }
        if let Some(last) = part.iter().rposition(|byte| *byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// A file of the journal, relative to the log's folder.
pub(crate) fn relative(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!("{FOLDER}/{name}")
}

/// The files in the journal's folder with their numbers, in order. `None` if there is no folder.
pub(crate) fn list(dir: &Path) -> io::Result<Option<Vec<(u64, PathBuf)>>> {
    let folder = match std::fs::read_dir(dir.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        folder => folder?,
    };
    let mut files = Vec::new();
    for entry in folder {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(SUFFIX)?.parse().ok());
        if let Some(number) = number {
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(Some(files))
}

/// Reads one record after the other, across segments.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cursor {
    segment: Option<Arc<Segment>>,
    offset: u64,
    next: u64,
}

impl Cursor {
    /// Begins at a record.
    pub(crate) fn at(next: u64) -> Self {
        Self {
            segment: None,
            offset: 0,
            next,
        }
    }

    /// Begins at a record, knowing where a frame is that is not after it.
    pub(crate) fn near(next: u64, segment: Arc<Segment>, offset: u64) -> Self {
        Self {
            segment: Some(segment),
            offset,
            next,
        }
    }

    /// The index of the record that comes next.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The next frame, without the records that come before; `None` at the end. `segments` are in
    /// order.
    pub(crate) fn read(&mut self, segments: &[Arc<Segment>]) -> io::Result<Option<Frame>> {
        loop {
            // The newest segment that begins early enough: it takes precedence.
            let Some(segment) = segments
                .iter()
                .rev()
                .find(|segment| segment.base <= self.next)
            else {
                return Ok(None);
            };
            if self
                .segment
                .as_ref()
                .is_none_or(|current| current.number != segment.number)
            {
                self.segment = Some(Arc::clone(segment));
                self.offset = HEADER;
            }
            let frame = match segment.at(self.offset)? {
                Step::Frame(frame) => frame,
                Step::End => return Ok(None),
                Step::Bad => match segment.resync(self.offset)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            if frame.first > self.next {
                return Ok(None);
            }
            self.offset = frame.end;
            if frame.next() > self.next {
                let mut frame = frame;
                frame.records.drain(..(self.next - frame.first) as usize);
                frame.first = self.next;
                self.next = frame.next();
                return Ok(Some(frame));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn log(groups: &[&[&[u8]]]) -> (tempfile::TempDir, Arc<Segment>) {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(FOLDER)).unwrap();
        let (mut writer, segment) =
            SegmentWriter::create(&RealDisk, home.path(), 1, 10, 100).unwrap();
        let mut first = 10;
        for group in groups {
            writer.append(first, group.iter().copied()).unwrap();
            first += group.len() as u64;
        }
        assert_eq!(segment.content_length().unwrap(), writer.length());
        (home, Arc::new(segment))
    }

    #[test]
    fn frames_are_read_back() {
        let (_home, segment) = log(&[&[b"a", b""], &[b"b"], &[b"c", b"d", b"e"]]);
        let segments = [segment];
        let mut cursor = Cursor::at(11);
        let mut read = Vec::new();
        while let Some(frame) = cursor.read(&segments).unwrap() {
            read.push((frame.first, frame.records));
        }
        let list = |records: &[&'static str]| records.iter().copied().map(Bytes::from).collect();
        assert_eq!(
            read,
            [
                (11, list(&[""])),
                (12, list(&["b"])),
                (13, list(&["c", "d", "e"]))
            ]
        );
        assert_eq!(cursor.next(), 16);
        assert!(Cursor::at(9).read(&segments).unwrap().is_none());
    }

    #[test]
    fn a_changed_byte_is_noticed_and_the_next_frame_is_found() {
        let (home, segment) = log(&[&[b"aaaa"], &[b"bbbb"], &[b"cccc"]]);
        let path = segment.path().to_owned();
        let whole = std::fs::read(&path).unwrap();
        let Step::Frame(first) = segment.at(HEADER).unwrap() else {
            panic!("no frame")
        };
        for at in first.start as usize..first.end as usize {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            std::fs::write(&path, bytes).unwrap();
            assert!(matches!(segment.at(HEADER).unwrap(), Step::Bad), "{at}");
            assert_eq!(segment.resync(HEADER).unwrap().unwrap().first, 11);
        }
        for at in 0..HEADER as usize {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let opened = Segment::open(path.clone(), 1).unwrap();
            let content = segment.content_length().unwrap();
            assert!(matches!(opened, Opened::NoHeader(length) if length == content));
        }
        drop(home);
    }

    #[test]
    fn zeros_are_the_end_only_if_nothing_follows() {
        let (_home, segment) = log(&[&[b"aaaa"], &[b"bbbb"]]);
        let path = segment.path().to_owned();
        let whole = std::fs::read(&path).unwrap();
        let content = segment.content_length().unwrap();
        assert!((content as usize) < whole.len(), "there is room for more");
        assert!(matches!(segment.at(content).unwrap(), Step::End));
        let Step::Frame(first) = segment.at(HEADER).unwrap() else {
            panic!("no frame")
        };
        // A frame that the disk gave up, in front of one that it kept.
        let mut bytes = whole;
        bytes[first.start as usize..first.end as usize].fill(0);
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(segment.at(HEADER).unwrap(), Step::Bad));
        assert_eq!(segment.resync(HEADER).unwrap().unwrap().first, 11);
    }

    #[test]
    fn a_later_segment_takes_precedence() {
        let (home, old) = log(&[&[b"a"], &[b"never acknowledged"]]);
        let (mut writer, new) = SegmentWriter::create(&RealDisk, home.path(), 2, 11, 0).unwrap();
        writer.append(11, [&b"b"[..]].into_iter()).unwrap();
        let segments = [old, Arc::new(new)];
        let mut cursor = Cursor::at(10);
        assert_eq!(cursor.read(&segments).unwrap().unwrap().records, ["a"]);
        assert_eq!(cursor.read(&segments).unwrap().unwrap().records, ["b"]);
        assert!(cursor.read(&segments).unwrap().is_none());
    }

    #[test]
    fn content_cannot_pass_for_a_frame() {
        let (_h, other) = log(&[&[b"forged"]]);
        let copy = std::fs::read(other.path()).unwrap();
        let (_home, segment) = log(&[&[&copy[HEADER as usize..]]]);
        assert!(segment.resync(HEADER).unwrap().is_none());
    }
}
