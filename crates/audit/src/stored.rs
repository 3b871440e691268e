//! Reads tiles and bundles back.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::LONGEST_RECORD;
use crate::bundle;
use crate::error::Damage;
use crate::hash::Hash;
use crate::tile::{HEIGHT, Kind, Tile, WIDTH};
use crate::tree::{Edge, perfect};

/// The tiles in a log's folder.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    dir: PathBuf,
}

/// What a tile's file holds.
pub(crate) struct Content {
    /// The file, relative to the log's folder.
    pub(crate) file: String,
    pub(crate) bytes: Bytes,
    /// Whether it is the file of exactly this tile: the full form may stand in for a partial one.
    pub(crate) exact: bool,
}

impl Stored {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// Reads the file of a tile. A partial tile may have been replaced by the full one.
    pub(crate) fn content(&self, tile: Tile) -> Result<Content, Damage> {
        let file = tile.path();
        match self.file(&file, tile.kind) {
            Ok(Some(bytes)) => {
                return Ok(Content {
                    file,
                    bytes,
                    exact: true,
                });
            }
            Ok(None) => {}
            Err(error) => {
                return Err(Damage {
                    file,
                    what: error.to_string(),
                });
            }
        }
        let full = Tile::full(tile.kind, tile.n).path();
        match self.file(&full, tile.kind) {
            Ok(Some(bytes)) if !tile.is_full() => Ok(Content {
                file: full,
                bytes,
                exact: false,
            }),
            _ => Err(Damage {
                file,
                what: "it is missing".to_owned(),
            }),
        }
    }

    fn file(&self, file: &str, kind: Kind) -> io::Result<Option<Bytes>> {
        let path = self.dir.join(file);
        let longest = match kind {
            Kind::Hashes(_) => WIDTH * Hash::LENGTH as u64,
            Kind::Entries => WIDTH * (LONGEST_RECORD + bundle::PREFIX) as u64,
        };
        let read = std::fs::metadata(&path).and_then(|about| match about.len() {
            length if length > longest => Err(io::Error::other("it is longer than any such file")),
            _ => std::fs::read(&path),
        });
        match read {
            Ok(bytes) => Ok(Some(bytes.into())),
            // The writer may remove it at any moment.
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// The hashes of a tile.
    pub(crate) fn hashes(&self, tile: Tile) -> Result<Vec<Hash>, Damage> {
        let content = self.content(tile)?;
        let width = usize::from(tile.width);
        let expected = if content.exact { width } else { WIDTH as usize };
        match Hash::list(&content.bytes) {
            Some(mut hashes) if hashes.len() == expected => {
                hashes.truncate(width);
                Ok(hashes)
            }
            _ => {
                let (found, expected) = (content.bytes.len(), expected * Hash::LENGTH);
                let what = format!("it has {found} bytes instead of {expected}");
                Err(Damage {
                    file: content.file,
                    what,
                })
            }
        }
    }

    /// The records of a bundle.
    pub(crate) fn records(&self, tile: Tile) -> Result<Vec<Bytes>, Damage> {
        let content = self.content(tile)?;
        let records: Option<Vec<Bytes>> = bundle::split(content.bytes)
            .take(usize::from(tile.width))
            .collect();
        match records {
            Some(records) if records.len() == usize::from(tile.width) => Ok(records),
            _ => {
                let what = format!("it does not hold {} complete records", tile.width);
                Err(Damage {
                    file: content.file,
                    what,
                })
            }
        }
    }

    /// The incomplete tiles of a tree of that size, lowest level first.
    pub(crate) fn edge(&self, size: u64) -> Vec<Result<Vec<Hash>, Damage>> {
        (0..Edge::levels(size))
            .map(|level| match edge_tile(size, level) {
                Some(tile) => self.hashes(tile),
                None => Ok(Vec::new()),
            })
            .collect()
    }

    /// Gives the hashes of perfect subtrees of a tree of that size.
    pub(crate) fn nodes(
        &self,
        size: u64,
    ) -> impl FnMut(u32, u64) -> Result<Hash, Damage> + use<'_> {
        let mut last: Option<(Tile, Vec<Hash>)> = None;
        move |height, n| {
            let level = (height / HEIGHT) as u8;
            let within = height % HEIGHT;
            let first = n << within;
            let count = size >> (HEIGHT * u32::from(level));
            let tile = Tile::in_tree(Kind::Hashes(level), first / WIDTH, count);
            let outside = || Damage {
                file: "tile".to_owned(),
                what: format!("no subtree {n} of height {height}"),
            };
            let tile = tile
                .filter(|tile| first + (1 << within) <= tile.end())
                .ok_or_else(outside)?;
            if last.as_ref().is_none_or(|(have, _)| *have != tile) {
                last = Some((tile, self.hashes(tile)?));
            }
            let hashes = last.as_ref().map_or(&[][..], |(_, hashes)| hashes);
            let from = (first % WIDTH) as usize;
            Ok(perfect(&hashes[from..from + (1 << within)]))
        }
    }
}

/// The incomplete tile of a level, if it is not empty.
pub(crate) fn edge_tile(size: u64, level: u8) -> Option<Tile> {
    let count = size >> (HEIGHT * u32::from(level));
    Tile::in_tree(Kind::Hashes(level), count / WIDTH, count)
}
