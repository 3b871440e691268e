//! The first message of TLS, read without taking part in it: even where nobody looks into a tunnel, it
//! leads to the host that it was opened for.

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::target::Host;

/// Bytes that are read at once.
const PIECE: usize = 4 << 10;
/// Longest first message, in bytes; those of browsers with all their extensions are below 3 KiB.
const LONGEST: usize = 32 << 10;

/// The last word of TLS to a client that names another host: a fatal alert, `unrecognized_name` (RFC 6066
/// §3, RFC 8446 §6).
pub(super) const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x70];

/// Why a tunnel does not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoHello {
    /// The client went away.
    #[error("the tunnel was closed before it began")]
    Gone,
    /// It is not TLS.
    #[error("what came through the tunnel is not TLS")]
    NotTls,
}

/// Reads what a client sends until its first message is whole. Gives back all bytes that were read, and
/// the host that the message names.
///
/// # Errors
/// [`NoHello`]
pub(super) async fn read(
    client: &mut (impl AsyncRead + Unpin),
) -> Result<(Vec<u8>, Option<String>), NoHello> {
    let mut acceptor = Acceptor::default();
    let mut all = Vec::new();
    loop {
        let begun = all.len();
        if begun > LONGEST {
            return Err(NoHello::NotTls);
        }
        all.resize(begun + PIECE, 0);
        let length = client.read(&mut all[begun..]).await;
        let length = length.map_err(|_| NoHello::Gone)?;
        all.truncate(begun + length);
        if length == 0 {
            return Err(NoHello::Gone);
        }
        let mut left = &all[begun..];
        while !left.is_empty() {
            match acceptor.read_tls(&mut left) {
                Ok(0) | Err(_) => return Err(NoHello::NotTls),
                Ok(_) => {}
            }
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(str::to_owned);
                    return Ok((all, name));
                }
                Ok(None) => {}
                Err(_) => return Err(NoHello::NotTls),
            }
        }
    }
}

/// Whether a first message that names this host, or none, is for this one. Addresses are never named
/// (RFC 6066 §3).
pub(super) fn is_for(named: Option<&str>, host: &Host) -> bool {
    match (named, host) {
        (Some(named), Host::Name(name)) => named.eq_ignore_ascii_case(name),
        (None, Host::V4(_) | Host::V6(_)) => true,
        (Some(_), Host::V4(_) | Host::V6(_)) | (None, Host::Name(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use std::sync::Arc;

    fn hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn the_first_message_is_read_however_it_comes_and_given_back_whole() {
        let mut sent = hello("api.example.org");
        sent.extend_from_slice(b"behind");
        for step in [1, 7, sent.len()] {
            let mut client = in_pieces(&sent, step);
            let (bytes, name) = read(&mut client).await.unwrap();
            assert!(sent.starts_with(&bytes), "step {step}");
            assert_eq!(name.as_deref(), Some("api.example.org"));
            assert!(bytes.len() + b"behind".len() >= sent.len());
        }
        let (_, name) = read(&mut hello("192.0.2.1").as_slice()).await.unwrap();
        assert_eq!(name, None);
    }

    /// A reader that gives a few bytes at a time.
    fn in_pieces(bytes: &[u8], step: usize) -> impl AsyncRead + Unpin {
        let (mut to, from) = tokio::io::duplex(1 << 16);
        let pieces: Vec<Vec<u8>> = bytes.chunks(step).map(<[u8]>::to_vec).collect();
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            for piece in pieces {
                to.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        from
    }

    #[tokio::test]
    async fn what_is_no_tls_goes_nowhere() {
        for text in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"SSH-2.0-x\r\n",
            &[0x15, 3, 3, 0, 2, 2, 0],
        ] {
            let read = read(&mut &text[..]).await;
            assert_eq!(read.unwrap_err(), NoHello::NotTls, "{text:?}");
        }
        assert_eq!(read(&mut &b""[..]).await.unwrap_err(), NoHello::Gone);
        let half = hello("a.example");
        let half = &half[..half.len() / 2];
        assert_eq!(read(&mut &half[..]).await.unwrap_err(), NoHello::Gone);
    }

    #[test]
    fn names_are_for_hosts_and_addresses_have_none() {
        let host = |text: &str| {
            super::super::target::Target::parse(&format!("{text}:1"))
                .unwrap()
                .host()
                .clone()
        };
        assert!(is_for(Some("API.example.org"), &host("api.example.org")));
        assert!(is_for(None, &host("192.0.2.1")));
        for (named, of) in [
            (Some("evil.example.org"), "api.example.org"),
            (None, "api.example.org"),
            (Some("api.example.org"), "192.0.2.1"),
        ] {
            assert!(!is_for(named, &host(of)), "{named:?} {of}");
        }
    }
}
