//! Lines of a child, each within a limit, however much it writes.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// A line of a child.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Without its end.
    Whole(Bytes),
    /// Over the limit, and thrown away. Only what it seems to answer was kept of it.
    TooLong {
        /// The number of the request that it answers.
        answers: Option<u64>,
        /// How long it was, in bytes.
        length: u64,
    },
    /// So far over the limit that no end is to be expected.
    Endless,
}

/// Cuts what a child writes into lines.
pub(super) struct Lines<R> {
    from: R,
    buffer: BytesMut,
    /// How far the buffer was looked at.
    seen: usize,
    /// Set while a line that is too long passes.
    skipped: Option<(Skim, u64)>,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            buffer: BytesMut::new(),
            seen: 0,
            skipped: None,
            ended: false,
        }
    }

    /// The next line; `None` when there will be none. Lines without their end count at the end. A
    /// line of more than `limit` bytes is thrown away; one of more than `endless` is not waited for.
    /// Dropping the future loses nothing.
    pub(super) async fn next(
        &mut self,
        limit: usize,
        endless: u64,
    ) -> std::io::Result<Option<Line>> {
        loop {
            let end = self.buffer[self.seen..]
                .iter()
                .position(|byte| *byte == b'\n');
            if let Some(end) = end.map(|end| self.seen + end) {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                self.seen = 0;
                return Ok(Some(self.line(line, limit)));
            }
            self.seen = self.buffer.len();
            if self.seen > limit || (self.skipped.is_some() && self.seen > 0) {
                let part = self.buffer.split();
                self.skip(&part);
                self.seen = 0;
                if self
                    .skipped
                    .as_ref()
                    .is_some_and(|(_, length)| *length > endless)
                {
                    self.skipped = None;
                    return Ok(Some(Line::Endless));
                }
            }
            if self.ended {
                let rest = self.buffer.split();
                self.seen = 0;
                let is_nothing = rest.is_empty() && self.skipped.is_none();
                return Ok((!is_nothing).then(|| self.line(rest, limit)));
            }
            self.buffer.reserve(8 << 10);
            self.ended = self.from.read_buf(&mut self.buffer).await? == 0;
        }
    }

    fn skip(&mut self, part: &[u8]) {
        let (skim, length) = self.skipped.get_or_insert_default();
        skim.feed(part);
        *length += part.len() as u64;
    }

    fn line(&mut self, mut line: BytesMut, limit: usize) -> Line {
        if self.skipped.is_some() || line.len() > limit {
            self.skip(&line);
        }
        match self.skipped.take() {
            Some((skim, length)) => Line::TooLong {
                answers: skim.answers(),
                length,
            },
            None => {
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
                Line::Whole(line.freeze())
            }
        }
    }
}

/// Finds out which request a message answers that is never there as a whole, or that no strict
/// reader takes: looks for the number in the outermost member `id`.
#[derive(Debug, Default)]
pub(super) struct Skim {
    depth: u64,
    in_text: bool,
    escaped: bool,
    in_value: bool,
    /// The last name at the outermost level, and the value of `id` there; only their beginnings.
    name: Vec<u8>,
    id: Vec<u8>,
    has_method: bool,
}

/// Longest name or id that is looked at.
const LONGEST: usize = 24;

impl Skim {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.take(*byte);
        }
    }

    /// The number of the request that it answers.
    pub(super) fn answers(&self) -> Option<u64> {
        if self.has_method {
            return None;
        }
        std::str::from_utf8(&self.id).ok()?.trim().parse().ok()
    }

    fn take(&mut self, byte: u8) {
        if self.in_text {
            if self.escaped {
                self.escaped = false;
            } else if byte == b'\\' {
                self.escaped = true;
            } else if byte == b'"' {
                self.in_text = false;
                return;
            }
            self.keep(byte);
            return;
        }
        match byte {
            b'"' => {
                self.in_text = true;
                if self.depth == 1 && self.in_value {
                    // Text is no number: the quote spoils it.
                    self.keep(byte);
                }
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b':' if self.depth == 1 => {
                self.in_value = true;
                self.has_method |= self.name == b"method";
                if self.name == b"id" {
                    self.id.clear();
                }
            }
            b',' if self.depth == 1 => {
                self.in_value = false;
                self.name.clear();
            }
            _ if self.in_value => self.keep(byte),
            _ => {}
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.depth != 1 {
            return;
        }
        let place = if !self.in_value {
            &mut self.name
        } else if self.name == b"id" {
            &mut self.id
        } else {
            return;
        };
        if place.len() < LONGEST {
            place.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    async fn all(input: &[u8], limit: usize) -> Vec<Line> {
        let mut lines = Lines::new(input);
        let mut found = Vec::new();
        while let Some(line) = lines.next(limit, 200_000).await.unwrap() {
            found.push(line);
        }
        found
    }

    fn whole(text: &'static str) -> Line {
        Line::Whole(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn lines_end_with_their_end_or_the_end() {
        assert_eq!(
            all(b"a\n\r\nb\r\nc", 9).await,
            [whole("a"), whole(""), whole("b"), whole("c")]
        );
        assert_eq!(all(b"", 9).await, []);
    }

    #[tokio::test]
    async fn long_lines_are_thrown_away_and_the_next_one_is_whole() {
        let text = format!("{}\nok\n", r#"{"result":{"id":3},"x":[4],"id": 17 }"#);
        let long = Line::TooLong {
            answers: Some(17),
            length: text.len() as u64 - 4,
        };
        assert_eq!(all(text.as_bytes(), 8).await, [long, whole("ok")]);
        let endless = "x".repeat(100_000);
        let long = Line::TooLong {
            answers: None,
            length: 100_000,
        };
        assert_eq!(all(endless.as_bytes(), 64).await, [long]);
        assert_eq!(
            all("x".repeat(200_001).as_bytes(), 64).await.first(),
            Some(&Line::Endless)
        );
        // Exactly at the limit is within it.
        assert_eq!(all(b"12345678\n", 8).await, [whole("12345678")]);
    }

    fn skimmed(text: &str) -> Option<u64> {
        let mut skim = Skim::default();
        skim.feed(text.as_bytes());
        skim.answers()
    }

    #[test]
    fn only_the_outermost_id_of_an_answer_counts() {
        assert_eq!(
            skimmed(r#"{"jsonrpc":"2.0","id":5,"result":{"id":6,"t":"\",\"id\":7"#),
            Some(5)
        );
        assert_eq!(
            skimmed(r#"{"result":"}","id":12,"jsonrpc":"2.0"}"#),
            Some(12)
        );
        assert_eq!(skimmed(r#"{"id":"5","result":{}}"#), None);
        assert_eq!(skimmed(r#"{"id":5,"method":"x"}"#), None);
        assert_eq!(skimmed(r#"{"params":{"id":5},"method":"x"}"#), None);
        assert_eq!(skimmed(r#"[{"id":5}]"#), None);
        assert_eq!(skimmed(r#"{"x":"\"id\":5"}"#), None);
    }

    proptest! {
        #[test]
        fn skimming_agrees_with_reading(id in any::<u64>(), text in ".{0,40}", cut in 0usize..80) {
            let message = serde_json::json!({ "a": text, "id": id, "result": { "id": 1, "b": text } });
            let bytes = message.to_string().into_bytes();
            let mut skim = Skim::default();
            let cut = cut.min(bytes.len());
            skim.feed(&bytes[..cut]);
            skim.feed(&bytes[cut..]);
            prop_assert_eq!(skim.answers(), Some(id));
        }

        #[test]
        fn whatever_is_written_is_cut_the_same(
            text in "[a\n\r{\":]{0,200}",
            limit in 1usize..20,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let found = runtime.block_on(all(text.as_bytes(), limit));
            let mut expected: Vec<&str> = text.split('\n').collect();
            if expected.last() == Some(&"") {
                expected.pop();
            }
            prop_assert_eq!(found.len(), expected.len());
            for (found, expected) in found.into_iter().zip(expected) {
                match found {
                    Line::Whole(line) => {
                        let trimmed = expected.strip_suffix('\r').unwrap_or(expected);
                        prop_assert_eq!(&line[..], trimmed.as_bytes());
                    }
                    Line::Endless => prop_assert!(false, "nothing here is endless"),
                    Line::TooLong { length, .. } => {
                        prop_assert!(expected.len() > limit);
                        prop_assert_eq!(length, expected.len() as u64);
                    }
                }
            }
        }
    }
}
