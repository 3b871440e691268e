//! Bodies of answers, whatever they are: JSON by its texts, other text as it is written and with its escapes
//! undone, and of everything else what is printable in it. What a body is declared to be is believed only
//! where nothing depends on it: a server can call JSON a picture.
//!
//! A whole body is looked at by [`Inspection::body`], one that is passed on as it comes by [`Passing`].

use std::borrow::Cow;

use monitor::content::Scan;

use super::text::Texts;
use super::{About, Inspection, Verdict};

mod forms;
mod headers;
mod media;
mod passing;
mod undone;

pub use media::Media;
pub use passing::Passing;

use forms::{
    Cut, cuts, is_json, is_readable, printable, replaced, same_length, taken_out, without_nul,
};
use media::{Charset, Framing};
use undone::Undone;

/// What may be done with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Whether something may be taken out of it. A part of a body, and what is no text, is passed on as it is
    /// or not at all.
    pub alterable: bool,
    /// Whether it may be what nobody can look into, and nothing is to be said of that.
    pub opaque: bool,
}

/// What a look at a part of a body saw.
struct Look {
    /// Its redactions are carried out already.
    scan: Scan,
    /// The part with something taken out, if something was.
    other: Option<Vec<u8>>,
    /// How much was taken out.
    taken: usize,
}

impl Look {
    /// At what passes as it is, or not at all.
    fn unaltered(scan: Scan) -> Self {
        Self {
            scan,
            other: None,
            taken: 0,
        }
    }
}

/// What a part of a body is, and what it is looked at with.
struct Part<'a> {
    media: &'a Media,
    terms: Terms,
    /// What came before it, as far as that is looked at again.
    before: &'a str,
    /// How it may be cut into documents; all of it is one if absent.
    framing: Option<Framing>,
    bytes: &'a [u8],
}

impl Media {
    /// Whether a body of this kind that begins like this is text, out of which something can be taken while it
    /// passes.
    #[must_use]
    pub fn is_alterable(&self, beginning: &[u8]) -> bool {
        match self.charset_of(beginning) {
            Charset::Utf8 if beginning.is_empty() => self.is_text(),
            Charset::Utf8 => is_readable(beginning, self),
            Charset::Other(_) | Charset::Unknown => false,
        }
    }
}

impl Inspection {
    /// Whether nothing that could be seen in an answer would change anything.
    #[must_use]
    pub fn is_idle(&self, about: &About<'_>) -> bool {
        self.rules.load().policy(about).is_idle()
    }

    /// Whether what cannot be looked at as a whole does not pass, so that a body had better be waited for.
    #[must_use]
    pub fn is_strict(&self, about: &About<'_>) -> bool {
        let rules = self.rules.load();
        rules.policy(about).unscanned == model::inspection::Response::Block
    }

    /// Looks at a whole body. One in characters other than UTF-8 is in UTF-8 when something was taken out of
    /// it.
    #[must_use]
    pub fn body(
        &self,
        about: &About<'_>,
        media: &Media,
        terms: Terms,
        bytes: &[u8],
    ) -> Verdict<Vec<u8>> {
        let part = Part {
            media,
            terms,
            before: "",
            framing: None,
            bytes,
        };
        let Look { scan, other, .. } = self.look(about, &part);
        match self.judge(about, scan, |_| ()).taken() {
            Err(denial) => Verdict::Blocked(denial),
            Ok(_) => other.map_or(Verdict::Pass, Verdict::Redacted),
        }
    }

    fn look(&self, about: &About<'_>, part: &Part<'_>) -> Look {
        let bytes = part.bytes;
        match part.media.charset_of(bytes) {
            Charset::Utf8 if is_readable(bytes, part.media) => {
                let look = self.documents_of(about, part);
                held(look, part.terms.alterable)
            }
            Charset::Utf8 => self.opaque(about, part),
            Charset::Other(encoding) => {
                // Decoded as its readers do; and as it stands, since some do not.
                let (text, _, _) = encoding.decode(bytes);
                let text = without_nul(&text);
                let bytes = text.as_bytes();
                let look = self.documents_of(about, &Part { bytes, ..*part });
                let mut look = held(look, part.terms.alterable);
                let (mut raw, to_take_out) = self.as_it_stands(about, part.before, part.bytes);
                // More than was taken out of the text that it is said to be.
                if to_take_out > look.taken {
                    raw.withhold();
                }
                look.scan.absorb(raw);
                look
            }
            Charset::Unknown => {
                let mut scan = self.all_as_it_stands(about, part.before, bytes);
                let why = "The text is in characters that are not known here, or in more than one kind of them";
                self.note_not_all(about, &mut scan, why);
                Look::unaltered(scan)
            }
        }
    }

    /// What is no text: what is printable in it. Nothing can be taken out of it.
    fn opaque(&self, about: &About<'_>, part: &Part<'_>) -> Look {
        let mut scan = self.all_as_it_stands(about, part.before, part.bytes);
        if !part.terms.opaque {
            let why = "The answer is no text: only what is printable in it was looked at";
            self.note_not_all(about, &mut scan, why);
        }
        Look::unaltered(scan)
    }

    /// What is printable in bytes, which pass as they are or not at all.
    fn all_as_it_stands(&self, about: &About<'_>, before: &str, bytes: &[u8]) -> Scan {
        let (mut scan, to_take_out) = self.as_it_stands(about, before, bytes);
        if to_take_out > 0 {
            scan.withhold();
        }
        scan
    }

    /// What is printable in bytes, and how much would have to be taken out of it.
    fn as_it_stands(&self, about: &About<'_>, before: &str, bytes: &[u8]) -> (Scan, usize) {
        let text = printable(before, bytes);
        let mut scan = self.scan(about, &text);
        let mut to_take_out = std::mem::take(&mut scan.redactions).len();
        if let Some(undone) = Undone::of(&text) {
            let more = self.scan(about, &undone.text);
            to_take_out = to_take_out.max(more.redactions.len());
            scan.absorb(more);
        }
        (scan, to_take_out)
    }

    fn note_not_all(&self, about: &About<'_>, scan: &mut Scan, why: &str) {
        let rules = self.rules.load();
        scan.not_all(&rules.policy(about), why.to_owned());
    }

    /// Text, cut into documents: JSON is read by its texts, everything else as it is written.
    fn documents_of(&self, about: &About<'_>, part: &Part<'_>) -> Look {
        let text = same_length(part.bytes);
        let cuts = match part.framing {
            None if !is_json(&text) => return self.plain(about, part, &text),
            None => vec![Cut {
                from: 0,
                to: text.len(),
                is_json: true,
            }],
            Some(_) => cuts(&text),
        };
        // What is no JSON is looked at as one text of it.
        let documents: Vec<Cow<'_, [u8]>> = cuts
            .iter()
            .map(|cut| {
                let piece = &text[cut.from..cut.to];
                if cut.is_json {
                    Cow::Borrowed(piece.as_bytes())
                } else {
                    Cow::Owned(serde_json::to_vec(piece).unwrap_or_default())
                }
            })
            .collect();
        let documents: Vec<&[u8]> = documents.iter().map(|document| &**document).collect();
        let texts = Texts::sorted(part.before, &documents, None);
        let mut scan = self.scan(about, &texts.joined);
        let redactions = std::mem::take(&mut scan.redactions);
        let mut taken = redactions.len();
        let mut changes: Vec<(usize, usize, Vec<u8>)> = Vec::new();
        for (number, cut) in cuts.iter().enumerate() {
            let changed = match redactions.is_empty() {
                true => None,
                false => texts.replaced(number, documents[number], &redactions),
            };
            if cut.is_json {
                changes.extend(changed.map(|other| (cut.from, cut.to, other)));
                continue;
            }
            let changed =
                changed.map(|other| serde_json::from_slice::<String>(&other).unwrap_or_default());
            let now = changed.as_deref().unwrap_or(&text[cut.from..cut.to]);
            let undone = self.undone(about, now, &mut scan, &mut taken);
            if let Some(other) = undone.or(changed) {
                changes.push((cut.from, cut.to, other.into_bytes()));
            }
        }
        let other = (!changes.is_empty()).then(|| replaced(part.bytes, &changes));
        Look { scan, other, taken }
    }

    /// A text that is no JSON, all of it.
    fn plain(&self, about: &About<'_>, part: &Part<'_>, text: &str) -> Look {
        let joined = match part.before {
            "" => Cow::Borrowed(text),
            before => Cow::Owned(format!("{before}\n{text}")),
        };
        let mut scan = self.scan(about, &joined);
        let shift = joined.len() - text.len();
        let own = std::mem::take(&mut scan.redactions).into_iter();
        let own = own.filter(|(_, end, _)| *end > shift);
        let own =
            own.map(|(start, end, instead)| (start.saturating_sub(shift), end - shift, instead));
        let own: Vec<_> = own.collect();
        let mut taken = own.len();
        let changed = (!own.is_empty()).then(|| taken_out(text, &own));
        let now = changed.as_deref().unwrap_or(text);
        let undone = self.undone(about, now, &mut scan, &mut taken);
        Look {
            scan,
            other: undone.or(changed).map(String::into_bytes),
            taken,
        }
    }

    /// Looks at a text with its escapes undone; the text without what is to be taken out, if something is.
    fn undone(
        &self,
        about: &About<'_>,
        text: &str,
        scan: &mut Scan,
        taken: &mut usize,
    ) -> Option<String> {
        let undone = Undone::of(text)?;
        let mut more = self.scan(about, &undone.text);
        let redactions = std::mem::take(&mut more.redactions);
        scan.absorb(more);
        let redactions = redactions.into_iter().map(|(start, end, instead)| {
            let (start, end) = undone.span(start, end);
            (start, end, instead)
        });
        let redactions: Vec<_> = redactions.collect();
        *taken += redactions.len();
        (!redactions.is_empty()).then(|| taken_out(text, &redactions))
    }
}

/// A look whose part passes as it is, or not at all, unless it may be altered.
fn held(mut look: Look, alterable: bool) -> Look {
    if !alterable && look.other.take().is_some() {
        look.scan.withhold();
    }
    look
}

#[cfg(test)]
mod tests;
