//! Server-sent events (HTML standard, §9.2.6), cut into events while their bytes pass untouched.
//!
//! Except for byte order marks: a client drops one at the beginning of its stream, and which piece
//! that is depends on what is withheld before it. So no piece begins with one.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response};

use crate::Body;

/// What some writers put in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One piece of a stream: the bytes that arrived, and what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The bytes, with the blank line that ends the event.
    pub bytes: Bytes,
    /// The data lines, joined by line feeds; `None` when the piece has no data: comments, and
    /// events that only set an id or the time to reconnect.
    pub data: Option<Bytes>,
    /// The event's id, if it sets one.
    pub id: Option<Bytes>,
}

/// An event is longer than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of more than {limit} bytes")]
pub struct TooLong {
    /// The limit, in bytes.
    pub limit: usize,
}

/// Cuts a stream into events.
#[derive(Debug)]
pub struct Cutter {
    limit: usize,
    buffer: BytesMut,
    /// Where the current line begins.
    line: usize,
    /// How far the buffer was looked at.
    seen: usize,
    data: Lines,
    id: Option<Bytes>,
    /// Whether the piece so far holds anything but comments.
    has_fields: bool,
    /// The last byte was a carriage return, so that a line feed right after it ends no new line.
    after_return: bool,
}

/// Data lines: mostly one, kept as a range of the buffer.
#[derive(Debug, Default)]
enum Lines {
    #[default]
    None,
    One(usize, usize),
    Many(Vec<u8>),
}

impl Cutter {
    /// Events may be up to `limit` bytes long.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            buffer: BytesMut::new(),
            line: 0,
            seen: 0,
            data: Lines::None,
            id: None,
            has_fields: false,
            after_return: false,
        }
    }

    /// Takes in bytes as they arrive.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete piece, if there is one.
    ///
    /// # Errors
    /// [`TooLong`] when an event has not ended within the limit.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator cannot say that more may come"
    )]
    pub fn next(&mut self) -> Result<Option<Piece>, TooLong> {
        while let Some(&byte) = self.buffer.get(self.seen) {
            if byte == b'\n' && self.after_return {
                // The second half of CR LF belongs to the line before.
                self.after_return = false;
                self.seen += 1;
                self.line = self.seen;
                continue;
            }
            self.after_return = byte == b'\r';
            if byte != b'\n' && byte != b'\r' {
                let rest = &self.buffer[self.seen..];
                let run = rest.iter().position(|b| matches!(b, b'\n' | b'\r'));
                self.seen += run.unwrap_or(rest.len());
                if self.seen - self.line > self.limit {
                    return Err(TooLong { limit: self.limit });
                }
                continue;
            }
            let (from, to) = (self.line, self.seen);
            // A line feed that already arrived is taken along, so that CR LF is not torn.
            let mut next = self.seen + 1;
            if self.after_return && self.buffer.get(next) == Some(&b'\n') {
                next += 1;
                self.after_return = false;
            }
            self.seen = next;
            self.line = next;
            if next > self.limit {
                return Err(TooLong { limit: self.limit });
            }
            if from == to {
                return Ok(Some(self.take()));
            }
            self.field(from, to);
            if !self.has_fields {
                return Ok(Some(self.take()));
            }
        }
        if self.buffer.len() > self.limit {
            return Err(TooLong { limit: self.limit });
        }
        Ok(None)
    }

    /// What is left when the stream ends: an event without its blank line, which lenient clients
    /// read all the same.
    #[must_use]
    pub fn rest(mut self) -> Option<Piece> {
        if self.buffer.is_empty() {
            return None;
        }
        let (from, to) = (self.line, self.buffer.len());
        if from < to {
            self.field(from, to);
        }
        self.seen = self.buffer.len();
        Some(self.take())
    }

    fn field(&mut self, mut from: usize, to: usize) {
        if from == 0 {
            from += marks(&self.buffer[..to]);
        }
        let line = &self.buffer[from..to];
        if line.first() == Some(&b':') {
            return;
        }
        self.has_fields = true;
        let colon = line.iter().position(|b| *b == b':');
        let name = &line[..colon.unwrap_or(line.len())];
        let mut value = colon.map_or(to, |colon| from + colon + 1);
        if self.buffer.get(value) == Some(&b' ') && value < to {
            value += 1;
        }
        match name {
            b"data" => match std::mem::take(&mut self.data) {
                Lines::None => self.data = Lines::One(value, to),
                Lines::One(a, b) => {
                    let mut joined = Vec::with_capacity((b - a) + (to - value) + 1);
                    joined.extend_from_slice(&self.buffer[a..b]);
                    joined.push(b'\n');
                    joined.extend_from_slice(&self.buffer[value..to]);
                    self.data = Lines::Many(joined);
                }
                Lines::Many(mut joined) => {
                    joined.push(b'\n');
                    joined.extend_from_slice(&self.buffer[value..to]);
                    self.data = Lines::Many(joined);
                }
            },
            b"id" => self.id = Some(Bytes::copy_from_slice(&self.buffer[value..to])),
            _ => {}
        }
    }

    fn take(&mut self) -> Piece {
        let mut bytes = self.buffer.split_to(self.seen).freeze();
        self.seen = 0;
        self.line = 0;
        self.has_fields = false;
        let data = match std::mem::take(&mut self.data) {
            Lines::None => None,
            Lines::One(from, to) => Some(bytes.slice(from..to)),
            Lines::Many(joined) => Some(joined.into()),
        };
        bytes.advance(marks(&bytes));
        Piece {
            bytes,
            data,
            id: self.id.take(),
        }
    }
}

/// The length of the byte order marks that bytes begin with.
fn marks(mut bytes: &[u8]) -> usize {
    let length = bytes.len();
    while let Some(rest) = bytes.strip_prefix(BYTE_ORDER_MARK) {
        bytes = rest;
    }
    length - bytes.len()
}

/// An event that carries one message, and the id of the event that it stands for.
#[must_use]
pub fn event(id: Option<&[u8]>, data: &[u8]) -> Bytes {
    let mut text = BytesMut::with_capacity(data.len() + 32);
    if let Some(id) = id {
        text.extend_from_slice(b"id: ");
        text.extend_from_slice(id);
        text.extend_from_slice(b"\n");
    }
    let mut rest = data;
    loop {
        let end = rest
            .iter()
            .position(|b| matches!(b, b'\n' | b'\r'))
            .unwrap_or(rest.len());
        text.extend_from_slice(b"data: ");
        text.extend_from_slice(&rest[..end]);
        text.extend_from_slice(b"\n");
        rest.advance(end);
        if rest.is_empty() {
            break;
        }
        rest.advance(1);
    }
    text.extend_from_slice(b"\n");
    text.freeze()
}

/// The answer that is a stream of events: nobody on the way keeps, changes or gathers them.
#[must_use]
pub fn response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces(chunks: &[&[u8]]) -> Vec<Piece> {
        let mut cutter = Cutter::new(1 << 16);
        let mut all = Vec::new();
        for chunk in chunks {
            cutter.feed(chunk);
            while let Some(piece) = cutter.next().unwrap() {
                all.push(piece);
            }
        }
        all.extend(cutter.rest());
        all
    }

    fn data(all: &[Piece]) -> Vec<String> {
        all.iter()
            .filter_map(|p| p.data.as_ref())
            .map(|d| String::from_utf8_lossy(d).into_owned())
            .collect()
    }

    #[test]
    fn events_end_with_a_blank_line_of_any_kind() {
        let all = pieces(&[b"data: a\n\ndata:b\r\n\r\ndata:  c\r\rdata: d\ndata: e\n\ndata"]);
        assert_eq!(data(&all), ["a", "b", " c", "d\ne", ""]);
    }

    #[test]
    fn priming_events_and_retries_pass_with_their_id() {
        let all = pieces(&[b"id: 7\nretry: 500\ndata: \n\n"]);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].id.as_deref(), Some(&b"7"[..]));
        assert_eq!(data(&all), [""]);
    }

    #[test]
    fn comments_pass_at_once() {
        let mut cutter = Cutter::new(100);
        cutter.feed(b": keep-alive\r\n");
        let piece = cutter.next().unwrap().unwrap();
        assert_eq!(
            (&piece.bytes[..], piece.data),
            (&b": keep-alive\r\n"[..], None)
        );
    }

    /// What a client makes of a stream that ends properly (HTML standard, §9.2.6).
    fn dispatched(stream: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(stream).into_owned();
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let mut events = Vec::new();
        let mut data = String::new();
        for line in text.split_inclusive('\n') {
            let Some(line) = line.strip_suffix('\n') else {
                break;
            };
            if line.is_empty() {
                let event = std::mem::take(&mut data);
                events.extend(event.strip_suffix('\n').map(str::to_owned));
                continue;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            if name == "data" {
                data.push_str(value.strip_prefix(' ').unwrap_or(value));
                data.push('\n');
            }
        }
        events
    }

    #[test]
    fn a_byte_order_mark_is_read_alike_wherever_the_stream_begins() {
        for mark in ["\u{feff}", "\u{feff}\u{feff}", ":\n\u{feff}"] {
            let all = pieces(&[format!("data: a\n\n{mark}data: b\n\n").as_bytes()]);
            let after: Vec<u8> = all[1..].iter().flat_map(|p| p.bytes.to_vec()).collect();
            assert_eq!(dispatched(&after), data(&all[1..]), "{mark:?}");
        }
    }

    #[test]
    fn an_endless_event_is_an_error() {
        let mut cutter = Cutter::new(64);
        let mut fed = 0;
        let refused = loop {
            cutter.feed(b"data: x");
            fed += 7;
            if let Err(refused) = cutter.next() {
                break refused;
            }
            assert!(fed < 200);
        };
        assert_eq!(refused, TooLong { limit: 64 });
        let mut cutter = Cutter::new(64);
        cutter.feed(&b"data: x\n".repeat(20));
        assert!(cutter.next().is_err());
    }

    #[test]
    fn written_events_read_back() {
        let all = pieces(&[&event(Some(b"9"), b"{\"a\":\n1}")]);
        assert_eq!(data(&all), ["{\"a\":\n1}"]);
        assert_eq!(all[0].id.as_deref(), Some(&b"9"[..]));
    }

    proptest! {
        #[test]
        fn clients_see_what_was_looked_at_whichever_pieces_they_get(
            text in "(data|data:|data: |id|:|: |\r|\n|\r\n|\n\n|a|\u{feff}){0,60}",
            kept in proptest::collection::vec(any::<bool>(), 60),
        ) {
            let all = pieces(&[format!("{text}\n\n").as_bytes()]);
            let kept: Vec<Piece> = all.into_iter().zip(kept).filter(|(_, k)| *k).map(|(p, _)| p).collect();
            let stream: Vec<u8> = kept.iter().flat_map(|p| p.bytes.to_vec()).collect();
            prop_assert_eq!(dispatched(&stream), data(&kept));
        }

        #[test]
        fn bytes_pass_untouched_however_they_are_cut(
            text in "(data|id|retry|event|:|: |\r|\n|\r\n|a|\\{){0,60}",
            cuts in proptest::collection::vec(0usize..200, 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts {
                chunks.push(&bytes[from..cut]);
                from = cut;
            }
            chunks.push(&bytes[from..]);
            let cut = pieces(&chunks);
            let joined: Vec<u8> = cut.iter().flat_map(|p| p.bytes.to_vec()).collect();
            prop_assert_eq!(&joined[..], bytes);
            prop_assert_eq!(data(&cut), data(&pieces(&[bytes])));
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut cutter = Cutter::new(128);
            cutter.feed(&bytes);
            while let Ok(Some(_)) = cutter.next() {}
            let _ = cutter.rest();
        }
    }
}
