//! Segments: files of frames that are only ever appended to, and removed as a whole when their time is
//! over.
//!
//! | in a segment | bytes |
//! | --- | --- |
//! | magic, nonce, digest of both | 8 + 8 + 16 |
//! | frames of payloads | |
//! | in one that was completed in order: the tally, and where it begins | + 8 |
//!
//! A segment is never gone on with after the process that began it has ended: what a crash has torn stays
//! at its end, and is not read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use audit::disk::{Disk, DiskFile};
use jiff::Timestamp;
use model::{AgentName, TaskId};
use serde::{Deserialize, Serialize};

use crate::frame::{self, DIGEST, Head, Kind, Marker, PREFIX, Prefix};

const MAGIC: &[u8; 8] = b"sealseg1";
const HEADER: u64 = 32;
const SUFFIX: &str = ".seal";
/// What stands behind the tally: where it begins.
const POINTER: u64 = 8;

/// How much of one task is somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// The agent whose work it is.
    pub(crate) agent: AgentName,
    /// Payloads.
    pub(crate) payloads: u64,
    /// Bytes on the disk.
    pub(crate) bytes: u64,
}

/// What is in a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// When its first payload was sealed, and its last one.
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    /// How much of which task.
    pub(crate) tasks: BTreeMap<TaskId, Tally>,
}

impl Content {
    /// Counts a payload.
    fn count(content: &mut Option<Self>, head: &Head, bytes: u64) {
        let content = content.get_or_insert_with(|| Self {
            first: head.time,
            last: head.time,
            tasks: BTreeMap::new(),
        });
        content.first = content.first.min(head.time);
        content.last = content.last.max(head.time);
        let tally = content.tasks.entry(head.task).or_insert_with(|| Tally {
            agent: head.agent.clone(),
            payloads: 0,
            bytes: 0,
        });
        tally.payloads += 1;
        tally.bytes += bytes;
    }
}

/// The file of a segment.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}{SUFFIX}"))
}

/// The numbers of the segments in a folder, in order.
pub(crate) fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The segment that is written.
pub(crate) struct SegmentWriter {
    file: Box<dyn DiskFile>,
    marker: Marker,
    pub(crate) number: u64,
    pub(crate) length: u64,
    pub(crate) begun: Timestamp,
    pub(crate) content: Option<Content>,
    frame: Vec<u8>,
}

impl SegmentWriter {
    /// Begins a segment.
    pub(crate) fn create(
        disk: &dyn Disk,
        dir: &Path,
        number: u64,
        now: Timestamp,
    ) -> io::Result<Self> {
        let mut marker = [0; 8];
        getrandom::fill(&mut marker).map_err(io::Error::other)?;
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&marker);
        header.extend_from_slice(&frame::digest(&[&header]));
        let path = path(dir, number);
        let mut file = disk.create(&path)?;
        let begun = file
            .append(&header)
            .and_then(|()| file.sync())
            .and_then(|()| disk.sync_dir(dir));
        if let Err(error) = begun {
            // An empty segment is harmless; it only takes up a number.
            let _ = disk.remove(&path);
            return Err(error);
        }
        Ok(Self {
            file,
            marker,
            number,
            length: HEADER,
            begun: now,
            content: None,
            frame: Vec::new(),
        })
    }

    /// Appends a sealed payload; it is durable after [`Self::sync`]. Returns its length on the disk. After
    /// an error the segment must not be written again.
    pub(crate) fn append(&mut self, head: &Head, written: &[u8], sealed: &[u8]) -> io::Result<u64> {
        self.frame.clear();
        frame::write(
            &mut self.frame,
            &self.marker,
            Kind::Payload,
            written,
            sealed,
        );
        self.file.append(&self.frame)?;
        let bytes = self.frame.len() as u64;
        self.length += bytes;
        Content::count(&mut self.content, head, bytes);
        Ok(bytes)
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    /// Completes it with its tally, so that it need not be read at the next start.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if let Some(content) = &self.content {
            let mut body = serde_json::to_vec(content)?;
            body.extend_from_slice(&frame::digest(&[&self.marker, &body]));
            self.frame.clear();
            if body.len() <= frame::LONGEST_BODY {
                frame::write(&mut self.frame, &self.marker, Kind::Tally, b"", &body);
                self.frame.extend_from_slice(&self.length.to_be_bytes());
                self.file.append(&self.frame)?;
            }
            self.file.sync()?;
        }
        Ok(())
    }
}

/// Where a segment is read from.
pub(crate) trait Source {
    /// Fills the buffer from an offset.
    fn fill(&self, buffer: &mut [u8], from: u64) -> io::Result<()>;
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;
}

impl Source for File {
    fn fill(&self, buffer: &mut [u8], from: u64) -> io::Result<()> {
        self.read_exact_at(buffer, from)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl Source for &[u8] {
    fn fill(&self, buffer: &mut [u8], from: u64) -> io::Result<()> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let there = from
            .checked_add(buffer.len())
            .and_then(|to| self.get(from..to));
        buffer.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// A payload in a segment.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) head: Head,
    /// The head as it was written, which the payload is sealed with.
    pub(crate) written: Vec<u8>,
    body: (u64, usize),
    /// The length of its frame.
    pub(crate) frame: u64,
}

/// A segment, to be read.
pub(crate) struct Segment<S> {
    source: S,
    marker: Marker,
    length: u64,
}

impl Segment<File> {
    /// Opens a segment's file; `None` when it has no header, so that there is nothing in it.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        Self::of(File::open(path)?)
    }
}

impl<S: Source> Segment<S> {
    pub(crate) fn of(source: S) -> io::Result<Option<Self>> {
        let length = source.length()?;
        let mut header = [0; HEADER as usize];
        if length < HEADER {
            return Ok(None);
        }
        source.fill(&mut header, 0)?;
        let (text, sum) = header.split_at(HEADER as usize - DIGEST);
        if &text[..8] != MAGIC || frame::digest(&[text]) != *sum {
            return Ok(None);
        }
        let mut marker = [0; 8];
        marker.copy_from_slice(&text[8..16]);
        Ok(Some(Self {
            source,
            marker,
            length,
        }))
    }

    /// The payloads in it, in the order in which they were sealed.
    pub(crate) fn payloads(&self) -> Payloads<'_, S> {
        Payloads {
            segment: self,
            at: HEADER,
        }
    }

    /// What is in it, from its tally or else by counting; `None` when there is nothing.
    pub(crate) fn content(&self) -> io::Result<Option<Content>> {
        if let Some(content) = self.tally()? {
            return Ok(Some(content));
        }
        let mut content = None;
        for found in self.payloads() {
            let found = found?;
            Content::count(&mut content, &found.head, found.frame);
        }
        Ok(content)
    }

    fn tally(&self) -> io::Result<Option<Content>> {
        let mut pointer = [0; POINTER as usize];
        if self.length < HEADER + POINTER {
            return Ok(None);
        }
        let end = self.length - POINTER;
        self.source.fill(&mut pointer, end)?;
        let at = u64::from_be_bytes(pointer);
        let Some((prefix, head)) = self.frame_at(at)? else {
            return Ok(None);
        };
        if prefix.kind != Kind::Tally || at.checked_add(prefix.frame() as u64) != Some(end) {
            return Ok(None);
        }
        let mut body = vec![0; prefix.body];
        self.source
            .fill(&mut body, at + (PREFIX + head.len() + DIGEST) as u64)?;
        let Some((text, sum)) = body.split_at_checked(prefix.body.saturating_sub(DIGEST)) else {
            return Ok(None);
        };
        if frame::digest(&[&self.marker, text]) != *sum {
            return Ok(None);
        }
        Ok(serde_json::from_slice(text).ok())
    }

    /// The frame at an offset, with its head; `None` when there is no whole one.
    fn frame_at(&self, at: u64) -> io::Result<Option<(Prefix, Vec<u8>)>> {
        let mut bytes = [0; PREFIX];
        let left = self.length.saturating_sub(at);
        if at < HEADER || left < PREFIX as u64 {
            return Ok(None);
        }
        self.source.fill(&mut bytes, at)?;
        let Some(prefix) = Prefix::read(&bytes, &self.marker) else {
            return Ok(None);
        };
        if left < prefix.frame() as u64 {
            return Ok(None);
        }
        let mut rest = vec![0; prefix.head + DIGEST];
        self.source.fill(&mut rest, at + PREFIX as u64)?;
        let head = frame::check(&bytes, &rest).map(<[u8]>::to_vec);
        Ok(head.map(|head| (prefix, head)))
    }

    /// The sealed bytes of a payload.
    pub(crate) fn sealed(&self, found: &Found) -> io::Result<Vec<u8>> {
        let (from, length) = found.body;
        let mut sealed = vec![0; length];
        self.source.fill(&mut sealed, from)?;
        Ok(sealed)
    }

    /// The next place after this one where the marker stands.
    fn next_marker(&self, after: u64) -> io::Result<Option<u64>> {
        const CHUNK: u64 = 1 << 20;
        let mut from = after + 1;
        let mut buffer = Vec::new();
        while from + PREFIX as u64 <= self.length {
            let length = (self.length - from).min(CHUNK);
            buffer.resize(usize::try_from(length).unwrap_or(0), 0);
            self.source.fill(&mut buffer, from)?;
            let found = buffer
                .windows(self.marker.len())
                .position(|window| window == self.marker);
            if let Some(found) = found {
                return Ok(Some(from + found as u64));
            }
            if length < CHUNK {
                break;
            }
            // A marker may stand across the border.
            from += length - (self.marker.len() as u64 - 1);
        }
        Ok(None)
    }
}

/// The payloads of a segment. Places that are damaged are left out.
pub(crate) struct Payloads<'a, S> {
    segment: &'a Segment<S>,
    at: u64,
}

impl<S: Source> Iterator for Payloads<'_, S> {
    type Item = io::Result<Found>;

    fn next(&mut self) -> Option<io::Result<Found>> {
        loop {
            let (prefix, written) = match self.segment.frame_at(self.at) {
                Err(error) => {
                    self.at = u64::MAX;
                    return Some(Err(error));
                }
                Ok(Some(frame)) => frame,
                Ok(None) => match self.segment.next_marker(self.at.min(self.segment.length)) {
                    Ok(Some(next)) => {
                        self.at = next;
                        continue;
                    }
                    Ok(None) => return None,
                    Err(error) => {
                        self.at = u64::MAX;
                        return Some(Err(error));
                    }
                },
            };
            let body = self.at + (PREFIX + written.len() + DIGEST) as u64;
            self.at += prefix.frame() as u64;
            if prefix.kind == Kind::Tally {
                continue;
            }
            if let Ok(head) = serde_json::from_slice::<Head>(&written) {
                return Some(Ok(Found {
                    head,
                    written,
                    body: (body, prefix.body),
                    frame: prefix.frame() as u64,
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests;
