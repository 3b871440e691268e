//! Bytes as texts: as documents, as text of the same length, and as what is printable in them.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::Media;

/// Shortest run of printable characters in what is no text, in bytes.
const RUN: usize = 6;

/// A text with parts replaced, which are in order.
pub(super) fn taken_out(text: &str, redactions: &[(usize, usize, String)]) -> String {
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

/// A document in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) is_json: bool,
}

/// The lines of a text: each that is JSON, if need be behind the name of a field, is a document; what lies
/// between them is one together.
pub(super) fn cuts(text: &str) -> Vec<Cut> {
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
                cuts.push(Cut {
                    from: plain,
                    to: from,
                    is_json: false,
                });
            }
            cuts.push(Cut {
                from,
                to: end,
                is_json: true,
            });
            plain = end;
        }
        at = end;
    }
    if plain < text.len() {
        cuts.push(Cut {
            from: plain,
            to: text.len(),
            is_json: false,
        });
    }
    cuts
}

/// Whether a text is one JSON document with texts in it. What is nested so deeply that it is not read is
/// looked at as it is written.
pub(super) fn is_json(text: &str) -> bool {
    let begins = text.trim_start().as_bytes().first();
    matches!(begins, Some(b'{' | b'[' | b'"')) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Whether bytes are text: declared to be that, or in UTF-8 and without signs that are in no text.
pub(super) fn is_readable(bytes: &[u8], media: &Media) -> bool {
    let in_no_text = |byte: u8| byte < b' ' && !matches!(byte, b'\t'..=b'\r' | 0x1b);
    let is_utf8 = || match std::str::from_utf8(bytes) {
        Ok(_) => true,
        // A character may be cut apart at the end of what came.
        Err(error) => error.error_len().is_none(),
    };
    match media.is_text() {
        true => !bytes.contains(&0),
        false => is_utf8() && !bytes.iter().copied().any(in_no_text),
    }
}

/// Bytes as text of the same length: what is no UTF-8 is `?`.
pub(super) fn same_length(bytes: &[u8]) -> Cow<'_, str> {
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
pub(super) fn printable(before: &str, bytes: &[u8]) -> String {
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
            if character.is_ascii_graphic()
                || character.is_ascii_whitespace()
                || character.is_alphanumeric()
            {
                run.push(character);
            } else {
                end(&mut run);
            }
        }
        if !chunk.invalid().is_empty() {
            end(&mut run);
        }
    }
    end(&mut run);
    text
}

pub(super) fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', ""))
    } else {
        Cow::Borrowed(text)
    }
}

/// Bytes with parts replaced; the parts are in order and do not overlap.
pub(super) fn replaced(bytes: &[u8], changes: &[(usize, usize, Vec<u8>)]) -> Vec<u8> {
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
