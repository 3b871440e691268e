//! The texts of a JSON message, and the same message with other texts in their place.
//!
//! All bytes that are no text stay as they arrived: numbers keep their digits and objects their order.

use std::borrow::Cow;

/// Every text in JSON documents, in order, names of members included.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// All texts, each on a line of its own, so that what is split over several is found as well.
    pub(super) joined: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    /// The document that it is in.
    document: usize,
    /// Where it is in the joined text, without what follows it there.
    joined: (usize, usize),
    /// Where it stands in the document, without its quotation marks.
    raw: (usize, usize),
}

impl Texts {
    /// Reads the texts of documents that were read as JSON before.
    pub(super) fn of(documents: &[&[u8]]) -> Self {
        let length: usize = documents.iter().map(|document| document.len()).sum();
        let mut texts = Self {
            joined: String::with_capacity(length),
            parts: Vec::with_capacity(16),
        };
        for (number, document) in documents.iter().enumerate() {
            texts.read(number, document);
        }
        texts
    }

    fn read(&mut self, number: usize, document: &[u8]) {
        let mut at = 0;
        while let Some(begin) = find(document, at, |byte| byte == b'"') {
            let begin = begin + 1;
            let Some((end, escaped)) = end_of_text(document, begin) else {
                break;
            };
            let raw = &document[begin..end];
            let text = if escaped {
                unescape(&document[begin - 1..=end])
            } else {
                String::from_utf8_lossy(raw)
            };
            let from = self.joined.len();
            self.joined.push_str(&text);
            let to = self.joined.len();
            // A member stands with its value, as people write it: `password: …` says what it is.
            let after = find(document, end + 1, |byte| !byte.is_ascii_whitespace());
            let is_name = after.is_some_and(|at| document[at] == b':');
            self.joined.push_str(if is_name { ": " } else { "\n" });
            self.parts.push(Part {
                document: number,
                joined: (from, to),
                raw: (begin, end),
            });
            at = end + 1;
        }
    }

    /// One of the documents with parts of the joined text replaced; `None` when nothing in it is. The
    /// replacements are in order and do not overlap; one that goes over several texts empties the later
    /// ones.
    pub(super) fn replaced(
        &self,
        number: usize,
        document: &[u8],
        replacements: &[(usize, usize, String)],
    ) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(document.len());
        let mut copied = 0;
        for part in self.parts.iter().filter(|part| part.document == number) {
            let (from, to) = part.joined;
            let mut here = replacements
                .iter()
                .filter(|(start, end, _)| *start < to && *end > from)
                .peekable();
            if here.peek().is_none() {
                continue;
            }
            let mut text = String::with_capacity(to - from);
            let mut at = from;
            for (start, end, instead) in here {
                text.push_str(self.joined.get(at..(*start).max(at)).unwrap_or_default());
                if *start >= from {
                    text.push_str(instead);
                }
                at = (*end).min(to).max(at);
            }
            text.push_str(self.joined.get(at..to).unwrap_or_default());
            let quoted = serde_json::to_vec(&text).unwrap_or_default();
            out.extend_from_slice(&document[copied..part.raw.0 - 1]);
            out.extend_from_slice(&quoted);
            copied = part.raw.1 + 1;
        }
        out.extend_from_slice(&document[copied..]);
        (copied > 0).then_some(out)
    }
}

fn find(bytes: &[u8], from: usize, wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.iter()
        .position(|byte| wanted(*byte))
        .map(|at| from + at)
}

/// The quotation mark that ends a text, and whether there are escapes before it.
fn end_of_text(bytes: &[u8], begin: usize) -> Option<(usize, bool)> {
    let mut at = begin;
    let mut escaped = false;
    loop {
        at = find(bytes, at, |byte| byte == b'"' || byte == b'\\')?;
        if bytes[at] == b'"' {
            return Some((at, escaped));
        }
        escaped = true;
        at += 2;
    }
}

/// The text of a quoted one. Lone surrogates are no characters: then the escapes are what is read.
fn unescape(quoted: &[u8]) -> Cow<'static, str> {
    match serde_json::from_slice::<String>(quoted) {
        Ok(text) => Cow::Owned(text),
        Err(_) => Cow::Owned(String::from_utf8_lossy(&quoted[1..quoted.len() - 1]).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn redact(document: &str, what: &str) -> String {
        let texts = Texts::of(&[document.as_bytes()]);
        let at = texts.joined.find(what).unwrap();
        let with = [(at, at + what.len(), "[x]".to_owned())];
        String::from_utf8(texts.replaced(0, document.as_bytes(), &with).unwrap()).unwrap()
    }

    #[test]
    fn everything_else_keeps_its_bytes() {
        let document =
            r#"{ "n":1.50e+2, "a" : ["one \"two\" \u00e9", "thr\/ee"],"b":9007199254740993 }"#;
        assert_eq!(
            redact(document, "two"),
            r#"{ "n":1.50e+2, "a" : ["one \"[x]\" é", "thr\/ee"],"b":9007199254740993 }"#
        );
        assert_eq!(
            redact(document, "thr/ee"),
            r#"{ "n":1.50e+2, "a" : ["one \"two\" \u00e9", "[x]"],"b":9007199254740993 }"#
        );
    }

    #[test]
    fn what_goes_over_several_texts_is_taken_out_of_all() {
        assert_eq!(Texts::of(&[br#"{"a" : "b","c":1}"#]).joined, "a: b\nc: ");
        let (one, other): (&[u8], &[u8]) = (br#"["abc","def"]"#, br#""ghi""#);
        let texts = Texts::of(&[one, other]);
        assert_eq!(texts.joined, "abc\ndef\nghi\n");
        let with = [(1, 9, "X".to_owned())];
        assert_eq!(texts.replaced(0, one, &with).unwrap(), br#"["aX",""]"#);
        assert_eq!(texts.replaced(1, other, &with).unwrap(), br#""hi""#);
        assert_eq!(texts.replaced(1, other, &with[..0]), None);
    }

    proptest! {
        #[test]
        fn replacing_nothing_changes_nothing_and_anything_stays_json(
            texts in prop::collection::vec("[ -~\\n\\PC]{0,12}", 0..6),
            from in 0usize..40, length in 0usize..20,
        ) {
            let value = json!({ "all": texts, "n": 1 });
            let document = serde_json::to_vec(&value).unwrap();
            let read = Texts::of(&[&document]);
            prop_assert_eq!(&read.replaced(0, &document, &[]), &None);
            let mut from = from.min(read.joined.len());
            let mut to = (from + length).min(read.joined.len());
            while !read.joined.is_char_boundary(from) { from -= 1; }
            while !read.joined.is_char_boundary(to) { to -= 1; }
            if let Some(out) = read.replaced(0, &document, &[(from, to, "[x]".to_owned())]) {
                let again: Value = serde_json::from_slice(&out).unwrap();
                prop_assert_eq!(again.as_object().map(serde_json::Map::len), Some(2));
            }
        }
    }
}
