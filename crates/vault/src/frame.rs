//! One frame of a segment: what it says, and how it is written.
//!
//! | frame | bytes |
//! | --- | --- |
//! | marker: the segment's nonce | 8 |
//! | kind, zero, length of the head, length of the body | 1 + 1 + 2 + 4 |
//! | head: JSON | |
//! | digest of the nonce, the lengths and the head | 16 |
//! | body | |
//!
//! Numbers are big-endian; digests are the first half of SHA-256. The body of a payload is the nonce of
//! AES-256-GCM-SIV (RFC 8452), the ciphertext and its tag; the head is authenticated with it. So heads can
//! be read, and payloads counted, without any key.

use jiff::Timestamp;
use model::{AgentName, DecisionId, TaskId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The marker of a segment's frames: random, so that no content passes for a frame.
pub(crate) type Marker = [u8; 8];
/// Bytes before the head.
pub(crate) const PREFIX: usize = 16;
/// Bytes of a digest.
pub(crate) const DIGEST: usize = 16;
/// Longest head, in bytes.
const LONGEST_HEAD: usize = 1 << 10;
/// Longest body, in bytes: a payload of the largest length that can be configured, sealed.
pub(crate) const LONGEST_BODY: usize = (64 << 20) + 64;

/// What a payload is, in clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The task whose key it is sealed with.
    pub task: TaskId,
    /// The agent whose work it is.
    pub agent: AgentName,
    /// The decision that permitted what it is part of.
    pub decision: DecisionId,
    /// Which part of it: `request`, `arguments` or `answer`.
    pub part: String,
    /// When it was sealed.
    pub time: Timestamp,
    /// The length of the whole payload, in bytes.
    pub bytes: u64,
    /// How much of it is kept, from its beginning.
    pub kept: u64,
    /// HMAC-SHA-256 of the whole payload, keyed with the task's salt, in hexadecimal, as in the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// What kind of frame it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A payload.
    Payload,
    /// How much of which task is in the segment; the last frame of one that is complete.
    Tally,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Payload => 1,
            Self::Tally => 2,
        }
    }
}

/// The beginning of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) kind: Kind,
    /// Length of the head, in bytes.
    pub(crate) head: usize,
    /// Length of the body, in bytes.
    pub(crate) body: usize,
}

impl Prefix {
    /// Reads what a frame begins with; `None` when it is none of this segment's.
    pub(crate) fn read(bytes: &[u8; PREFIX], marker: &Marker) -> Option<Self> {
        let (found, lengths) = bytes.split_at(8);
        let kind = [Kind::Payload, Kind::Tally]
            .into_iter()
            .find(|kind| kind.byte() == lengths[0])?;
        let prefix = Self {
            kind,
            head: usize::from(u16::from_be_bytes([lengths[2], lengths[3]])),
            body: u32::from_be_bytes([lengths[4], lengths[5], lengths[6], lengths[7]]) as usize,
        };
        let plausible = found == marker
            && lengths[1] == 0
            && prefix.head <= LONGEST_HEAD
            && prefix.body <= LONGEST_BODY;
        plausible.then_some(prefix)
    }

    /// The length of the whole frame, in bytes.
    pub(crate) fn frame(&self) -> usize {
        PREFIX + self.head + DIGEST + self.body
    }
}

/// The first half of SHA-256.
pub(crate) fn digest(parts: &[&[u8]]) -> [u8; DIGEST] {
    let hash = parts
        .iter()
        .fold(Sha256::new(), |hash, part| hash.chain_update(part))
        .finalize();
    let mut half = [0; DIGEST];
    half.copy_from_slice(&hash[..DIGEST]);
    half
}

/// Writes a frame behind what is in `into`.
pub(crate) fn write(into: &mut Vec<u8>, marker: &Marker, kind: Kind, head: &[u8], body: &[u8]) {
    let mut lengths = [kind.byte(), 0, 0, 0, 0, 0, 0, 0];
    let head_length = u16::try_from(head.len()).expect("heads are shorter than LONGEST_HEAD");
    let body_length = u32::try_from(body.len()).expect("bodies are shorter than LONGEST_BODY");
    lengths[2..4].copy_from_slice(&head_length.to_be_bytes());
    lengths[4..8].copy_from_slice(&body_length.to_be_bytes());
    into.reserve(PREFIX + head.len() + DIGEST + body.len());
    into.extend_from_slice(marker);
    into.extend_from_slice(&lengths);
    into.extend_from_slice(head);
    into.extend_from_slice(&digest(&[marker, &lengths, head]));
    into.extend_from_slice(body);
}

/// Whether a head is the one that was written: `rest` is the head and its digest.
pub(crate) fn check<'a>(bytes: &[u8; PREFIX], rest: &'a [u8]) -> Option<&'a [u8]> {
    let (head, sum) = rest.split_at_checked(rest.len().checked_sub(DIGEST)?)?;
    let (marker, lengths) = bytes.split_at(8);
    (digest(&[marker, lengths, head]) == *sum).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            marker in any::<Marker>(), tally in any::<bool>(),
            head in proptest::collection::vec(any::<u8>(), 0..300),
            body in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let kind = if tally { Kind::Tally } else { Kind::Payload };
            let mut frame = Vec::new();
            write(&mut frame, &marker, kind, &head, &body);
            let prefix: [u8; PREFIX] = frame[..PREFIX].try_into().unwrap();
            let read = Prefix::read(&prefix, &marker).unwrap();
            prop_assert_eq!(read, Prefix { kind, head: head.len(), body: body.len() });
            prop_assert_eq!(read.frame(), frame.len());
            let rest = &frame[PREFIX..PREFIX + head.len() + DIGEST];
            prop_assert_eq!(check(&prefix, rest), Some(&head[..]));
        }

        #[test]
        fn a_changed_head_is_noticed(at in 0_usize..80, bit in 0_u8..8) {
            let marker = [7; 8];
            let mut frame = Vec::new();
            write(&mut frame, &marker, Kind::Payload, &[b'h'; 48], b"body");
            frame[at] ^= 1 << bit;
            let prefix: [u8; PREFIX] = frame[..PREFIX].try_into().unwrap();
            let noticed = match Prefix::read(&prefix, &marker) {
                None => true,
                Some(read) if read.head != 48 => true,
                Some(_) => check(&prefix, &frame[PREFIX..PREFIX + 48 + DIGEST]).is_none(),
            };
            prop_assert!(noticed);
        }
    }
}
