//! A body that is looked at while it passes: nothing of it leaves before what it belongs to was looked at.
//!
//! What belongs together is an event, a line, or, where a server pauses in the middle of a line of text, the
//! words that are complete; a private key to its end. So a credential is never cut apart by the pieces in
//! which it comes, however slowly they do. A line that is too long to be held is looked at through a window
//! that moves on by all but its last part.
//!
//! What no window sees: what is spread over several events or lines by a server that means to (a canary is
//! known all the same, if nothing but signs lies between its parts), conditions of rules whose parts lie
//! further apart than what is looked at again, and encodings that begin before the window.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use model::Denial;
use monitor::Finding;
use monitor::content::{NOT_ALL, Scan};
use serde::de::IgnoredAny;

use super::forms::{is_readable, printable, same_length, taken_out};
use super::media::{Charset, Framing};
use super::undone::Undone;
use super::{Look, Media, Part, Terms};
use crate::inspection::follow::Told;
use crate::inspection::{About, Inspection, Verdict};

/// Longest event or line that is held until it is complete, in bytes.
const HELD: usize = 64 << 10;
/// How much of a longer one stays behind each time, in bytes: more than any credential is long.
const OVERLAP: usize = 4 << 10;
/// How much of what has passed is looked at again with what follows, in bytes.
const AGAIN: usize = 1 << 10;

/// A body on its way.
pub struct Passing {
    inspection: Arc<Inspection>,
    media: Media,
    terms: Terms,
    framing: Framing,
    held: Vec<u8>,
    /// How far the held bytes were searched for an end.
    searched: usize,
    /// The end of what has passed.
    before: String,
    told: Told,
    /// Whether it is no text by its beginning: then none of it is taken for text.
    is_binary: bool,
    /// Whether it was reported that not all of it can be looked at: that is said once.
    is_told: bool,
}

impl Inspection {
    /// Begins to look at a body that is passed on as it comes.
    #[must_use]
    pub fn passing(self: &Arc<Self>, media: Media, terms: Terms) -> Passing {
        // In pieces other characters cannot be told from each other.
        let media = match media.charset {
            Charset::Other(_) => Media {
                charset: Charset::Unknown,
                ..media
            },
            Charset::Utf8 | Charset::Unknown => media,
        };
        Passing {
            inspection: Arc::clone(self),
            framing: media.framing(),
            is_binary: !terms.alterable && !media.is_text() && media.charset == Charset::Utf8,
            media,
            terms,
            held: Vec::new(),
            searched: 0,
            before: String::new(),
            told: Told::default(),
            is_told: false,
        }
    }
}

impl Passing {
    /// Takes in the next bytes; those that may leave.
    ///
    /// # Errors
    /// The denial when the body must not go on.
    pub fn push(&mut self, about: &About<'_>, bytes: &[u8]) -> Result<Bytes, Denial> {
        self.held.extend_from_slice(bytes);
        let mut out = Vec::new();
        let ready = self.ready();
        if ready > 0 {
            self.release(about, ready, &mut out)?;
        }
        while self.held.len() > HELD {
            self.window(about, &mut out)?;
        }
        Ok(out.into())
    }

    /// Whether something is held, so that a pause may let it leave.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Nothing came for a while: words and documents that are complete may leave.
    ///
    /// # Errors
    /// The denial when the body must not go on.
    pub fn pause(&mut self, about: &About<'_>) -> Result<Bytes, Denial> {
        let complete = match self.framing {
            Framing::Events => 0,
            Framing::Lines => documents(&self.held),
            Framing::Text => self.words(),
        };
        let mut out = Vec::new();
        if complete > 0 {
            self.release(about, complete, &mut out)?;
        }
        Ok(out.into())
    }

    /// Nothing more comes: what is left.
    ///
    /// # Errors
    /// The denial when it must not leave.
    pub fn end(&mut self, about: &About<'_>) -> Result<Bytes, Denial> {
        let mut out = Vec::new();
        if !self.held.is_empty() {
            self.release(about, self.held.len(), &mut out)?;
        }
        Ok(out.into())
    }

    /// A whole message among others, such as one of a WebSocket.
    #[must_use]
    pub fn message(&mut self, about: &About<'_>, media: &Media, bytes: &[u8]) -> Verdict<Vec<u8>> {
        let part = Part {
            media,
            terms: self.terms,
            before: &self.before,
            framing: None,
            bytes,
        };
        let Look { scan, other, .. } = self.inspection.look(about, &part);
        match self.judge(about, scan, bytes.len()) {
            Err(denial) => Verdict::Blocked(denial),
            Ok(()) => {
                self.passed(other.as_deref().unwrap_or(bytes));
                other.map_or(Verdict::Pass, Verdict::Redacted)
            }
        }
    }

    /// How much of what is held is complete.
    fn ready(&mut self) -> usize {
        let from = self.searched.saturating_sub(3);
        self.searched = self.held.len();
        let new = &self.held[from..];
        let end = match self.framing {
            Framing::Events => last_end_of_event(new),
            Framing::Lines | Framing::Text => {
                new.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1)
            }
        };
        end.map_or(0, |end| before_key(&self.held, from + end))
    }

    /// How much of it is complete words.
    fn words(&self) -> usize {
        let end = self.held.iter().rposition(u8::is_ascii_whitespace);
        end.map_or(0, |at| before_key(&self.held, at + 1))
    }

    /// Looks at the first bytes that are held, and lets them leave.
    fn release(&mut self, about: &About<'_>, end: usize, out: &mut Vec<u8>) -> Result<(), Denial> {
        let rest = self.held.split_off(end);
        let bytes = std::mem::replace(&mut self.held, rest);
        self.searched = self.held.len();
        let part = Part {
            media: &self.media,
            terms: self.terms,
            before: &self.before,
            framing: Some(self.framing),
            bytes: &bytes,
        };
        let Look { scan, other, .. } = match self.is_binary {
            true => self.inspection.opaque(about, &part),
            false => self.inspection.look(about, &part),
        };
        self.judge(about, scan, bytes.len())?;
        self.leave(out, other.as_deref().unwrap_or(&bytes));
        Ok(())
    }

    /// Looks at what is held, which does not end for long, and lets all but its end leave.
    fn window(&mut self, about: &About<'_>, out: &mut Vec<u8>) -> Result<(), Denial> {
        let is_text = !self.is_binary
            && self.media.charset == Charset::Utf8
            && is_readable(&self.held, &self.media);
        let held = if is_text {
            same_length(&self.held)
        } else {
            Cow::Owned(printable("", &self.held))
        };
        let shift = self.before.len();
        let mut scan = self
            .inspection
            .scan(about, &format!("{}{held}", self.before));
        let mut spans: Vec<_> = std::mem::take(&mut scan.redactions)
            .into_iter()
            .filter(|(_, end, _)| *end > shift)
            .map(|(start, end, instead)| (start.saturating_sub(shift), end - shift, instead))
            .collect();
        if let Some(undone) = Undone::of(&held) {
            let mut more = self.inspection.scan(about, &undone.text);
            spans.extend(std::mem::take(&mut more.redactions).into_iter().map(
                |(start, end, instead)| {
                    let (start, end) = undone.span(start, end);
                    (start, end, instead)
                },
            ));
            scan.absorb(more);
        }
        if !self.terms.opaque {
            let why = "A line of the answer is so long that it was looked at in parts";
            self.inspection.note_not_all(about, &mut scan, why);
        }
        scan.redactions = spans;
        if !is_text || !self.terms.alterable {
            scan.whole_or_nothing();
        }
        let mut cut = self.held.len() - OVERLAP;
        if is_text {
            cut = before(&held, cut, &scan.redactions);
        }
        if cut == 0 {
            scan.withhold();
        }
        let leaving = scan
            .redactions
            .iter()
            .filter(|(_, end, _)| *end <= cut)
            .cloned();
        let mut leaving: Vec<_> = leaving.collect();
        leaving.sort();
        let other = (!leaving.is_empty()).then(|| taken_out(&held[..cut], &leaving));
        drop(held);
        scan.redactions.clear();
        self.judge(about, scan, cut)?;
        let rest = self.held.split_off(cut);
        let bytes = std::mem::replace(&mut self.held, rest);
        self.searched = self.held.len();
        self.leave(out, other.as_deref().map_or(&bytes, str::as_bytes));
        Ok(())
    }

    fn judge(&mut self, about: &About<'_>, scan: Scan, length: usize) -> Result<(), Denial> {
        let (told, is_told) = (&mut self.told, &mut self.is_told);
        told.bytes = told.bytes.saturating_add(length as u64);
        let is_new = |finding: &Finding| {
            let again = finding.rule == NOT_ALL && std::mem::replace(is_told, true);
            !again && told.is_new(finding)
        };
        self.inspection
            .judged(about, scan, is_new, |_| ())
            .taken()
            .map(drop)
    }

    fn leave(&mut self, out: &mut Vec<u8>, bytes: &[u8]) {
        self.passed(bytes);
        out.extend_from_slice(bytes);
    }

    /// Remembers the end of what has passed.
    fn passed(&mut self, bytes: &[u8]) {
        let end = &bytes[bytes.len().saturating_sub(AGAIN)..];
        self.before
            .push_str(&String::from_utf8_lossy(end).replace('\0', ""));
        let from = self.before.len().saturating_sub(AGAIN);
        let from = self.before.ceil_char_boundary(from);
        self.before.drain(..from);
    }
}

/// How long bytes are that are complete JSON documents and nothing else.
fn documents(held: &[u8]) -> usize {
    let mut all = serde_json::Deserializer::from_slice(held).into_iter::<IgnoredAny>();
    if all.all(|one| one.is_ok()) {
        held.len()
    } else {
        0
    }
}

/// Where the last event ends, with its empty line.
fn last_end_of_event(bytes: &[u8]) -> Option<usize> {
    let ends: [&[u8]; 3] = [b"\n\n", b"\n\r\n", b"\r\r"];
    let last = |end: &&[u8]| {
        let at = bytes.windows(end.len()).rposition(|window| window == *end);
        at.map(|at| at + end.len())
    };
    ends.iter().filter_map(last).max()
}

/// A position up to `end` that does not lie in a private key whose end has not come: the line where it begins.
fn before_key(held: &[u8], end: usize) -> usize {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const END: &[u8] = b"-----END ";
    let find = |what: &[u8]| {
        held[..end]
            .windows(what.len())
            .rposition(|window| window == what)
    };
    match (find(BEGIN), find(END)) {
        (Some(begin), after) if after.is_none_or(|after| after < begin) => {
            let line = held[..begin].iter().rposition(|byte| *byte == b'\n');
            line.map_or(0, |at| at + 1)
        }
        _ => end,
    }
}

/// A position up to `cut` where a text can be cut: at the end of a word if there is one nearby, and not in what
/// is taken out.
fn before(text: &str, cut: usize, spans: &[(usize, usize, String)]) -> usize {
    let cut = text.floor_char_boundary(cut);
    let near = text.floor_char_boundary(cut.saturating_sub(OVERLAP));
    let word = text[near..cut]
        .rfind(char::is_whitespace)
        .map(|at| near + at);
    let cut = word.filter(|at| *at > 0).unwrap_or(cut);
    let across = spans
        .iter()
        .filter(|(start, end, _)| *start < cut && cut < *end);
    across.map(|(start, _, _)| *start).min().unwrap_or(cut)
}
