//! What clients send (§55.7), each message read to its very end.

use super::value::{Format, Formats};
use super::{Fields, Message, WireError};

/// A message of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frontend<'a> {
    /// Carry out these statements.
    Query(&'a str),
    /// Prepare a statement.
    Parse {
        /// Its name; empty for the unnamed one.
        statement: &'a str,
        /// What it says.
        text: &'a str,
        /// The types of its first parameters, four bytes each; 0 for one that the database finds.
        types: &'a [u8],
    },
    /// Give a prepared statement its parameters.
    Bind {
        /// The portal that comes of it; empty for the unnamed one.
        portal: &'a str,
        /// The statement.
        statement: &'a str,
        /// The parameters as they are on the wire.
        parameters: &'a [u8],
    },
    /// Tell about a statement (`S`) or portal (`P`).
    Describe(Named<'a>),
    /// Forget a statement or portal.
    Close(Named<'a>),
    /// Carry out a portal.
    Execute(&'a str),
    /// End of a batch.
    Sync,
    /// Send what there is.
    Flush,
    /// Data that is copied in.
    CopyData,
    /// The end of it.
    CopyDone,
    /// It failed.
    CopyFail,
    /// Good bye.
    Terminate,
    /// Call a function by its number: never allowed.
    FunctionCall,
}

/// A statement or a portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// A prepared statement.
    Statement(&'a str),
    /// A portal.
    Portal(&'a str),
}

impl<'a> Frontend<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError::Malformed`] when the body is not what the type says, or the type is not known.
    pub fn read(message: &'a Message) -> Result<Self, WireError> {
        let mut fields = Fields::new(message.tag, message.body());
        let read = match message.tag {
            b'Q' => Self::Query(fields.text()?),
            b'P' => {
                let (statement, text) = (fields.text()?, fields.text()?);
                let types = fields.int16()?;
                let types = fields.bytes(usize::from(types) * 4)?;
                Self::Parse {
                    statement,
                    text,
                    types,
                }
            }
            b'B' => {
                let (portal, statement) = (fields.text()?, fields.text()?);
                let parameters = fields.rest();
                let formats = fields.int16()?;
                fields.bytes(usize::from(formats) * 2)?;
                for _ in 0..fields.int16()? {
                    let length = fields.int32()?;
                    // All ones stand for NULL.
                    if length != u32::MAX {
                        let length = usize::try_from(length).map_err(|_| fields.malformed())?;
                        fields.bytes(length)?;
                    }
                }
                let formats = fields.int16()?;
                fields.bytes(usize::from(formats) * 2)?;
                Self::Bind {
                    portal,
                    statement,
                    parameters,
                }
            }
            b'D' => Self::Describe(named(&mut fields)?),
            b'C' => Self::Close(named(&mut fields)?),
            b'E' => {
                let portal = fields.text()?;
                fields.int32()?;
                Self::Execute(portal)
            }
            b'S' => Self::Sync,
            b'H' => Self::Flush,
            b'd' => return Ok(Self::CopyData),
            b'c' => Self::CopyDone,
            b'f' => {
                fields.text()?;
                Self::CopyFail
            }
            b'X' => Self::Terminate,
            b'F' => return Ok(Self::FunctionCall),
            _ => return Err(fields.malformed()),
        };
        fields.end()?;
        Ok(read)
    }
}

/// What a Bind message says after its names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bound<'a> {
    /// The parameters, `None` for NULL.
    pub parameters: Vec<(Format, Option<&'a [u8]>)>,
    /// How columns of the result are written.
    pub results: Formats,
}

impl<'a> Bound<'a> {
    /// Reads what [`Frontend::Bind`] has of it; the parameters only if they are `wanted`.
    ///
    /// # Errors
    /// [`WireError::Malformed`] when formats are not what there is, or not as many as there may be.
    pub fn read(parameters: &'a [u8], wanted: bool) -> Result<Self, WireError> {
        let mut fields = Fields::new(b'B', parameters);
        let formats = Formats::read(&mut fields)?;
        let count = usize::from(fields.int16()?);
        if !formats.fit(count) {
            return Err(fields.malformed());
        }
        let mut parameters = Vec::with_capacity(if wanted { count } else { 0 });
        for at in 0..count {
            let length = fields.int32()?;
            let value = match usize::try_from(length) {
                _ if length == u32::MAX => None,
                Ok(length) => Some(fields.bytes(length)?),
                Err(_) => return Err(fields.malformed()),
            };
            if wanted {
                parameters.push((formats.of(at), value));
            }
        }
        Ok(Self {
            parameters,
            results: Formats::read(&mut fields)?,
        })
    }
}

fn named<'a>(fields: &mut Fields<'a>) -> Result<Named<'a>, WireError> {
    match fields.byte()? {
        b'S' => Ok(Named::Statement(fields.text()?)),
        b'P' => Ok(Named::Portal(fields.text()?)),
        _ => Err(fields.malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use proptest::prelude::*;

    fn message(tag: u8, body: &[u8]) -> Message {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        bytes.extend_from_slice(body);
        Message {
            tag,
            bytes: Bytes::from(bytes),
        }
    }

    #[test]
    fn messages_are_read_to_their_end() {
        assert_eq!(
            Frontend::read(&message(b'Q', b"SELECT 1\0")),
            Ok(Frontend::Query("SELECT 1"))
        );
        for (tag, body) in [
            (b'Q', &b"SELECT 1"[..]),
            (b'Q', b"SELECT 1\0; DROP TABLE t\0"),
            (b'Q', b"\xff\0"),
            (b'P', b"a\0b\0\0\x01"),
            (b'B', b"\0\0\0\0\0\x01\0\0\0\x09x\0\0"),
            (b'E', b"\0\0\0"),
            (b'S', b"x"),
            (b'D', b"Xa\0"),
            (b'!', b""),
        ] {
            assert!(
                Frontend::read(&message(tag, body)).is_err(),
                "{tag} {body:?}"
            );
        }
        let bind = message(b'B', b"p\0s\0\0\0\0\x01\xff\xff\xff\xff\0\0");
        assert!(matches!(
            Frontend::read(&bind),
            Ok(Frontend::Bind {
                portal: "p",
                statement: "s",
                ..
            })
        ));
    }

    #[test]
    fn frames_need_all_their_bytes_and_a_possible_length() {
        let mut buffer = BytesMut::from(&b"Q\0\0\0\x08abc"[..]);
        assert_eq!(super::super::next(&mut buffer, 100), Ok(None));
        buffer.extend_from_slice(b"\0S");
        let whole = super::super::next(&mut buffer, 100).unwrap().unwrap();
        assert_eq!((whole.tag, whole.body()), (b'Q', &b"abc\0"[..]));
        assert_eq!(&buffer[..], b"S");
        let mut short = BytesMut::from(&b"Q\0\0\0\x03"[..]);
        assert_eq!(super::super::next(&mut short, 100), Err(WireError::Length));
        let mut long = BytesMut::from(&b"Q\0\x01\0\0"[..]);
        assert!(matches!(
            super::super::next(&mut long, 100),
            Err(WireError::TooLong(..))
        ));
    }

    #[test]
    fn parameters_are_read_with_their_formats() {
        let mut body = Vec::new();
        for part in [
            &[0, 2, 0, 0, 0, 1][..],
            &[0, 2],
            &[0, 0, 0, 1, b'x'],
            &[0xff; 4],
            &[0, 1, 0, 1],
        ] {
            body.extend_from_slice(part);
        }
        let read = Bound::read(&body, true).unwrap();
        assert_eq!(
            read.parameters,
            [(Format::Text, Some(&b"x"[..])), (Format::Binary, None)]
        );
        assert_eq!(read.results, Formats::All(Format::Binary));
        assert!(
            Bound::read(&[0, 1, 0, 2, 0, 0, 0, 0], true).is_err(),
            "no such format"
        );
        let three_for_one = [0, 2, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0];
        assert!(Bound::read(&three_for_one, true).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(tag: u8, body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Frontend::read(&message(tag, &body));
            let _ = Bound::read(&body, true);
        }
    }
}
