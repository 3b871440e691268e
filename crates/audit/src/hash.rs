//! The hashes of the tree (RFC 6962 §2.1, SHA-256).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// A hash in the tree: 32 bytes of SHA-256. Shown in base64, as in checkpoints.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Bytes in a hash.
    pub const LENGTH: usize = 32;

    /// The hash of the empty tree.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// The hash of a leaf: SHA-256(0x00 || entry).
    #[must_use]
    pub fn of_leaf(entry: &[u8]) -> Self {
        Self(Self::leaf_prefix().chain_update(entry).finalize().into())
    }

    /// The hash of an inner node: SHA-256(0x01 || left || right).
    #[must_use]
    pub fn of_node(left: &Self, right: &Self) -> Self {
        let mut text = [1; 1 + 2 * Self::LENGTH];
        text[1..=Self::LENGTH].copy_from_slice(&left.0);
        text[1 + Self::LENGTH..].copy_from_slice(&right.0);
        Self(Sha256::digest(text).into())
    }

    /// The state of the hash function before the first byte of an entry.
    pub(crate) fn leaf_prefix() -> Sha256 {
        Sha256::new().chain_update([0])
    }

    /// Reads the base64 form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        STANDARD.decode(text).ok()?.try_into().ok().map(Self)
    }

    /// The bytes of a tile that holds these hashes.
    pub(crate) fn flatten(hashes: &[Self]) -> Vec<u8> {
        hashes.iter().flat_map(|hash| hash.0).collect()
    }

    /// The hashes that a tile's bytes hold, if there is a whole number of them.
    pub(crate) fn list(bytes: &[u8]) -> Option<Vec<Self>> {
        let (hashes, rest) = bytes.as_chunks::<{ Self::LENGTH }>();
        rest.is_empty()
            .then(|| hashes.iter().copied().map(Self).collect())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(hash: Hash) -> String {
        hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Known answers: the empty tree and the leaf "L123456" and node "N123","N456" of the vectors
    /// that the Certificate Transparency implementations share.
    #[test]
    fn hashes_are_those_of_rfc_6962() {
        assert_eq!(
            hex(Hash::of_nothing()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            hex(Hash::of_leaf(b"")),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        assert_eq!(
            hex(Hash::of_leaf(b"L123456")),
            "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
        );
    }

    #[test]
    fn base64_is_strict() {
        let hash = Hash::of_leaf(b"a");
        assert_eq!(Hash::parse(&hash.to_string()), Some(hash));
        assert_eq!(Hash::parse(&hash.to_string()[1..]), None);
        assert_eq!(Hash::parse(&format!("{hash} ")), None);
        assert_eq!(Hash::list(&[0; 33]), None);
    }
}
