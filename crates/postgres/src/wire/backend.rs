//! Messages that the gateway itself writes (§55.7), to clients and to databases.

use bytes::{BufMut, Bytes, BytesMut};

/// The end of a portal's name that never exists: carrying it out makes the database fail as it fails on
/// any mistake of a client.
pub const NO_PORTAL: &str = "sallyport_refused";

/// Adds a message to a buffer.
pub fn put(buffer: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    buffer.put_u8(tag);
    let at = buffer.len();
    buffer.put_u32(0);
    body(buffer);
    let length = u32::try_from(buffer.len() - at).unwrap_or(u32::MAX);
    if let Some(place) = buffer.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Adds text and its zero byte; what has a zero byte is cut off there.
pub fn put_text(buffer: &mut BytesMut, text: &str) {
    let text = text.split('\0').next().unwrap_or("");
    buffer.put_slice(text.as_bytes());
    buffer.put_u8(0);
}

/// An error as clients are told (§55.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorResponse {
    /// Whether the connection ends with it.
    pub fatal: bool,
    /// The SQLSTATE.
    pub sqlstate: &'static str,
    /// What is wrong.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What can be done.
    pub hint: Option<String>,
}

impl ErrorResponse {
    /// An error after which the session goes on.
    #[must_use]
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self {
            fatal: false,
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// An error with which the connection ends.
    #[must_use]
    pub fn fatal(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self {
            fatal: true,
            ..Self::new(sqlstate, message)
        }
    }

    /// With what can be done.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With more about it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The message.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut buffer = BytesMut::new();
        let severity = if self.fatal { "FATAL" } else { "ERROR" };
        put(&mut buffer, b'E', |body| {
            let mut field = |tag: u8, text: &str| {
                body.put_u8(tag);
                put_text(body, text);
            };
            field(b'S', severity);
            field(b'V', severity);
            field(b'C', self.sqlstate);
            field(b'M', &self.message);
            if let Some(detail) = &self.detail {
                field(b'D', detail);
            }
            if let Some(hint) = &self.hint {
                field(b'H', hint);
            }
            body.put_u8(0);
        });
        buffer.freeze()
    }
}

/// What a database said was wrong: SQLSTATE and message.
#[must_use]
pub fn read_error(body: &[u8]) -> (String, String) {
    let field = |wanted| read_field(body, wanted).unwrap_or_default();
    (field(b'C'), field(b'M'))
}

/// What stands in an error's detail before the nonce that a proof must carry (RFC 9449 §9).
pub const NONCE: &str = "DPoP-Nonce:";

/// The detail of an error.
#[must_use]
pub fn read_detail(body: &[u8]) -> Option<String> {
    read_field(body, b'D')
}

/// One field of an error.
fn read_field(body: &[u8], wanted: u8) -> Option<String> {
    let mut rest = body;
    while let Some((tag, after)) = rest.split_first() {
        let end = after.iter().position(|byte| *byte == 0);
        let (true, Some(end)) = (*tag != 0, end) else {
            break;
        };
        if *tag == wanted {
            let text = after.get(..end).unwrap_or_default();
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = after.get(end + 1..).unwrap_or_default();
    }
    None
}

/// How many rows the tag of a `CommandComplete` says were changed or copied; none for `SELECT`.
#[must_use]
pub fn changed_rows(body: &[u8]) -> u64 {
    let text = body.strip_suffix(&[0]).unwrap_or(body);
    let Ok(text) = std::str::from_utf8(text) else {
        return 0;
    };
    let mut words = text.split(' ');
    match words.next() {
        Some("INSERT" | "UPDATE" | "DELETE" | "COPY" | "MERGE") => {
            words.next_back().and_then(|n| n.parse().ok()).unwrap_or(0)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_written_and_read() {
        let error = ErrorResponse::new("42501", "no\0hidden").hint("ask");
        let bytes = error.to_bytes();
        let (tag, length) = super::super::peek(&bytes).unwrap().unwrap();
        assert_eq!((tag, length), (b'E', bytes.len()));
        let (code, message) = read_error(&bytes[super::super::HEADER..]);
        assert_eq!((code.as_str(), message.as_str()), ("42501", "no"));
    }

    #[test]
    fn rows_of_tags() {
        assert_eq!(changed_rows(b"INSERT 0 12\0"), 12);
        assert_eq!(changed_rows(b"UPDATE 3\0"), 3);
        assert_eq!(changed_rows(b"SELECT 3\0"), 0);
        assert_eq!(changed_rows(b"BEGIN\0"), 0);
        assert_eq!(changed_rows(b"\xff"), 0);
    }
}
