//! An answer as a stream of events (`text/event-stream`).

use std::time::Duration;

use bytes::Bytes;
use gateway::mcp::sse::{Cutter, Piece};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::http::innermost;
use super::trouble::Trouble;

/// Longest answer and longest event, in bytes. The gateway's own limits are lower.
pub(super) const ANSWER: usize = 32 << 20;
/// Time to the next try when the server names none.
const RETRY: Duration = Duration::from_secs(1);
/// Longest time that a server may make this program wait between tries.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Where a stream was when it ended, and when to come back (2025-11-25
/// `basic/transports`, Resumability and Redelivery).
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// The id of the last event.
    pub(super) last: Option<HeaderValue>,
    retry: Option<Duration>,
}

impl Place {
    /// How long to wait before the next try; longer with every one that failed.
    pub(super) fn pause(&self, failures: u32) -> Duration {
        let longer = 2u32.saturating_pow(failures.min(6));
        self.retry
            .unwrap_or(RETRY)
            .saturating_mul(longer)
            .min(LONGEST_RETRY)
    }

    fn note(&mut self, piece: &Piece) {
        if let Some(id) = &piece.id {
            // An empty id means that there is none any more.
            self.last = HeaderValue::from_bytes(id).ok().filter(|id| !id.is_empty());
        }
        let lines = piece.bytes.split(|byte| matches!(byte, b'\n' | b'\r'));
        for value in lines.filter_map(|line| line.strip_prefix(b"retry:")) {
            let millis = std::str::from_utf8(value.trim_ascii())
                .ok()
                .and_then(|v| v.parse().ok());
            if let Some(millis) = millis {
                self.retry = Some(Duration::from_millis(millis));
            }
        }
    }
}

/// A stream that is being read.
pub(super) struct Stream {
    body: Option<Incoming>,
    cutter: Cutter,
}

impl Stream {
    /// Whether an answer is a stream.
    pub(super) fn is<B>(answer: &Response<B>) -> bool {
        has_type(answer, "text/event-stream")
    }

    /// Reads an answer's body.
    pub(super) fn new(body: Incoming) -> Self {
        Self {
            body: Some(body),
            cutter: Cutter::new(ANSWER),
        }
    }

    /// The next message; none when the stream has ended.
    ///
    /// # Errors
    /// [`Trouble::BrokenOff`]
    pub(super) async fn next(&mut self, place: &mut Place) -> Result<Option<Bytes>, Trouble> {
        loop {
            let cut = self
                .cutter
                .next()
                .map_err(|error| Trouble::BrokenOff(error.to_string()))?;
            let piece = match (cut, self.body.as_mut()) {
                (Some(piece), _) => piece,
                (None, None) => return Ok(None),
                (None, Some(body)) => match body.frame().await {
                    Some(Ok(frame)) => {
                        if let Ok(bytes) = frame.into_data() {
                            self.cutter.feed(&bytes);
                        }
                        continue;
                    }
                    Some(Err(error)) => {
                        self.body = None;
                        return Err(Trouble::BrokenOff(innermost(&error)));
                    }
                    None => {
                        self.body = None;
                        match std::mem::replace(&mut self.cutter, Cutter::new(ANSWER)).rest() {
                            Some(piece) => piece,
                            None => return Ok(None),
                        }
                    }
                },
            };
            place.note(&piece);
            // Events without data only carry ids and times.
            if let Some(data) = piece.data.filter(|data| !data.is_empty()) {
                return Ok(Some(data));
            }
        }
    }
}

/// Whether an answer has a media type, whatever its parameters.
pub(super) fn has_type<B>(answer: &Response<B>, wanted: &str) -> bool {
    let value = answer
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &'static [u8]) -> Place {
        let mut cutter = Cutter::new(1000);
        cutter.feed(text);
        let mut place = Place::default();
        while let Some(piece) = cutter.next().unwrap() {
            place.note(&piece);
        }
        place
    }

    #[test]
    fn a_stream_leaves_its_place() {
        let at = place(b"id: 7\nretry: 250\ndata: \n\n: comment\n\ndata: {}\n\n");
        assert_eq!(at.last, Some(HeaderValue::from_static("7")));
        assert_eq!(at.pause(0), Duration::from_millis(250));
        assert_eq!(at.pause(3), Duration::from_secs(2));
        assert_eq!(place(b"id: 7\n\nid:\n\n").last, None);
        assert_eq!(place(b"retry: soon\n\n").pause(0), RETRY);
        assert_eq!(place(b"retry: 99999999999\n\n").pause(9), LONGEST_RETRY);
    }

    #[test]
    fn media_types_are_compared_without_parameters() {
        let answer = |value: &'static str| {
            let mut answer = Response::new(());
            answer
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(value));
            answer
        };
        assert!(Stream::is(&answer("Text/Event-Stream; charset=utf-8")));
        assert!(!Stream::is(&answer("application/json")));
        assert!(!Stream::is(&Response::new(())));
    }
}
