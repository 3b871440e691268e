//! Texts that come in pieces, such as the answer of a model as it is written.

use std::sync::Arc;

use super::{About, Inspection, Verdict};
use model::Denial;

/// How much is collected before it is looked at, in bytes.
const WINDOW: usize = 2 << 10;
/// How much of what was looked at is looked at again with what follows, in bytes: what lies across the
/// border of two windows is found if it is not longer.
const OVERLAP: usize = 512;

/// Looks at a text that comes in pieces. Its pieces have passed already when something is seen in
/// several of them, so nothing can be taken out: what is to be redacted is reported, what is to be
/// blocked ends the text.
pub struct Following {
    inspection: Arc<Inspection>,
    text: String,
    /// How much of the text was looked at before.
    known: usize,
}

impl Following {
    pub(super) fn new(inspection: Arc<Inspection>) -> Self {
        Self {
            inspection,
            text: String::new(),
            known: 0,
        }
    }

    /// Takes in the next piece.
    ///
    /// # Errors
    /// The denial when the text must not go on.
    pub fn push(&mut self, about: &About<'_>, piece: &str) -> Result<(), Denial> {
        self.text.push_str(piece);
        if self.text.len() - self.known < WINDOW {
            return Ok(());
        }
        self.look(about)
    }

    /// Looks at what is left at the end.
    ///
    /// # Errors
    /// The denial when the text must not go on.
    pub fn end(&mut self, about: &About<'_>) -> Result<(), Denial> {
        if self.text.len() == self.known {
            return Ok(());
        }
        self.look(about)
    }

    fn look(&mut self, about: &About<'_>) -> Result<(), Denial> {
        let verdict = self.inspection.text(about, &self.text);
        let mut keep = self.text.len().saturating_sub(OVERLAP);
        while !self.text.is_char_boundary(keep) {
            keep -= 1;
        }
        self.text.drain(..keep);
        self.known = self.text.len();
        match verdict {
            Verdict::Pass | Verdict::Redacted(_) => Ok(()),
            Verdict::Blocked(denial) => Err(denial),
        }
    }
}
