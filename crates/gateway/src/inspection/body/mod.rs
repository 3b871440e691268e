//! Bodies of answers, whatever they are: JSON by its texts, other text as it is written and with its escapes
//! undone, and of everything else what is printable in it. What a body is declared to be is believed only
//! where nothing depends on it: a server can call JSON a picture.
//!
//! A whole body is looked at by [`Inspection::body`], one that is passed on as it comes by [`Passing`].

use std::borrow::Cow;

use monitor::content::Scan;
use serde::de::IgnoredAny;

use super::text::Texts;
use super::{About, Inspection, Verdict};

mod headers;
mod media;
mod passing;
mod undone;

pub use media::Media;
pub use passing::Passing;

use media::{Charset, Framing};
use undone::Undone;

/// Shortest run of printable characters in what is no text, in bytes.
const RUN: usize = 6;

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
        let Look { scan, other } = self.look(about, &part);
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
                let raw = self.as_it_stands(about, part.before, part.bytes);
                look.scan.absorb(raw);
                look
            }
            Charset::Unknown => {
                let mut scan = self.as_it_stands(about, part.before, bytes);
                let why = "The text is in characters that are not known here, or in more than one kind of them";
                self.note_not_all(about, &mut scan, why);
                Look { scan, other: None }
            }
        }
    }

    /// What is no text: what is printable in it. Nothing can be taken out of it.
    fn opaque(&self, about: &About<'_>, part: &Part<'_>) -> Look {
        let mut scan = self.as_it_stands(about, part.before, part.bytes);
        if !part.terms.opaque {
            let why = "The answer is no text: only what is printable in it was looked at";
            self.note_not_all(about, &mut scan, why);
        }
        Look { scan, other: None }
    }

    fn as_it_stands(&self, about: &About<'_>, before: &str, bytes: &[u8]) -> Scan {
        let text = printable(before, bytes);
        let mut scan = self.scan(about, &text);
        scan.whole_or_nothing();
        if let Some(undone) = Undone::of(&text) {
            let mut more = self.scan(about, &undone.text);
            more.whole_or_nothing();
            scan.absorb(more);
        }
        scan
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
            None => vec![Cut { from: 0, to: text.len(), is_json: true }],
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
            let changed = changed.map(|other| serde_json::from_slice::<String>(&other).unwrap_or_default());
            let now = changed.as_deref().unwrap_or(&text[cut.from..cut.to]);
            let undone = self.undone(about, now, &mut scan);
            if let Some(other) = undone.or(changed) {
                changes.push((cut.from, cut.to, other.into_bytes()));
            }
        }
        let other = (!changes.is_empty()).then(|| replaced(part.bytes, &changes));
        Look { scan, other }
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
        let own = own.map(|(start, end, instead)| (start.saturating_sub(shift), end - shift, instead));
        let own: Vec<_> = own.collect();
        let changed = (!own.is_empty()).then(|| taken_out(text, &own));
        let now = changed.as_deref().unwrap_or(text);
        let other = self.undone(about, now, &mut scan).or(changed);
        Look {
            scan,
            other: other.map(String::into_bytes),
        }
    }

    /// Looks at a text with its escapes undone; the text without what is to be taken out, if something is.
    fn undone(&self, about: &About<'_>, text: &str, scan: &mut Scan) -> Option<String> {
        let undone = Undone::of(text)?;
        let mut more = self.scan(about, &undone.text);
        let redactions = std::mem::take(&mut more.redactions);
        scan.absorb(more);
        let redactions = redactions.into_iter().map(|(start, end, instead)| {
            let (start, end) = undone.span(start, end);
            (start, end, instead)
        });
        let redactions: Vec<_> = redactions.collect();
        (!redactions.is_empty()).then(|| taken_out(text, &redactions))
    }
}

/// A text with parts replaced, which are in order.
fn taken_out(text: &str, redactions: &[(usize, usize, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (start, end, instead) in redactions {
        out.push_str(text.get(at..*start).unwrap_or_default());
        out.push_str(instead);
        at = at.max(*end);
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

/// A look whose part passes as it is, or not at all, unless it may be altered.
fn held(mut look: Look, alterable: bool) -> Look {
    if !alterable && look.other.take().is_some() {
        look.scan.withhold();
    }
    look
}

/// A document in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    from: usize,
    to: usize,
    is_json: bool,
}

/// The lines of a text: each that is JSON, if need be behind the name of a field, is a document; what lies
/// between them is one together.
fn cuts(text: &str) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let mut plain = 0;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let end = at + line.len();
        // `data: {…}`, and the record separator of RFC 7464.
        let value = line.strip_prefix("data:").unwrap_or(line);
        let value = value.trim_start_matches(['\u{1e}', ' ', '\t']);
        let from = end - value.len();
        if is_json(value) {
            if plain < from {
                cuts.push(Cut { from: plain, to: from, is_json: false });
            }
            cuts.push(Cut { from, to: end, is_json: true });
            plain = end;
        }
        at = end;
    }
    if plain < text.len() {
        cuts.push(Cut { from: plain, to: text.len(), is_json: false });
    }
    cuts
}

/// Whether a text is one JSON document with texts in it. What is nested so deeply that it is not read is
/// looked at as it is written.
fn is_json(text: &str) -> bool {
    let begins = text.trim_start().as_bytes().first();
    matches!(begins, Some(b'{' | b'[' | b'"')) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Whether bytes are text: in UTF-8, or at least declared to be text.
fn is_readable(bytes: &[u8], media: &Media) -> bool {
    let is_utf8 = || match std::str::from_utf8(bytes) {
        Ok(_) => true,
        // A character may be cut apart at the end of what came.
        Err(error) => error.error_len().is_none(),
    };
    !bytes.contains(&0) && (media.is_text() || is_utf8())
}

/// Bytes as text of the same length: what is no UTF-8 is `?`.
fn same_length(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    Cow::Owned(text)
}

/// What is printable in bytes that are no text, each run on a line; NULs are passed over, so that UTF-16 is
/// read as far as it is of ASCII.
fn printable(before: &str, bytes: &[u8]) -> String {
    let mut text = before.to_owned();
    let mut run = String::new();
    let mut end = |run: &mut String| {
        if run.len() >= RUN {
            text.push('\n');
            text.push_str(run);
        }
        run.clear();
    };
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars().filter(|character| *character != '\0') {
            if character.is_control() && !character.is_ascii_whitespace() {
                end(&mut run);
            } else {
                run.push(character);
            }
        }
        if !chunk.invalid().is_empty() {
            end(&mut run);
        }
    }
    end(&mut run);
    text
}

fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', ""))
    } else {
        Cow::Borrowed(text)
    }
}

/// Bytes with parts replaced; the parts are in order and do not overlap.
fn replaced(bytes: &[u8], changes: &[(usize, usize, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    for (from, to, other) in changes {
        out.extend_from_slice(&bytes[at..*from]);
        out.extend_from_slice(other);
        at = *to;
    }
    out.extend_from_slice(&bytes[at..]);
    out
}

#[cfg(test)]
mod tests;
