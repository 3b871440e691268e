//! The right edge of the tree: all that is needed to let it grow, however large it is.

use crate::hash::Hash;
use crate::tile::{HEIGHT, Kind, Tile, WIDTH};

/// The hash of a perfect binary tree over `hashes`, whose number is a power of two.
pub(crate) fn perfect(hashes: &[Hash]) -> Hash {
    debug_assert!(hashes.len().is_power_of_two());
    match hashes {
        [one] => *one,
        _ => {
            let mut row: Vec<Hash> = hashes.to_vec();
            while row.len() > 1 {
                row = row
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|[left, right]| Hash::of_node(left, right))
                    .collect();
            }
            row[0]
        }
    }
}

/// The hashes of the rightmost, incomplete tile of each level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Edge {
    size: u64,
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// From the incomplete tiles of a tree, lowest level first; an absent one is empty. `None` if
    /// their widths do not belong to that size.
    pub(crate) fn from_levels(size: u64, levels: Vec<Vec<Hash>>) -> Option<Self> {
        let widths = levels.iter().map(Vec::len);
        let expected =
            (0..).map_while(|level| (level < Self::levels(size)).then(|| Self::width(size, level)));
        widths.eq(expected).then_some(Self { size, levels })
    }

    /// How many levels of tiles a tree of that size has.
    pub(crate) fn levels(size: u64) -> u8 {
        (0..8)
            .take_while(|level| size >> (HEIGHT * level) > 0)
            .count() as u8
    }

    /// How many hashes the incomplete tile of a level has.
    pub(crate) fn width(size: u64, level: u8) -> usize {
        ((size >> (HEIGHT * u32::from(level))) % WIDTH) as usize
    }

    /// The number of leaves.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf. Each tile that becomes full by it is given away.
    pub(crate) fn push(&mut self, leaf: Hash, mut full: impl FnMut(Tile, Vec<Hash>)) {
        self.size += 1;
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == usize::from(level) {
                self.levels.push(Vec::new());
            }
            let row = &mut self.levels[usize::from(level)];
            row.push(hash);
            if row.len() < WIDTH as usize {
                return;
            }
            let row = std::mem::take(row);
            hash = perfect(&row);
            let n = (self.size >> (HEIGHT * (u32::from(level) + 1))) - 1;
            full(Tile::full(Kind::Hashes(level), n), row);
        }
    }

    /// The incomplete tiles.
    pub(crate) fn partial(&self) -> impl Iterator<Item = (Tile, &[Hash])> {
        self.levels
            .iter()
            .zip(0u8..)
            .filter(|(row, _)| !row.is_empty())
            .map(|(row, level)| {
                let n = self.size >> (HEIGHT * (u32::from(level) + 1));
                (
                    Tile {
                        kind: Kind::Hashes(level),
                        n,
                        width: row.len() as u16,
                    },
                    row.as_slice(),
                )
            })
    }

    /// The Merkle tree hash of all leaves (RFC 6962 §2.1).
    pub(crate) fn root(&self) -> Hash {
        // The tree is a row of perfect trees, one for each bit of its size; the smallest is rightmost.
        let mut root: Option<Hash> = None;
        for row in &self.levels {
            let mut rest = row.as_slice();
            while !rest.is_empty() {
                let (left, last) = rest.split_at(rest.len() - (1 << rest.len().trailing_zeros()));
                let last = perfect(last);
                root = Some(root.map_or(last, |right| Hash::of_node(&last, &right)));
                rest = left;
            }
        }
        root.unwrap_or_else(Hash::of_nothing)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The leaves of the test vectors that the Certificate Transparency implementations share.
    fn leaves() -> [Vec<u8>; 8] {
        [
            vec![],
            vec![0],
            vec![0x10],
            vec![0x20, 0x21],
            vec![0x30, 0x31],
            vec![0x40, 0x41, 0x42, 0x43],
            (0x50..0x58).collect(),
            (0x60..0x70).collect(),
        ]
    }

    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn roots_are_those_of_rfc_6962() {
        let mut edge = Edge::default();
        assert_eq!(edge.root(), Hash::of_nothing());
        for (leaf, root) in leaves().iter().zip(ROOTS) {
            edge.push(Hash::of_leaf(leaf), |_, _| {});
            let hex: String = edge
                .root()
                .0
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(hex, root);
        }
    }

    /// RFC 6962 §2.1, word for word.
    pub(crate) fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::of_nothing(),
            [one] => *one,
            _ => {
                let k = leaves.len().next_power_of_two() / 2;
                Hash::of_node(&mth(&leaves[..k]), &mth(&leaves[k..]))
            }
        }
    }

    #[test]
    fn the_edge_has_the_root_and_the_tiles_of_the_definition() {
        let leaves: Vec<Hash> = (0u32..66_000)
            .map(|i| Hash::of_leaf(&i.to_be_bytes()))
            .collect();
        let mut edge = Edge::default();
        let mut full = Vec::new();
        for (leaf, size) in leaves.iter().zip(1usize..) {
            edge.push(*leaf, |tile, hashes| full.push((tile, hashes)));
            if size < 600 || size % 8191 == 0 || size.abs_diff(65_536) < 3 {
                assert_eq!(edge.root(), mth(&leaves[..size]), "{size}");
                let levels = (0..Edge::levels(edge.size()))
                    .map(|level| edge.levels[usize::from(level)].clone());
                assert_eq!(
                    Edge::from_levels(edge.size(), levels.collect()).as_ref(),
                    Some(&edge)
                );
            }
        }
        assert_eq!(full.len(), 257 + 1);
        for (tile, hashes) in full {
            let Kind::Hashes(level) = tile.kind else {
                panic!("{tile:?}")
            };
            let span = 256usize.pow(u32::from(level));
            let start = tile.n as usize * 256 * span;
            for (i, hash) in hashes.iter().enumerate() {
                assert_eq!(
                    *hash,
                    mth(&leaves[start + i * span..start + (i + 1) * span])
                );
            }
        }
    }

    #[test]
    fn an_edge_of_another_size_is_refused() {
        let hash = Hash::of_nothing();
        assert!(Edge::from_levels(3, vec![vec![hash; 3]]).is_some());
        assert!(Edge::from_levels(3, vec![vec![hash; 2]]).is_none());
        assert!(Edge::from_levels(256, vec![vec![], vec![hash]]).is_some());
        assert!(Edge::from_levels(256, vec![vec![]]).is_none());
        assert!(Edge::from_levels(0, vec![]).is_some());
    }
}
