//! TLS with a database, or with the gateway: how the other side is verified.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use tokio::net::TcpStream;

/// Longest file with certification authorities, in bytes; that of a whole system has about 200 KiB.
const LONGEST: u64 = 8 << 20;

/// How TLS is spoken, and the name that the other side's certificate must have.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// With the certification authorities in the text of a PEM file, or with the public ones.
    ///
    /// # Errors
    /// What cannot be used.
    pub(crate) fn new(host: &str, authorities: Option<&[u8]>) -> Result<Self, String> {
        let roots = match authorities {
            Some(pem) => roots(pem)?,
            None => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn();
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("`{host}` cannot be verified by TLS"))?;
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }

    /// The same other side, with TLS spoken as somebody else has it: who brings a certificate of its own verifies by
    /// the same certification authorities.
    pub(crate) fn showing(&self, config: &ClientConfig) -> Self {
        let mut config = config.clone();
        config.alpn_protocols = alpn();
        Self {
            config: Arc::new(config),
            name: self.name.clone(),
        }
    }

    /// Begins to speak it.
    pub(super) async fn connect(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        TlsConnector::from(Arc::clone(&self.config))
            .connect(self.name.clone(), stream)
            .await
    }
}

/// §55.2.10
fn alpn() -> Vec<Vec<u8>> {
    vec![b"postgresql".to_vec()]
}

/// Reads a file with certification authorities.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut pem = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut pem));
    match read {
        Ok(length) if length as u64 <= LONGEST => Ok(pem),
        Ok(_) => Err(format!("{}: it is longer than 8 MiB", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("the `ca` cannot be used: {error}");
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        store.add(certificate).map_err(|error| wrong(&error))?;
    }
    if store.is_empty() {
        return Err(wrong(&"it holds no certificate"));
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_authorities_are_there_and_a_file_takes_their_place() {
        assert!(Tls::new("db.example.org", None).is_ok());
        assert!(Tls::new("127.0.0.1", None).is_ok());
        assert!(Tls::new("not a name", None).is_err());
        assert!(Tls::new("db.example.org", Some(b"")).is_err());
        assert!(
            Tls::new(
                "db.example.org",
                Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            )
            .is_err()
        );
    }
}
