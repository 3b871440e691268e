//! The first message of a connection (§55.2.1, §55.7): it has no type.

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

impl From<WireError> for StartupError {
    fn from(_: WireError) -> Self {
        Self::Malformed
    }
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

    proptest! {
        #[test]
        fn no_bytes_do_harm(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Startup::read(&body);
        }
    }
}
