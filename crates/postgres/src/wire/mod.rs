//! Messages of the PostgreSQL protocol 3 (manual §55.7), as far as the gateway takes part in them.

pub mod backend;
pub mod frontend;
pub(crate) mod password;
pub mod startup;
pub mod value;

use bytes::{Buf, Bytes, BytesMut};

/// Bytes before a message's body: its type and its length.
pub const HEADER: usize = 5;

/// What is wrong with what arrived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A length that cannot be.
    #[error("a message's length is not possible")]
    Length,
    /// A message over the limit.
    #[error("a message of {0} bytes is over the limit of {1} bytes")]
    TooLong(usize, usize),
    /// A body that is not what its type says.
    #[error("a message of type {0:?} is malformed")]
    Malformed(char),
}

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub tag: u8,
    /// All of it, the header too.
    pub bytes: Bytes,
}

impl Message {
    /// Its body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }
}

/// Type and whole length of the message that a buffer begins with; `None` when the header is not there.
///
/// # Errors
/// [`WireError::Length`]
pub fn peek(buffer: &[u8]) -> Result<Option<(u8, usize)>, WireError> {
    let Some((header, _)) = buffer.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let [tag, length @ ..] = *header;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| WireError::Length)?;
    if !(4..=1 << 30).contains(&length) {
        return Err(WireError::Length);
    }
    Ok(Some((tag, length + 1)))
}

/// Takes the next whole message out of a buffer.
///
/// # Errors
/// [`WireError`] when it is longer than `limit`, or its length is not possible.
pub fn next(buffer: &mut BytesMut, limit: usize) -> Result<Option<Message>, WireError> {
    let Some((tag, length)) = peek(buffer)? else {
        return Ok(None);
    };
    if length > limit {
        return Err(WireError::TooLong(length, limit));
    }
    if buffer.len() < length {
        return Ok(None);
    }
    let bytes = buffer.split_to(length).freeze();
    Ok(Some(Message { tag, bytes }))
}

/// Reads fields of a body.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    tag: u8,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(tag: u8, body: &'a [u8]) -> Self {
        Self { rest: body, tag }
    }

    pub(crate) fn malformed(&self) -> WireError {
        WireError::Malformed(char::from(self.tag))
    }

    /// Text up to a zero byte.
    pub(crate) fn text(&mut self) -> Result<&'a str, WireError> {
        let end = self.rest.iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| self.malformed())?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        std::str::from_utf8(text).map_err(|_| self.malformed())
    }

    pub(crate) fn byte(&mut self) -> Result<u8, WireError> {
        let (first, rest) = self.rest.split_first().ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn int16(&mut self) -> Result<u16, WireError> {
        if self.rest.len() < 2 {
            return Err(self.malformed());
        }
        Ok(self.rest.get_u16())
    }

    pub(crate) fn int32(&mut self) -> Result<u32, WireError> {
        if self.rest.len() < 4 {
            return Err(self.malformed());
        }
        Ok(self.rest.get_u32())
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        if self.rest.len() < length {
            return Err(self.malformed());
        }
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn end(&self) -> Result<(), WireError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.malformed())
        }
    }
}
