//! The first message of a connection (§55.2.1, §55.7): it has no type.

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::backend::{ErrorResponse, put, put_text};
use super::{Fields, WireError};

/// Longest first message, in bytes, as the database itself has it.
pub const LONGEST: usize = 10_000;

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSSENC: u32 = 80_877_104;

/// The newest minor version of protocol 3 that is spoken here.
pub const NEWEST_MINOR: u16 = 2;

/// What a connection begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Startup {
    /// TLS is asked for.
    Ssl,
    /// Encryption by GSSAPI is asked for.
    Gssenc,
    /// A statement of another connection shall be cancelled.
    Cancel {
        /// The number of that connection.
        process: u32,
        /// Its secret.
        secret: Vec<u8>,
    },
    /// A session begins.
    Session {
        /// The minor version of the protocol.
        minor: u16,
        /// Names and values of parameters.
        parameters: Vec<(String, String)>,
    },
}

/// Why a first message is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// It is malformed.
    #[error("the first message is malformed")]
    Malformed,
    /// Another protocol.
    #[error("protocol version {0}.{1} is not spoken here: it is 3.0 or 3.2")]
    Version(u16, u16),
}

impl StartupError {
    /// What the client is told.
    #[must_use]
    pub fn response(&self) -> ErrorResponse {
        let sqlstate = match self {
            Self::Version(..) => "0A000",
            Self::Malformed => "08P01",
        };
        ErrorResponse::fatal(sqlstate, self.to_string())
    }
}

impl From<WireError> for StartupError {
    fn from(_: WireError) -> Self {
        Self::Malformed
    }
}

/// Receives a first message, without its length; `None` when its length is not possible.
///
/// # Errors
/// What the connection says.
pub(crate) async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
) -> std::io::Result<Option<Vec<u8>>> {
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    let Some(length) = length.checked_sub(4).filter(|l| (4..=LONGEST).contains(l)) else {
        return Ok(None);
    };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(body))
}

/// What a client is told that asks for more than is spoken here (`NegotiateProtocolVersion`, §55.7):
/// nothing when all of it is.
#[must_use]
pub fn negotiation(minor: u16, parameters: &[(String, String)]) -> Option<Bytes> {
    let unknown: Vec<&str> = parameters
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| is_option(name))
        .collect();
    if minor <= NEWEST_MINOR && unknown.is_empty() {
        return None;
    }
    let mut out = BytesMut::new();
    put(&mut out, b'v', |body| {
        body.put_u32(0x0003_0000 | u32::from(minor.min(NEWEST_MINOR)));
        body.put_u32(u32::try_from(unknown.len()).unwrap_or(0));
        for name in unknown {
            put_text(body, name);
        }
    });
    Some(out.freeze())
}

/// Whether a parameter asks for something of the protocol, and not of the session.
#[must_use]
pub fn is_option(name: &str) -> bool {
    name.starts_with("_pq_.")
}

/// The first message of a session, with its length.
#[must_use]
pub(crate) fn session<'a>(
    minor: u16,
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u32(0);
    out.put_u32(0x0003_0000 | u32::from(minor));
    for (name, value) in parameters {
        put_text(&mut out, name);
        put_text(&mut out, value);
    }
    out.put_u8(0);
    let length = u32::try_from(out.len()).unwrap_or(0);
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

impl Startup {
    /// Reads a first message, without its length.
    ///
    /// # Errors
    /// [`StartupError`]
    pub fn read(body: &[u8]) -> Result<Self, StartupError> {
        let mut fields = Fields::new(0, body);
        match fields.int32()? {
            SSL => {
                fields.end()?;
                Ok(Self::Ssl)
            }
            GSSENC => {
                fields.end()?;
                Ok(Self::Gssenc)
            }
            CANCEL => {
                let process = fields.int32()?;
                let secret = fields.rest().to_vec();
                if !(4..=256).contains(&secret.len()) {
                    return Err(StartupError::Malformed);
                }
                Ok(Self::Cancel { process, secret })
            }
            version => {
                let major = u16::try_from(version >> 16).unwrap_or(0);
                let minor = u16::try_from(version & 0xffff).unwrap_or(0);
                if major != 3 {
                    return Err(StartupError::Version(major, minor));
                }
                let mut parameters = Vec::new();
                loop {
                    let name = fields.text()?;
                    if name.is_empty() {
                        break;
                    }
                    if parameters.iter().any(|(known, _)| known == name) {
                        return Err(StartupError::Malformed);
                    }
                    parameters.push((name.to_owned(), fields.text()?.to_owned()));
                }
                fields.end()?;
                Ok(Self::Session { minor, parameters })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn first_messages() {
        assert_eq!(Startup::read(&SSL.to_be_bytes()), Ok(Startup::Ssl));
        let mut session = 0x0003_0002_u32.to_be_bytes().to_vec();
        session.extend_from_slice(b"user\0a\0database\0crm\0\0");
        let Ok(Startup::Session { minor, parameters }) = Startup::read(&session) else {
            panic!("a session");
        };
        assert_eq!((minor, parameters.len()), (2, 2));
        session.push(0);
        assert_eq!(Startup::read(&session), Err(StartupError::Malformed));
        let mut twice = 0x0003_0000_u32.to_be_bytes().to_vec();
        twice.extend_from_slice(b"user\0a\0user\0b\0\0");
        assert_eq!(Startup::read(&twice), Err(StartupError::Malformed));
        assert_eq!(
            Startup::read(&0x0002_0000_u32.to_be_bytes()),
            Err(StartupError::Version(2, 0))
        );
    }

    #[test]
    fn what_is_not_spoken_is_negotiated() {
        let named = |name: &str| vec![(name.to_owned(), "1".to_owned())];
        for minor in [0, 2] {
            assert_eq!(negotiation(minor, &named("application_name")), None);
        }
        let newer = negotiation(9_999, &[]).unwrap();
        assert_eq!(&newer[..], b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0");
        let option = negotiation(0, &named("_pq_.x")).unwrap();
        assert_eq!(&option[..], b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0");
    }

    #[tokio::test]
    async fn a_session_that_is_asked_for_is_what_arrives() {
        let sent = session(2, [("user", "a"), ("database", "crm")]);
        let body = receive(&mut &sent[..]).await.unwrap().unwrap();
        let parameters = [("user", "a"), ("database", "crm")];
        let parameters = parameters.map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(
            Startup::read(&body),
            Ok(Startup::Session {
                minor: 2,
                parameters: parameters.into()
            })
        );
        assert_eq!(receive(&mut &b"\0\0\0\x05a"[..]).await.unwrap(), None);
        assert_eq!(receive(&mut &b"\0\x01\0\0"[..]).await.unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Startup::read(&body);
        }
    }
}
