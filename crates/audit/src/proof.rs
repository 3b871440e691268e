//! Proofs of inclusion and of consistency (RFC 6962 §2.1.1, §2.1.2; verification as in RFC 9162
//! §2.1.3.2, §2.1.4.2), and their text form (C2SP tlog-proof).

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::checkpoint::Checkpoint;
use crate::hash::Hash;
use crate::note::{self, NoteError, VerifierKey};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// The longest path that a tree with 64-bit sizes can have.
const LONGEST_PATH: usize = 64;

/// Why a proof does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The text has not the form of a proof.
    #[error("this is no proof of inclusion (C2SP tlog-proof): {0}")]
    Malformed(&'static str),
    /// The proof does not lead to the root hash.
    #[error("the proof does not hold: it does not lead to the root hash of the checkpoint")]
    Wrong,
    /// The checkpoint in the proof is not acceptable.
    #[error(transparent)]
    Checkpoint(#[from] NoteError),
}

/// Gives the hash of a perfect subtree: `node(height, n)` covers the leaves
/// `n * 2^height .. (n + 1) * 2^height`.
pub(crate) trait Nodes<E>: FnMut(u32, u64) -> Result<Hash, E> {}
impl<E, F: FnMut(u32, u64) -> Result<Hash, E>> Nodes<E> for F {}

/// Where a range of at least two leaves is split: the largest power of two below its length.
fn split(range: &Range<u64>) -> u64 {
    let length = range.end - range.start;
    range.start + (1 << (length - 1).ilog2())
}

/// The Merkle tree hash of a range of leaves that begins where a subtree begins.
pub(crate) fn root<E>(range: Range<u64>, node: &mut impl Nodes<E>) -> Result<Hash, E> {
    let length = range.end - range.start;
    if length == 0 {
        return Ok(Hash::of_nothing());
    }
    if length.is_power_of_two() {
        let height = length.trailing_zeros();
        return node(height, range.start >> height);
    }
    let middle = split(&range);
    let left = root(range.start..middle, node)?;
    Ok(Hash::of_node(&left, &root(middle..range.end, node)?))
}

/// The audit path of a leaf, from its sibling up: PATH(index, D[0:size]).
pub(crate) fn inclusion<E>(
    index: u64,
    size: u64,
    node: &mut impl Nodes<E>,
) -> Result<Vec<Hash>, E> {
    let mut range = 0..size;
    let mut path = Vec::new();
    while range.end - range.start > 1 {
        let middle = split(&range);
        let other = if index < middle {
            let other = middle..range.end;
            range.end = middle;
            other
        } else {
            let other = range.start..middle;
            range.start = middle;
            other
        };
        path.push(root(other, node)?);
    }
    path.reverse();
    Ok(path)
}

/// The consistency proof between two sizes: PROOF(old, D[0:new]); empty if `old` is 0 or `new`.
pub(crate) fn consistency<E>(old: u64, new: u64, node: &mut impl Nodes<E>) -> Result<Vec<Hash>, E> {
    let mut proof = Vec::new();
    if old == 0 || old == new {
        return Ok(proof);
    }
    let mut range = 0..new;
    // As long as the old tree is the left edge of what is looked at, its root is known already.
    let mut known = true;
    while range.end != old {
        let middle = split(&range);
        if old <= middle {
            proof.push(root(middle..range.end, node)?);
            range.end = middle;
        } else {
            proof.push(root(range.start..middle, node)?);
            range.start = middle;
            known = false;
        }
    }
    if !known {
        proof.push(root(range, node)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks that the leaf at `index` is in the tree of that size and root (RFC 9162 §2.1.3.2).
///
/// # Errors
/// [`ProofError::Wrong`] if it is not, or the index is not below the size.
pub fn check_inclusion(
    path: &[Hash],
    index: u64,
    leaf: Hash,
    size: u64,
    root: Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Wrong);
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return Err(ProofError::Wrong);
        }
        if node & 1 == 1 || node == last {
            hash = Hash::of_node(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = Hash::of_node(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 && hash == root {
        Ok(())
    } else {
        Err(ProofError::Wrong)
    }
}

/// Checks that the tree of size `old` is the beginning of the tree of size `new` (RFC 9162 §2.1.4.2).
///
/// # Errors
/// [`ProofError::Wrong`] if it is not, or `old` is larger than `new`.
pub fn check_consistency(
    proof: &[Hash],
    (old, old_root): (u64, Hash),
    (new, new_root): (u64, Hash),
) -> Result<(), ProofError> {
    let holds = |holds: bool| {
        if holds {
            Ok(())
        } else {
            Err(ProofError::Wrong)
        }
    };
    if old == 0 {
        return holds(proof.is_empty() && old_root == Hash::of_nothing());
    }
    if old >= new {
        return holds(old == new && proof.is_empty() && old_root == new_root);
    }
    let mut path = proof.iter();
    let first = match old.is_power_of_two() {
        true => old_root,
        false => *path.next().ok_or(ProofError::Wrong)?,
    };
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut as_old, mut as_new) = (first, first);
    for hash in path {
        if last == 0 {
            return Err(ProofError::Wrong);
        }
        if node & 1 == 1 || node == last {
            as_old = Hash::of_node(hash, &as_old);
            as_new = Hash::of_node(hash, &as_new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            as_new = Hash::of_node(&as_new, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    holds(last == 0 && as_old == old_root && as_new == new_root)
}

/// A proof that one record is in a log, with the checkpoint that it leads to. Its text form is C2SP
/// tlog-proof: it can be checked offline with nothing but the record and the verifier key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// The record's index.
    pub index: u64,
    /// The hashes from the leaf's sibling up to the child of the root.
    pub path: Vec<Hash>,
    /// The checkpoint: a signed note, not verified yet when the proof was read from text.
    pub checkpoint: String,
}

/// What a proof that holds has proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The record's index in the log.
    pub index: u64,
    /// The checkpoint that commits to it.
    pub checkpoint: Checkpoint,
}

impl InclusionProof {
    /// Checks that the log has this record.
    ///
    /// # Errors
    /// When the checkpoint is not signed by the key, or the proof does not lead from the record to it.
    pub fn check(&self, record: &[u8], key: &VerifierKey) -> Result<Proven, ProofError> {
        let checkpoint = Checkpoint::verify(&self.checkpoint, key)?;
        let leaf = Hash::of_leaf(record);
        check_inclusion(
            &self.path,
            self.index,
            leaf,
            checkpoint.size(),
            checkpoint.root(),
        )?;
        Ok(Proven {
            index: self.index,
            checkpoint,
        })
    }
}

/// Checks a proof in its text form: that the log has this record.
///
/// # Errors
/// When the text is no proof, the checkpoint is not signed by the key, or it does not hold.
pub fn check_proof(text: &str, record: &[u8], key: &VerifierKey) -> Result<Proven, ProofError> {
    text.parse::<InclusionProof>()?.check(record, key)
}

impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}\nindex {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for InclusionProof {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self, ProofError> {
        use ProofError::Malformed;
        if text.len() > note::LONGEST {
            return Err(Malformed("it is too long"));
        }
        let (head, checkpoint) = text.split_once("\n\n").ok_or(Malformed("no checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(Malformed("its first line is not `c2sp.org/tlog-proof@v1`"));
        }
        // Opaque to this log, and not authenticated.
        lines.next_if(|line| line.starts_with("extra "));
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .and_then(|digits| {
                digits
                    .parse::<u64>()
                    .ok()
                    .filter(|n| n.to_string() == digits)
            })
            .ok_or(Malformed("no index"))?;
        let path = lines
            .map(|line| Hash::parse(line).ok_or(Malformed("a line is no hash")))
            .take(LONGEST_PATH + 1)
            .collect::<Result<Vec<_>, _>>()?;
        if path.len() > LONGEST_PATH {
            return Err(Malformed("it has more hashes than any tree is high"));
        }
        Ok(Self {
            index,
            path,
            checkpoint: checkpoint.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::LogKey;
    use crate::tree::tests::mth;
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn leaves(size: u64) -> Vec<Hash> {
        (0..size).map(|i| Hash::of_leaf(&i.to_be_bytes())).collect()
    }

    fn of(leaves: &[Hash]) -> impl Nodes<Infallible> + '_ {
        |height, n| {
            Ok(mth(
                &leaves[(n << height) as usize..((n + 1) << height) as usize]
            ))
        }
    }

    /// PATH of RFC 6962 §2.1.1, word for word.
    fn path(m: usize, d: &[Hash]) -> Vec<Hash> {
        if d.len() == 1 {
            return Vec::new();
        }
        let k = d.len().next_power_of_two() / 2;
        let (mut path, other) = if m < k {
            (path(m, &d[..k]), &d[k..])
        } else {
            (path(m - k, &d[k..]), &d[..k])
        };
        path.push(mth(other));
        path
    }

    /// SUBPROOF of RFC 6962 §2.1.2, word for word.
    fn subproof(m: usize, d: &[Hash], b: bool) -> Vec<Hash> {
        if m == d.len() {
            return if b { Vec::new() } else { vec![mth(d)] };
        }
        let k = d.len().next_power_of_two() / 2;
        let (mut proof, other) = if m <= k {
            (subproof(m, &d[..k], b), &d[k..])
        } else {
            (subproof(m - k, &d[k..], false), &d[..k])
        };
        proof.push(mth(other));
        proof
    }

    #[test]
    fn every_leaf_of_every_size_is_proved() {
        let all = leaves(140);
        for size in (1..=140).filter(|size| *size < 70 || size % 7 == 0) {
            let tree = &all[..size as usize];
            let root = mth(tree);
            for index in 0..size {
                let proof = inclusion(index, size, &mut of(tree)).unwrap();
                assert_eq!(proof, path(index as usize, tree));
                let leaf = tree[index as usize];
                assert_eq!(check_inclusion(&proof, index, leaf, size, root), Ok(()));
                assert!(check_inclusion(&proof, index ^ 1, leaf, size, root).is_err());
                assert!(check_inclusion(&proof, index, Hash::of_nothing(), size, root).is_err());
            }
        }
    }

    #[test]
    fn every_pair_of_sizes_is_consistent() {
        const MOST: usize = 300;
        let all = leaves(MOST as u64);
        let roots: Vec<Hash> = (0..=MOST).map(|size| mth(&all[..size])).collect();
        for new in (0..=MOST).filter(|size| *size < 40 || size % 13 == 0) {
            for old in 0..=new {
                let proof = consistency(old as u64, new as u64, &mut of(&all)).unwrap();
                if old > 0 {
                    assert_eq!(proof, subproof(old, &all[..new], true));
                }
                let (from, to) = ((old as u64, roots[old]), (new as u64, roots[new]));
                assert_eq!(check_consistency(&proof, from, to), Ok(()), "{old} {new}");
                let wrong = Hash::of_leaf(b"wrong");
                assert!(check_consistency(&proof, (old as u64, wrong), to).is_err());
                assert!(old == 0 || check_consistency(&proof, from, (new as u64, wrong)).is_err());
                assert!(check_consistency(&[proof, vec![wrong]].concat(), from, to).is_err());
            }
        }
    }

    proptest! {
        #[test]
        fn a_tampered_proof_fails(
            size in 2u64..300, at: prop::sample::Index, hash: prop::sample::Index, byte in 0usize..32, bit in 0u8..8,
        ) {
            let all = leaves(size);
            let index = at.index(size as usize) as u64;
            let mut path = inclusion(index, size, &mut of(&all)).unwrap();
            let changed = hash.index(path.len());
            path[changed].0[byte] ^= 1 << bit;
            prop_assert!(check_inclusion(&path, index, all[index as usize], size, mth(&all)).is_err());
            path[changed].0[byte] ^= 1 << bit;
            let shorter = [&path[..changed], &path[changed + 1..]].concat();
            prop_assert!(check_inclusion(&shorter, index, all[index as usize], size, mth(&all)).is_err());

            let mut proof = consistency(index, size, &mut of(&all)).unwrap();
            prop_assume!(!proof.is_empty());
            let changed = hash.index(proof.len());
            proof[changed].0[byte] ^= 1 << bit;
            let old = (index, mth(&all[..index as usize]));
            prop_assert!(check_consistency(&proof, old, (size, mth(&all))).is_err());
        }

        #[test]
        fn checking_never_panics(index: u64, size: u64, old: u64, length in 0usize..70) {
            let path = vec![Hash::of_nothing(); length];
            let root = Hash::of_leaf(b"x");
            prop_assert!(check_inclusion(&path, index, root, size, Hash::of_nothing()).is_err());
            prop_assume!(old != size);
            prop_assert!(check_consistency(&path, (old, root), (size, Hash::of_nothing())).is_err());
        }

        #[test]
        fn reading_never_panics(text in "(c2sp.org/tlog-proof@v1\n)?(extra \\PC*\n)?(index [0-9]{1,22}\n)?\\PC{0,40}\n\n?\\PC*") {
            let _ = text.parse::<InclusionProof>();
        }
    }

    #[test]
    fn the_text_form_round_trips_and_proves() {
        let key = LogKey::generate("example.com/log").unwrap();
        let records: Vec<Vec<u8>> = (0..5u8).map(|i| vec![i]).collect();
        let leaves: Vec<Hash> = records.iter().map(|record| Hash::of_leaf(record)).collect();
        let checkpoint = Checkpoint::sign(5, mth(&leaves), &key);
        let path = inclusion(3, 5, &mut of(&leaves)).unwrap();
        let proof = InclusionProof {
            index: 3,
            path,
            checkpoint: checkpoint.note().to_owned(),
        };
        let text = proof.to_string();
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 3\n"));
        assert_eq!(text.parse(), Ok(proof));
        let proven = check_proof(&text, &records[3], key.verifier()).unwrap();
        assert_eq!(
            proven,
            Proven {
                index: 3,
                checkpoint
            }
        );
        assert_eq!(
            check_proof(&text, &records[2], key.verifier()),
            Err(ProofError::Wrong)
        );
        let with_extra = text.replacen("index", "extra AAAA\nindex", 1);
        assert!(check_proof(&with_extra, &records[3], key.verifier()).is_ok());
        for bad in [
            text.replace("index 3", "index 03"),
            text.replace("@v1", "@v2"),
            text.replace("\n\n", "\n"),
        ] {
            let refused = check_proof(&bad, &records[3], key.verifier());
            assert!(matches!(refused, Err(ProofError::Malformed(_))), "{bad}");
        }
    }
}
