//! The columns of a result, and what in a row there is to read.

use std::borrow::Cow;

use bytes::{Buf as _, Bytes};

use crate::wire::HEADER;
use crate::wire::value::{Format, Formats, Read, is_text, read, types};

/// Longest value of a type that is never text, in bytes. A longer one is none, whatever the database says.
pub(super) const FIGURE_BYTES: usize = 40;

/// The columns of a result, as a `RowDescription` says (§55.7).
#[derive(Debug, Clone)]
pub(in crate::session) struct Columns {
    message: Bytes,
    fields: Vec<Field>,
}

#[derive(Debug, Clone, Copy)]
struct Field {
    /// Where its name is in the message.
    name: (usize, usize),
    oid: u32,
    format: Format,
}

impl Columns {
    /// Reads a whole message; `None` when it is not one.
    pub(in crate::session) fn read(message: &Bytes) -> Option<Self> {
        let mut body = message.get(HEADER..)?;
        let length = message.len();
        if body.len() < 2 {
            return None;
        }
        let count = usize::from(body.get_u16());
        let mut fields = Vec::with_capacity(count);
        for _ in 0..count {
            let begin = length - body.len();
            let end = body.iter().position(|byte| *byte == 0)?;
            body = body.get(end + 1..)?;
            if body.len() < 18 {
                return None;
            }
            // The table and the column's number in it.
            body.advance(6);
            let oid = body.get_u32();
            // Its size and modifier.
            body.advance(6);
            fields.push(Field {
                name: (begin, begin + end),
                oid,
                format: Format::of(body.get_u16())?,
            });
        }
        body.is_empty().then(|| Self {
            message: message.clone(),
            fields,
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.fields.len()
    }

    /// The name of one.
    pub(super) fn name(&self, at: usize) -> &str {
        let field = self.fields.get(at);
        let bytes = field.and_then(|field| self.message.get(field.name.0..field.name.1));
        bytes
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    /// Whether none of them is of a type that has text.
    pub(super) fn are_figures(&self) -> bool {
        self.fields.iter().all(|field| is_figure(field.oid))
    }

    /// Type and format of one.
    fn of(&self, at: usize) -> Option<(u32, Format)> {
        let field = self.fields.get(at)?;
        Some((field.oid, field.format))
    }
}

/// How the values of a result are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) columns: Option<&'a Columns>,
    /// The formats that the client asked for; `None` where the columns say it.
    pub(super) asked: Option<&'a Formats>,
}

impl Written<'_> {
    /// Type and format of a column; type 0 where nobody said.
    pub(super) fn of(&self, at: usize) -> (u32, Format) {
        let known = self.columns.and_then(|columns| columns.of(at));
        let oid = known.map_or(0, |(oid, _)| oid);
        let format = match self.asked {
            None => known.map_or(Format::Text, |(_, format)| format),
            Some(asked) => asked.of(at),
        };
        (oid, format)
    }

    pub(super) fn name(&self, at: usize) -> &str {
        self.columns.map_or("", |columns| columns.name(at))
    }
}

/// Whether values of a type are numbers, dates and the like, in which no text can stand.
fn is_figure(oid: u32) -> bool {
    matches!(
        oid,
        types::BOOL
            | types::INT2
            | types::INT4
            | types::INT8
            | types::OID
            | types::FLOAT4
            | types::FLOAT8
            | types::NUMERIC
            | types::MONEY
            | types::DATE
            | types::TIME
            | types::TIMETZ
            | types::TIMESTAMP
            | types::TIMESTAMPTZ
            | types::INTERVAL
            | types::UUID
    )
}

/// What there is to read in a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Legible<'v> {
    /// Nothing.
    Nothing,
    /// This text, behind so many bytes of it.
    Text(&'v str, usize),
    /// This, in a form in which nothing can be taken out of it.
    Opaque(String),
}

impl<'v> Legible<'v> {
    pub(super) fn of((oid, format): (u32, Format), bytes: &'v [u8]) -> Self {
        if bytes.is_empty() || (is_figure(oid) && bytes.len() <= FIGURE_BYTES) {
            return Self::Nothing;
        }
        let (text, before) = match format {
            Format::Text if oid == types::BYTEA => {
                return Self::Opaque(unhexed(bytes));
            }
            Format::Text => (bytes, 0),
            Format::Binary if is_text(oid) => (bytes, 0),
            Format::Binary if oid == types::JSONB => (bytes.get(1..).unwrap_or_default(), 1),
            Format::Binary => return Self::Opaque(String::from_utf8_lossy(bytes).into_owned()),
        };
        match std::str::from_utf8(text) {
            Ok(text) => Self::Text(text, before),
            Err(_) => Self::Opaque(String::from_utf8_lossy(text).into_owned()),
        }
    }
}

/// What a `bytea` holds that is written in hexadecimal (§8.4.1), as text; else as it is.
fn unhexed(bytes: &[u8]) -> String {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let decoded = bytes.strip_prefix(b"\\x").and_then(|digits| {
        digits
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => u8::try_from((digit(*high)? << 4) | digit(*low)?).ok(),
                _ => None,
            })
            .collect::<Option<Vec<u8>>>()
    });
    String::from_utf8_lossy(decoded.as_deref().unwrap_or(bytes)).into_owned()
}

/// A value as text, for the ledger; `None` when nobody can say what it is.
pub(super) fn plain((oid, format): (u32, Format), bytes: &[u8]) -> Option<Cow<'_, str>> {
    if format == Format::Text || is_text(oid) {
        return std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
    }
    match read(oid, format, bytes)? {
        Read::Text(text) => Some(Cow::Owned(text)),
        Read::Elements(all) => Some(Cow::Owned(all.join("\n"))),
    }
}

/// The values of a `DataRow` (§55.7), `None` for NULL; `None` when it is not one.
pub(super) fn values(body: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let mut body = body;
    if body.len() < 2 {
        return None;
    }
    let count = usize::from(body.get_u16());
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        if body.len() < 4 {
            return None;
        }
        let length = body.get_i32();
        if length == -1 {
            values.push(None);
            continue;
        }
        let (value, rest) = body.split_at_checked(usize::try_from(length).ok()?)?;
        values.push(Some(value));
        body = rest;
    }
    body.is_empty().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn described(fields: &[(&str, u32, u16)]) -> Bytes {
        let mut body = vec![b'T', 0, 0, 0, 0];
        body.extend_from_slice(&u16::try_from(fields.len()).unwrap().to_be_bytes());
        for (name, oid, format) in fields {
            body.extend_from_slice(name.as_bytes());
            body.extend_from_slice(&[0; 7]);
            body.extend_from_slice(&oid.to_be_bytes());
            body.extend_from_slice(&[0; 6]);
            body.extend_from_slice(&format.to_be_bytes());
        }
        Bytes::from(body)
    }

    #[test]
    fn columns_say_what_there_is_to_read() {
        let columns = Columns::read(&described(&[("id", 23, 0), ("note", 25, 0)])).unwrap();
        assert_eq!((columns.count(), columns.name(1)), (2, "note"));
        assert!(!columns.are_figures());
        let written = Written {
            columns: Some(&columns),
            asked: Some(&Formats::All(Format::Binary)),
        };
        assert_eq!(written.of(1), (25, Format::Binary));
        assert_eq!(Legible::of((23, Format::Text), b"12345"), Legible::Nothing);
        let long = [b'1'; 41];
        assert!(matches!(
            Legible::of((23, Format::Text), &long),
            Legible::Text(..)
        ));
        assert_eq!(
            Legible::of((3802, Format::Binary), b"\x01{}"),
            Legible::Text("{}", 1)
        );
        assert_eq!(
            Legible::of((17, Format::Text), b"\\x6162"),
            Legible::Opaque("ab".to_owned())
        );
        assert!(Columns::read(&Bytes::from_static(b"T\0\0\0\x06\0\x01")).is_none());
    }

    proptest! {
        #[test]
        fn whatever_comes_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = values(&bytes);
            let _ = Columns::read(&Bytes::from(bytes.clone()));
            let _ = unhexed(&bytes);
        }
    }
}
