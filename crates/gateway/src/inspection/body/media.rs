//! What a body is declared to be (RFC 9110 §8.3), as far as it matters to whoever reads it.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// Kinds of content of `application/` that are texts.
const TEXTS: [&str; 14] = [
    "json",
    "xml",
    "javascript",
    "ecmascript",
    "x-www-form-urlencoded",
    "x-ndjson",
    "ndjson",
    "jsonl",
    "x-jsonlines",
    "yaml",
    "x-yaml",
    "toml",
    "sql",
    "graphql",
];
/// What comes one document a line.
const LINES: [&str; 7] = [
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
    "application/json-seq",
    "application/stream+json",
    "application/json-lines",
];

/// The characters of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    /// UTF-8, or nothing is said of them.
    Utf8,
    /// Another one that can be read (WHATWG Encoding Standard).
    Other(&'static Encoding),
    /// One that nobody here knows, or more than one.
    Unknown,
}

/// How a stream is cut into pieces that can be looked at by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Server-sent events: up to an empty line.
    Events,
    /// Documents: each a line.
    Lines,
    /// Text: lines, and words where no line ends.
    Text,
}

/// What a body is declared to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    pub(super) essence: String,
    pub(super) charset: Charset,
}

impl Media {
    /// What the headers of an answer say of its body. More than one `Content-Type`, or a list of them, says
    /// nothing that can be relied on.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut all = headers.get_all(CONTENT_TYPE).iter();
        match (all.next(), all.next()) {
            (None, _) => Self::plain(),
            (Some(one), None) => match one.to_str() {
                Ok(text) if !text.contains(',') => Self::parse(text),
                _ => Self::unknown(),
            },
            (Some(_), Some(_)) => Self::unknown(),
        }
    }

    /// Text in UTF-8 of no particular kind.
    #[must_use]
    pub fn text() -> Self {
        Self::parse("text/plain")
    }

    /// Bytes of no particular kind.
    #[must_use]
    pub fn plain() -> Self {
        Self::parse("")
    }

    fn unknown() -> Self {
        Self {
            essence: String::new(),
            charset: Charset::Unknown,
        }
    }

    fn parse(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_owned();
        let mut charset = None;
        for part in parts {
            let Some((name, value)) = part.split_once('=') else {
                continue;
            };
            // `charset*` is another way to say it (RFC 8187), which some readers know.
            if !name.trim_end().starts_with("charset") {
                continue;
            }
            let label = value.trim().trim_matches('"').trim();
            let read = match Encoding::for_label_no_replacement(label.as_bytes()) {
                Some(encoding) if encoding == UTF_8 => Charset::Utf8,
                Some(encoding) => Charset::Other(encoding),
                None => Charset::Unknown,
            };
            charset = match charset {
                None => Some(read),
                Some(before) if before == read => Some(read),
                Some(_) => Some(Charset::Unknown),
            };
        }
        Self {
            essence,
            charset: charset.unwrap_or(Charset::Utf8),
        }
    }

    /// `type/subtype`, in small letters; empty when nothing is declared.
    #[must_use]
    pub fn essence(&self) -> &str {
        &self.essence
    }

    /// Whether it is JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.essence == "application/json" || self.essence.ends_with("+json")
    }

    /// Whether it comes bit by bit by its nature, so that nobody waits for its end.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.essence == "text/event-stream" || LINES.contains(&self.essence.as_str())
    }

    /// Whether it is in other characters than UTF-8.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.charset != Charset::Utf8
    }

    /// Whether it is declared to be text of some kind.
    pub(super) fn is_text(&self) -> bool {
        let (kind, sub) = self.essence.split_once('/').unwrap_or_default();
        kind == "text"
            || self.is_json()
            || sub.ends_with("+xml")
            || (kind == "application" && TEXTS.contains(&sub))
    }

    /// Whether a pattern of a configuration means it: `image/png`, or `image/*`.
    #[must_use]
    pub fn is_one_of(&self, patterns: &[String]) -> bool {
        patterns
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(kind) => {
                    kind.len() > 1 && self.essence.starts_with(&kind.to_ascii_lowercase())
                }
                None => self.essence.eq_ignore_ascii_case(pattern),
            })
    }

    pub(super) fn framing(&self) -> Framing {
        if self.essence == "text/event-stream" {
            Framing::Events
        } else if self.is_json() || self.is_stream() {
            Framing::Lines
        } else {
            Framing::Text
        }
    }

    /// The characters of a body that begins like this: a byte order mark counts for more than what is
    /// declared.
    pub(super) fn charset_of(&self, bytes: &[u8]) -> Charset {
        match Encoding::for_bom(bytes) {
            Some((encoding, _)) if encoding == UTF_16LE || encoding == UTF_16BE => {
                Charset::Other(encoding)
            }
            _ => self.charset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use encoding_rs::WINDOWS_1252;
    use http::HeaderValue;

    #[test]
    fn what_is_declared_is_read_as_readers_do() {
        for (text, charset) in [
            ("text/plain", Charset::Utf8),
            ("text/plain; charset=\"UTF-8\"", Charset::Utf8),
            ("text/html;charset=iso-8859-1", Charset::Other(WINDOWS_1252)),
            (
                "application/json; charset=utf-16le",
                Charset::Other(UTF_16LE),
            ),
            ("text/plain; charset=utf-7", Charset::Unknown),
            (
                "text/plain; charset=utf-8; charset=utf-16",
                Charset::Unknown,
            ),
            ("text/plain; charset*=utf-7''x", Charset::Unknown),
            ("text/plain; charset=iso-2022-kr", Charset::Unknown),
        ] {
            assert_eq!(Media::parse(text).charset, charset, "{text}");
        }
    }

    #[test]
    fn more_than_one_type_is_none_that_can_be_relied_on() {
        let mut headers = HeaderMap::new();
        assert_eq!(Media::of(&headers).charset, Charset::Utf8);
        headers.append(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert_eq!(Media::of(&headers).essence(), "text/plain");
        headers.append(CONTENT_TYPE, HeaderValue::from_static("image/png"));
        assert_eq!(Media::of(&headers), Media::unknown());
        let list = HeaderValue::from_static("text/plain, image/png");
        assert_eq!(
            Media::of(&[(CONTENT_TYPE, list)].into_iter().collect()),
            Media::unknown()
        );
    }

    #[test]
    fn kinds_are_told_apart() {
        let is = |text: &str| {
            let media = Media::parse(text);
            (media.is_json(), media.is_stream(), media.is_text())
        };
        assert_eq!(is("application/problem+json"), (true, false, true));
        assert_eq!(is("text/event-stream"), (false, true, true));
        assert_eq!(is("application/x-ndjson"), (false, true, true));
        assert_eq!(is("image/svg+xml"), (false, false, true));
        assert_eq!(is("image/png"), (false, false, false));
        let image = Media::parse("Image/PNG");
        for (pattern, meant) in [
            ("image/*", true),
            ("image/png", true),
            ("image/p", false),
            ("*", false),
        ] {
            assert_eq!(image.is_one_of(&[pattern.to_owned()]), meant, "{pattern}");
        }
    }
}
