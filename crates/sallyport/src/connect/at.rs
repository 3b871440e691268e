//! Where `sallyport connect` listens, and the secret in its URL.

use std::net::SocketAddr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use crate::failure::Failure;

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

/// Takes an address of this machine; which it is, when port 0 was named.
///
/// # Errors
/// [`Failure`] when nothing can listen there.
pub(super) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| Failure::new(format!("nothing can listen on {address}: {error}")))?;
    let bound = listener
        .local_addr()
        .map_err(|error| Failure::new(format!("the address is not known: {error}")))?;
    Ok((listener, bound))
}

/// A secret of so many random bytes, as it stands in a URL.
///
/// # Errors
/// [`Failure`] when there is no randomness.
pub(super) fn secret<const BYTES: usize>() -> Result<Zeroizing<String>, Failure> {
    let mut secret = Zeroizing::new([0; BYTES]);
    getrandom::fill(secret.as_mut_slice()).map_err(|error| Failure::new(error.to_string()))?;
    Ok(URL_SAFE_NO_PAD.encode(secret.as_slice()).into())
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
