//! Where `sallyport connect` listens.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum At {
    /// An address of this machine.
    Address(SocketAddr),
    /// A socket in this folder, for clients of a database.
    Folder(PathBuf),
}

impl At {
    /// Reads an address, or the folder of a socket.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Ok(Self::Folder(PathBuf::from(text)));
        }
        text.parse().map(Self::Address).map_err(|_| {
            "write it like `127.0.0.1:9000`, or, for a database, name a folder with a `/` in it"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_folders_are_told_apart() {
        let address = "127.0.0.1:9000".parse().unwrap();
        assert_eq!(At::parse("127.0.0.1:9000"), Ok(At::Address(address)));
        assert_eq!(At::parse("./run"), Ok(At::Folder("./run".into())));
        assert!(At::parse("9000").is_err());
        assert!(At::parse("run").is_err());
    }
}
