//! TLS of the listeners. Certificates are read again at each reload, so that a renewed one is
//! taken over without a restart.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway::peer::Peers;
use model::config::TlsFiles;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::failure::Failure;

/// A certificate, with the files that it is read from again.
pub(super) type Renewable = (TlsFiles, Arc<Certificate>);

/// The certificate of one listener, as it is now.
#[derive(Debug)]
pub(super) struct Certificate(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Certificate {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// [`Failure`] when a file cannot be read, or they do not belong together.
    pub(super) fn read(files: &TlsFiles) -> Result<Arc<Self>, Failure> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified(files)?))))
    }

    /// Reads the files again; what was there before stays in use when that fails.
    ///
    /// # Errors
    /// [`Failure`] as of [`Self::read`].
    pub(super) fn renew(&self, files: &TlsFiles) -> Result<(), Failure> {
        self.0.store(Arc::new(certified(files)?));
        Ok(())
    }

    /// The configuration of a listener with this certificate: TLS 1.2 and 1.3, HTTP/1.1. Clients may show an
    /// SVID.
    ///
    /// # Errors
    /// [`Failure`] when the library cannot do that.
    pub(super) fn server(
        self: &Arc<Self>,
        peers: &Arc<Peers>,
    ) -> Result<Arc<ServerConfig>, Failure> {
        let mut config = peers
            .listener(Arc::clone(self) as Arc<dyn ResolvesServerCert>)
            .map_err(|error| Failure::new(format!("TLS cannot be set up: {error}")))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certified(files: &TlsFiles) -> Result<CertifiedKey, Failure> {
    let failed = |what: &str, path: &Path, why: String| {
        Failure::new(format!(
            "no {what} can be read from {}: {why}",
            path.display()
        ))
        .hint("it must be a PEM file that this user can read")
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .map_err(|error| failed("certificate", &files.cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(failed(
            "certificate",
            &files.cert,
            "the file holds none".to_owned(),
        ));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| failed("private key", &files.key, error.to_string()))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
        Failure::new(format!(
            "the certificate {} and the key {} cannot be used together: {error}",
            files.cert.display(),
            files.key.display()
        ))
        .hint("see that both are of the same pair, and that the chain begins with the leaf")
    })
}
