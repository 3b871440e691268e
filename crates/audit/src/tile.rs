//! Which tile holds what, and how it is called (C2SP tlog-tiles, Merkle Tree and Log entries).

use std::fmt::Write as _;

/// Hashes in a full tile, and records in a full bundle.
pub(crate) const WIDTH: u64 = 256;
/// The binary levels that one tile spans.
pub(crate) const HEIGHT: u32 = 8;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Hashes at a level, 0 for those of leaves.
    Hashes(u8),
    /// Records.
    Entries,
}

/// A tile file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Tile {
    pub(crate) kind: Kind,
    /// Its index within its level.
    pub(crate) n: u64,
    /// How many hashes or records it holds: 1 to 256.
    pub(crate) width: u16,
}

impl Tile {
    pub(crate) fn full(kind: Kind, n: u64) -> Self {
        Self {
            kind,
            n,
            width: WIDTH as u16,
        }
    }

    /// The tile `n` as it is in a tree with `count` hashes or records at this level; `None` if it
    /// would be empty.
    pub(crate) fn in_tree(kind: Kind, n: u64, count: u64) -> Option<Self> {
        let width = count.saturating_sub(n.checked_mul(WIDTH)?).min(WIDTH) as u16;
        (width > 0).then_some(Self { kind, n, width })
    }

    pub(crate) fn is_full(self) -> bool {
        u64::from(self.width) == WIDTH
    }

    /// How many hashes or records the level has before the end of this tile.
    pub(crate) fn end(self) -> u64 {
        self.n
            .saturating_mul(WIDTH)
            .saturating_add(u64::from(self.width))
    }

    /// Its path, relative to the log's folder.
    pub(crate) fn path(self) -> String {
        let mut path = self.stem();
        if !self.is_full() {
            let _ = write!(path, ".p/{}", self.width);
        }
        path
    }

    /// The folder of the partial forms of this tile.
    pub(crate) fn partials(self) -> String {
        self.stem() + ".p"
    }

    fn stem(self) -> String {
        let mut path = match self.kind {
            Kind::Hashes(level) => format!("tile/{level}/"),
            Kind::Entries => "tile/entries/".to_owned(),
        };
        let mut groups = vec![self.n % 1000];
        let mut rest = self.n / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        while let Some(group) = groups.pop() {
            let _ = match groups.is_empty() {
                true => write!(path, "{group:03}"),
                false => write!(path, "x{group:03}/"),
            };
        }
        path
    }

    /// The tile that a path names; only the exact spelling of the standard is one.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = match kind {
            "entries" => Kind::Entries,
            level => Kind::Hashes(level.parse().ok().filter(|level| *level < 64)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (
                number,
                width
                    .parse()
                    .ok()
                    .filter(|width| (1..WIDTH as u16).contains(width))?,
            ),
            None => (rest, WIDTH as u16),
        };
        let mut n: u64 = 0;
        for group in number.split('/') {
            let group = group.strip_prefix('x').unwrap_or(group);
            n = n
                .checked_mul(1000)?
                .checked_add(group.parse().ok().filter(|group| *group < 1000)?)?;
        }
        let tile = Self { kind, n, width };
        (tile.path() == path).then_some(tile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_those_of_the_standard() {
        let path = |kind, n, width| Tile { kind, n, width }.path();
        assert_eq!(
            path(Kind::Hashes(0), 1_234_067, 256),
            "tile/0/x001/x234/067"
        );
        assert_eq!(path(Kind::Hashes(63), 0, 256), "tile/63/000");
        assert_eq!(path(Kind::Hashes(1), 1000, 17), "tile/1/x001/000.p/17");
        assert_eq!(path(Kind::Entries, 273, 112), "tile/entries/273.p/112");
        assert_eq!(
            Tile::full(Kind::Entries, 1000).partials(),
            "tile/entries/x001/000.p"
        );
    }

    /// The example of the standard: a tree of size 70,000.
    #[test]
    fn a_tree_has_the_tiles_of_the_standard() {
        let tile = |level: u8, n| {
            Tile::in_tree(Kind::Hashes(level), n, 70_000 >> (8 * u32::from(level))).map(|t| t.width)
        };
        assert_eq!(
            (tile(0, 272), tile(0, 273), tile(0, 274)),
            (Some(256), Some(112), None)
        );
        assert_eq!(
            (tile(1, 0), tile(1, 1), tile(1, 2)),
            (Some(256), Some(17), None)
        );
        assert_eq!((tile(2, 0), tile(2, 1), tile(3, 0)), (Some(1), None, None));
    }

    #[test]
    fn other_spellings_are_no_tiles() {
        for bad in [
            "tile/0/1",
            "tile/00/001",
            "tile/64/001",
            "tile/0/001.p/256",
            "tile/0/001.p/0",
            "tile/0/001.p/01",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/entries/+01",
            "tile/0/",
            "tile/0/001.tmp",
            "checkpoint",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(Tile::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn paths_round_trip(level in 0u8..64, n: u64, width in 1u16..=256, entries: bool) {
            let kind = if entries { Kind::Entries } else { Kind::Hashes(level) };
            let tile = Tile { kind, n, width };
            prop_assert_eq!(Tile::parse(&tile.path()), Some(tile));
        }
    }
}
