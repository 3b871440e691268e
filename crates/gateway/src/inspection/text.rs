//! The texts of a JSON message, and the same message with other texts in their place.
//!
//! All bytes that are no text stay as they arrived: numbers keep their digits and objects their order.

use std::borrow::Cow;

use super::encoded::{self, Content};

/// What a text of a document is to whoever looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A text of its own.
    Own,
    /// A piece of a longer text: it goes on where the piece before it ended.
    Piece,
    /// By what the protocol says, base64 of something: what it holds is looked at as a piece if that is
    /// text, and left alone if not. What is no base64 is a text of its own.
    Base64,
    /// It needs no look: it had one, or is nobody's words.
    Known,
}

/// Says the role of a text, by the name of the member that has it as its value; the name is empty for
/// the items of arrays. Names themselves are always texts of their own.
pub type Sort<'a> = &'a dyn Fn(&str, &str) -> Role;

/// Every text in JSON documents, in order, names of members included.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// All texts: first what went before, and the pieces that go on with it; then the others, each on a
    /// line of its own, so that what is split over several is found as well.
    pub(super) joined: String,
    parts: Vec<Part>,
    /// Where the pieces are in the joined text.
    pieces: (usize, usize),
}

#[derive(Debug, Clone, Copy)]
struct Part {
    /// The document that it is in.
    document: usize,
    /// What it is.
    role: Role,
    /// Where it is in the joined text, without what follows it there.
    joined: (usize, usize),
    /// Where it stands in the document, without its quotation marks.
    raw: (usize, usize),
}

impl Texts {
    /// Reads the texts of documents that were read as JSON before.
    pub(super) fn of(documents: &[&[u8]]) -> Self {
        Self::sorted("", documents, None)
    }

    /// The same, behind the end of what went before, and with a role for each.
    pub(super) fn sorted(before: &str, documents: &[&[u8]], sort: Option<Sort<'_>>) -> Self {
        let length: usize = documents.iter().map(|document| document.len()).sum();
        let mut texts = Self {
            joined: before.to_owned(),
            parts: Vec::with_capacity(16),
            pieces: (before.len(), before.len()),
        };
        let mut others = String::with_capacity(length);
        for (number, document) in documents.iter().enumerate() {
            texts.read(number, document, sort, &mut others);
        }
        texts.pieces.1 = texts.joined.len();
        if texts.joined.is_empty() {
            texts.joined = others;
            return texts;
        }
        texts.joined.push('\n');
        let shift = texts.joined.len();
        texts.joined.push_str(&others);
        for part in texts.parts.iter_mut().filter(|part| part.role == Role::Own) {
            part.joined = (part.joined.0 + shift, part.joined.1 + shift);
        }
        texts
    }

    /// The pieces, one behind the other.
    pub(super) fn pieces(&self) -> &str {
        self.joined
            .get(self.pieces.0..self.pieces.1)
            .unwrap_or_default()
    }

    fn read(
        &mut self,
        number: usize,
        document: &[u8],
        sort: Option<Sort<'_>>,
        others: &mut String,
    ) {
        let mut at = 0;
        // The name that was read last, and where it ends.
        let mut name = (String::new(), 0);
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
            // A member stands with its value, as people write it: `password: …` says what it is.
            let after = find(document, end + 1, |byte| !byte.is_ascii_whitespace());
            let is_name = after.is_some_and(|at| document[at] == b':');
            let mut taken: &str = &text;
            let mut decoded = None;
            let mut role = Role::Own;
            if let Some(sort) = sort.filter(|_| !is_name) {
                let is_value = document.get(name.1..begin - 1).is_some_and(|between| {
                    between
                        .iter()
                        .all(|b| b.is_ascii_whitespace() || *b == b':')
                });
                let named = if is_value { name.0.as_str() } else { "" };
                role = sort(named, &text);
                if role == Role::Base64 {
                    match encoded::read(&text) {
                        Content::Text(text) => taken = decoded.insert(text),
                        Content::Binary => role = Role::Known,
                        Content::None => role = Role::Own,
                    }
                }
            }
            at = end + 1;
            let into = match role {
                Role::Known => continue,
                Role::Own => &mut *others,
                Role::Piece | Role::Base64 => &mut self.joined,
            };
            let from = into.len();
            into.push_str(taken);
            let to = into.len();
            if role == Role::Own {
                into.push_str(if is_name { ": " } else { "\n" });
            }
            self.parts.push(Part {
                document: number,
                role,
                joined: (from, to),
                raw: (begin, end),
            });
            if is_name && sort.is_some() {
                name = (text.into_owned(), at);
            }
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
            if part.role == Role::Base64 {
                text = encoded::written(&text, &document[part.raw.0..part.raw.1]);
            }
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

    /// Texts are pieces, files are base64, ids are known.
    fn of_an_agent(name: &str, _: &str) -> Role {
        match name {
            "text" => Role::Piece,
            "bytes" => Role::Base64,
            "id" => Role::Known,
            _ => Role::Own,
        }
    }

    #[test]
    fn pieces_go_on_with_what_went_before() {
        let document =
            br#"{"id":"no","name":"n","parts":[{"text":"ry "},{"text":"bird"},"text","x"]}"#;
        let texts = Texts::sorted("a cana", &[document], Some(&of_an_agent));
        assert_eq!(texts.pieces(), "ry bird");
        assert_eq!(
            texts.joined,
            "a canary bird\nid: name: n\nparts: text: text: text\nx\n"
        );
        let at = texts.joined.find("canary").unwrap();
        let with = [(at, at + 6, "[x]".to_owned())];
        let out = texts.replaced(0, document, &with).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"id":"no","name":"n","parts":[{"text":" "},{"text":"bird"},"text","x"]}"#,
            "what is here of it is taken out; the rest passed before"
        );
        // Nothing of it is here.
        assert_eq!(
            texts.replaced(0, document, &[(0, 3, "[x]".to_owned())]),
            None
        );
    }

    #[test]
    fn what_base64_holds_is_replaced_inside_it() {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let noise: Vec<u8> = (0..300u32).map(|n| (n * n * 31 / 4) as u8 | 0x80).collect();
        let (text, binary) = (STANDARD.encode("my password"), STANDARD.encode(noise));
        let document =
            format!(r#"[{{"bytes":"{text}"}},{{"bytes":"{binary}"}},{{"bytes":"no b64"}}]"#);
        let texts = Texts::sorted("", &[document.as_bytes()], Some(&of_an_agent));
        assert_eq!(texts.joined, "my password\nbytes: bytes: bytes: no b64\n");
        let with = [(3, 11, "[x]".to_owned())];
        let out = texts.replaced(0, document.as_bytes(), &with).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            document.replace(&text, &STANDARD.encode("my [x]"))
        );
    }

    proptest! {
        #[test]
        fn whatever_the_roles_the_same_texts_are_read(
            texts in prop::collection::vec("[ -~\\n\\PC]{0,12}", 0..6), before in "[a-z]{0,5}",
            from in 0usize..60, length in 0usize..20,
        ) {
            let value = json!({ "all": texts, "text": texts.first(), "bytes": texts.last() });
            let document = serde_json::to_vec(&value).unwrap();
            let read = Texts::sorted(&before, &[&document], Some(&of_an_agent));
            prop_assert!(read.joined.starts_with(&before));
            let mut from = from.min(read.joined.len());
            let mut to = (from + length).min(read.joined.len());
            while !read.joined.is_char_boundary(from) { from -= 1; }
            while !read.joined.is_char_boundary(to) { to -= 1; }
            if let Some(out) = read.replaced(0, &document, &[(from, to, "[x]".to_owned())]) {
                let again: Value = serde_json::from_slice(&out).unwrap();
                prop_assert!(again.is_object());
            }
        }

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
