//! What came at one place of an answer, as far as it is kept: its beginning, its end, and what was not
//! looked at yet.

use sha2::{Digest as _, Sha256};

use super::Spot;

/// How much is collected before it is looked at, in bytes.
pub(super) const WINDOW: usize = 2 << 10;
/// How much of what was looked at is looked at again with what follows, in bytes: what lies across a
/// border is found if it is not longer.
pub(super) const OVERLAP: usize = 512;

/// A text that is collected, with the end of what was looked at.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) text: String,
    /// How much of the text was looked at before.
    pub(super) looked: usize,
}

impl Window {
    pub(super) fn is_due(&self) -> bool {
        self.text.len() - self.looked >= WINDOW
    }

    pub(super) fn has_more(&self) -> bool {
        self.text.len() > self.looked
    }

    /// All of it was looked at: only its end is kept.
    pub(super) fn done(&mut self) {
        let end = self.text.len().saturating_sub(OVERLAP);
        let keep = self.text.floor_char_boundary(end);
        self.text.drain(..keep);
        self.looked = self.text.len();
    }
}

/// What came at one place.
#[derive(Debug)]
pub(super) struct Strand {
    pub(super) place: Spot,
    /// Its beginning, and its end.
    pub(super) head: String,
    pub(super) tail: String,
    pub(super) bytes: usize,
    hash: Sha256,
    /// The hash of what was looked at as a whole.
    pub(super) looked_at: Option<[u8; 32]>,
    /// The piece that came last, hashed; where that matters.
    pub(super) last: Option<u64>,
    /// Where it is collected by itself, once something else came in between.
    pub(super) own: Option<Window>,
}

impl Strand {
    pub(super) fn new(place: Spot) -> Self {
        Self {
            place,
            head: String::new(),
            tail: String::new(),
            bytes: 0,
            hash: Sha256::new(),
            looked_at: None,
            last: None,
            own: None,
        }
    }

    pub(super) fn note(&mut self, piece: &str) {
        if self.bytes == self.head.len() && self.head.len() < OVERLAP {
            let room = OVERLAP - self.head.len();
            self.head
                .push_str(&piece[..piece.floor_char_boundary(room)]);
        }
        self.tail.push_str(end_of(piece));
        let gone = self.tail.len() - end_of(&self.tail).len();
        self.tail.drain(..gone);
        self.bytes += piece.len();
        self.hash.update(piece);
        self.looked_at = None;
    }

    /// All of it was looked at.
    pub(super) fn looked_at(&mut self) {
        let hash = || self.hash.clone().finalize().into();
        self.looked_at.get_or_insert_with(hash);
    }

    /// Where it is collected by itself.
    pub(super) fn apart(&mut self) -> &mut Window {
        let tail = &self.tail;
        self.own.get_or_insert_with(|| Window {
            text: tail.clone(),
            looked: tail.len(),
        })
    }

    /// Its text, or its beginning and its end.
    pub(super) fn ends(&self, text: &mut String) {
        text.push_str(&self.head);
        let both = self.head.len() + self.tail.len();
        match both.checked_sub(self.bytes) {
            Some(twice) => text.push_str(self.tail.get(twice..).unwrap_or_default()),
            None => {
                text.push('\n');
                text.push_str(&self.tail);
            }
        }
    }
}

/// The last bytes of a text that are looked at again.
pub(super) fn end_of(text: &str) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(OVERLAP))..]
}
