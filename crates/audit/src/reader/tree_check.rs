//! Compares records, tiles and root hash with each other, and names what was changed.
//!
//! It goes from the root down: the tiles at the right edge must lead to the root hash of the
//! checkpoint, each tile must hash to its place in the tile above, and each record to its place in a
//! level-0 tile. Where a tile disagrees with the tile above, what is below it tells whether the tile
//! was changed or what it commits to.

use bytes::Bytes;
use sha2::Digest;

use super::problem::Problems;
use crate::bundle::PREFIX;
use crate::error::Damage;
use crate::hash::Hash;
use crate::stored::{Stored, edge_tile};
use crate::tile::{HEIGHT, Kind, Tile, WIDTH};
use crate::tree::{Edge, perfect};

/// At how many places two versions of a tile may differ for all combinations to be tried.
const MOST_DIFFERENCES: usize = 8;
/// How often in one bundle a record's true length is searched for.
const MOST_SEARCHES: u32 = 16;

pub(crate) struct TreeCheck<'a> {
    stored: &'a Stored,
    size: u64,
    root: Hash,
    from: u64,
    problems: &'a mut Problems,
}

impl<'a> TreeCheck<'a> {
    pub(crate) fn new(
        stored: &'a Stored,
        size: u64,
        root: Hash,
        problems: &'a mut Problems,
    ) -> Self {
        Self {
            stored,
            size,
            root,
            from: 0,
            problems,
        }
    }

    /// Leaves out the bundles before a record.
    pub(crate) fn from(mut self, from: u64) -> Self {
        self.from = from;
        self
    }

    /// Checks everything; `progress` is told how many records are done.
    pub(crate) fn run(&mut self, progress: &mut dyn FnMut(u64)) {
        let edge = self.edge();
        for (level, row) in (0..Edge::levels(self.size)).zip(&edge).rev() {
            let Some(tile) = edge_tile(self.size, level) else {
                continue;
            };
            if level == 0 {
                self.bundle(
                    Tile {
                        kind: Kind::Entries,
                        ..tile
                    },
                    row.as_deref(),
                    progress,
                );
            } else {
                self.below(tile, row.as_deref(), progress);
            }
        }
    }

    /// The hashes at the right edge, by level, as the root hash confirms them where that is possible.
    fn edge(&mut self) -> Vec<Option<Vec<Hash>>> {
        let stored = self.stored.edge(self.size);
        let root_of = |rows: &[Option<Vec<Hash>>]| {
            let rows = rows.iter().cloned().collect::<Option<Vec<_>>>()?;
            Edge::from_levels(self.size, rows).map(|edge| edge.root())
        };
        let as_stored: Vec<_> = stored
            .iter()
            .map(|row| row.as_ref().ok().cloned())
            .collect();
        if root_of(&as_stored) == Some(self.root) {
            return as_stored;
        }
        let rebuilt: Vec<Option<Vec<Hash>>> = (0..Edge::levels(self.size))
            .map(|level| {
                edge_tile(self.size, level).map_or(Some(Vec::new()), |tile| self.rebuild(tile))
            })
            .collect();
        // The fewest tiles that must be taken from what is below them to arrive at the root.
        let mut choices: Vec<u32> = (0..1 << stored.len()).collect();
        choices.sort_by_key(|choice| choice.count_ones());
        let pick = |choice: u32| -> Vec<_> {
            let rows = as_stored.iter().zip(&rebuilt).enumerate();
            rows.map(|(level, (a, b))| {
                if choice >> level & 1 == 1 {
                    b.clone()
                } else {
                    a.clone()
                }
            })
            .collect()
        };
        let found = choices
            .into_iter()
            .map(pick)
            .find(|rows| root_of(rows) == Some(self.root));
        let confirmed = found.is_some();
        let rows = found.unwrap_or_else(|| {
            as_stored
                .iter()
                .zip(&rebuilt)
                .map(|(a, b)| a.clone().or_else(|| b.clone()))
                .collect()
        });
        for (level, row) in (0u8..).zip(&rows) {
            let Some(tile) = edge_tile(self.size, level) else {
                continue;
            };
            match &stored[usize::from(level)] {
                Err(damage) => self.problems.file(damage.clone()),
                Ok(hashes) => self.name_differences(tile, hashes, row.as_deref().unwrap_or(hashes)),
            }
        }
        if !confirmed {
            let what = "the tiles do not lead to the root hash of the checkpoint: records were changed, \
                        added or dropped, and the tiles with them";
            self.problems.file(Damage {
                file: "tile".to_owned(),
                what: what.to_owned(),
            });
        }
        rows
    }

    /// Checks the tiles below a tile whose hashes are known.
    fn below(&mut self, tile: Tile, hashes: Option<&[Hash]>, progress: &mut dyn FnMut(u64)) {
        let Kind::Hashes(level) = tile.kind else {
            return;
        };
        for i in 0..tile.width {
            let n = tile.n * WIDTH + u64::from(i);
            let child = Tile::full(Kind::Hashes(level - 1), n);
            if child.end() << (HEIGHT * u32::from(level - 1)) <= self.from {
                continue;
            }
            let expected = hashes.and_then(|hashes| hashes.get(usize::from(i)));
            let hashes = self.full_tile(child, expected);
            match level {
                1 => self.bundle(Tile::full(Kind::Entries, n), hashes.as_deref(), progress),
                _ => self.below(child, hashes.as_deref(), progress),
            }
        }
    }

    /// The hashes of a full tile, as its place in the tile above confirms them where that is possible.
    fn full_tile(&mut self, tile: Tile, expected: Option<&Hash>) -> Option<Vec<Hash>> {
        let stored = self.stored.hashes(tile);
        if let (Ok(hashes), Some(expected)) = (&stored, expected)
            && perfect(hashes) == *expected
        {
            return stored.ok();
        }
        let rebuilt = self.rebuild(tile);
        let confirmed = expected
            .and_then(|expected| reconcile(stored.as_deref().ok(), rebuilt.as_deref(), *expected));
        match (&stored, &confirmed) {
            (Err(damage), _) => self.problems.file(damage.clone()),
            (Ok(hashes), Some(confirmed)) => self.name_differences(tile, hashes, confirmed),
            (Ok(_), None) if expected.is_some() => {
                let span = 1u64 << (HEIGHT * level_of(tile));
                let (first, last) = (tile.n * WIDTH * span, tile.end() * span - 1);
                let what = format!(
                    "neither it nor what is below it belongs to the tree: some of records {first} to \
                     {last} were changed, and this tile with them"
                );
                self.problems.file(Damage {
                    file: tile.path(),
                    what,
                });
            }
            (Ok(_), None) => {}
        }
        confirmed.or(stored.ok()).or(rebuilt)
    }

    fn name_differences(&mut self, tile: Tile, found: &[Hash], right: &[Hash]) {
        for (i, _) in found
            .iter()
            .zip(right)
            .enumerate()
            .filter(|(_, (found, right))| found != right)
        {
            let n = tile.n * WIDTH + i as u64;
            if level_of(tile) == 0 {
                self.problems
                    .record(n, tile.path(), "its hash in this tile was changed");
            } else {
                let what = format!("its hash number {i} was changed");
                self.problems.file(Damage {
                    file: tile.path(),
                    what,
                });
            }
        }
    }

    /// The hashes of a tile, from what is below it.
    fn rebuild(&self, tile: Tile) -> Option<Vec<Hash>> {
        match level_of(tile) {
            0 => {
                let records = self
                    .stored
                    .records(Tile {
                        kind: Kind::Entries,
                        ..tile
                    })
                    .ok()?;
                Some(records.iter().map(|record| Hash::of_leaf(record)).collect())
            }
            level => (0..u64::from(tile.width))
                .map(|i| Tile::full(Kind::Hashes(level as u8 - 1), tile.n * WIDTH + i))
                .map(|child| Some(perfect(&self.stored.hashes(child).ok()?)))
                .collect(),
        }
    }

    /// Compares the records of a bundle with their hashes.
    fn bundle(&mut self, tile: Tile, hashes: Option<&[Hash]>, progress: &mut dyn FnMut(u64)) {
        match (self.stored.content(tile), hashes) {
            (Err(damage), _) => {
                let (first, last) = (tile.n * WIDTH, tile.end() - 1);
                let what = format!("{}, and with it records {first} to {last}", damage.what);
                self.problems.file(Damage {
                    file: damage.file,
                    what,
                });
            }
            (Ok(content), Some(hashes)) => {
                let mut walk = Walk {
                    problems: self.problems,
                    file: content.file,
                    first: tile.n * WIDTH,
                    hashes,
                    searches: 0,
                };
                walk.run(content.bytes, content.exact);
            }
            // That the hashes are missing was said where they should be.
            (Ok(_), None) => {}
        }
        progress(tile.end());
    }
}

fn level_of(tile: Tile) -> u32 {
    match tile.kind {
        Kind::Hashes(level) => u32::from(level),
        Kind::Entries => 0,
    }
}

/// Finds the version of a full tile that has the expected hash, between the stored one and one that
/// was made from what is below.
fn reconcile(
    stored: Option<&[Hash]>,
    rebuilt: Option<&[Hash]>,
    expected: Hash,
) -> Option<Vec<Hash>> {
    let rebuilt = rebuilt.filter(|rebuilt| rebuilt.len() == WIDTH as usize)?;
    if perfect(rebuilt) == expected {
        return Some(rebuilt.to_vec());
    }
    let stored = stored?;
    let different: Vec<usize> = (0..rebuilt.len())
        .filter(|i| stored[*i] != rebuilt[*i])
        .collect();
    if different.len() > MOST_DIFFERENCES {
        return None;
    }
    (1u32..1 << different.len()).find_map(|choice| {
        let mut mixed = stored.to_vec();
        for (bit, i) in different
            .iter()
            .enumerate()
            .filter(|(bit, _)| choice >> bit & 1 == 1)
        {
            debug_assert!(bit < MOST_DIFFERENCES);
            mixed[*i] = rebuilt[*i];
        }
        (perfect(&mixed) == expected).then_some(mixed)
    })
}

/// Goes through a bundle whose records' hashes are known.
struct Walk<'a> {
    problems: &'a mut Problems,
    file: String,
    first: u64,
    hashes: &'a [Hash],
    searches: u32,
}

/// The record at the beginning of some bytes and its hash, and the bytes after it.
fn parse(bytes: &Bytes) -> Option<(Hash, Bytes)> {
    let length = usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]));
    let end = PREFIX + length;
    (end <= bytes.len()).then(|| (Hash::of_leaf(&bytes[PREFIX..end]), bytes.slice(end..)))
}

impl Walk<'_> {
    fn run(&mut self, mut rest: Bytes, exact: bool) {
        let mut k = 0;
        while k < self.hashes.len() {
            if rest.is_empty() {
                return self.rest(k, "missing: the file ends there");
            }
            let parsed = parse(&rest);
            if let Some((hash, after)) = &parsed {
                if *hash == self.hashes[k] {
                    rest = after.clone();
                    k += 1;
                    continue;
                }
                if let Some(ahead) = self.hashes[k..].iter().position(|other| other == hash) {
                    (k..k + ahead).for_each(|k| self.problem(k, "it was dropped"));
                    k += ahead;
                    continue;
                }
                if parse(after).is_some_and(|(next, _)| next == self.hashes[k]) {
                    self.problem(k, "another record was put in front of it");
                    rest = after.clone();
                    continue;
                }
            }
            if let Some(length) = self.true_length(k, &rest) {
                self.problem(k, "its length was changed");
                rest = rest.slice(PREFIX + length..);
            } else if let Some((_, after)) = parsed {
                self.problem(k, "it was changed");
                rest = after;
            } else {
                self.problem(k, "it was changed or cut off");
                return self.rest(k + 1, "not to be found behind a changed one");
            }
            k += 1;
        }
        if exact && !rest.is_empty() {
            let what = format!("it has {} bytes after its last record", rest.len());
            self.problems.file(Damage {
                file: self.file.clone(),
                what,
            });
        }
    }

    /// The length with which the record has its hash, if only the length in front of it was changed.
    fn true_length(&mut self, k: usize, rest: &Bytes) -> Option<usize> {
        let content = rest.get(PREFIX..)?;
        self.searches += 1;
        if self.searches > MOST_SEARCHES {
            return None;
        }
        let mut state = Hash::leaf_prefix();
        (0..=content.len().min(crate::LONGEST_RECORD)).find(|length| {
            if let Some(last) = length.checked_sub(1) {
                state.update(&content[last..*length]);
            }
            state.clone().finalize()[..] == self.hashes[k].0
        })
    }

    fn problem(&mut self, k: usize, what: &str) {
        self.problems
            .record(self.first + k as u64, self.file.clone(), what);
    }

    /// Names all records from one on.
    fn rest(&mut self, k: usize, what: &str) {
        match self.hashes.len() - k {
            0 => {}
            1 => self.problem(k, &format!("it is {what}")),
            more => {
                let last = self.first + (k + more - 1) as u64;
                self.problem(k, &format!("it and all up to record {last} are {what}"));
            }
        }
    }
}
