//! Who is at the other end of a TLS connection: the SVID that a client presented, verified in the handshake.
//!
//! Every listener with TLS asks for a certificate, and nobody has to show one. One that is shown must be an SVID
//! of this trust domain, good at that moment and signed by an authority of the bundle, else there is no
//! connection. What it says is then read once, and known for each request on the connection. Sessions are not
//! resumed: a connection is always as new as what its client has shown.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::Extensions;
use identity::svid::{Authority, Bundle, NotAnSvid, Svid};
use jiff::Timestamp;
use model::{Denial, Rule};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};

use crate::refusals::Refusals;

/// Verifies what clients present.
pub struct Peers {
    authority: Arc<Authority>,
    provider: Arc<CryptoProvider>,
    /// What was made of the bundle last.
    trusted: ArcSwapOption<Trusted>,
    refusals: Refusals,
}

/// A bundle, and what verifies by it.
struct Trusted {
    bundle: Arc<Bundle>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peers({})", self.authority.trust_domain())
    }
}

impl Peers {
    /// Trusts the bundle of an authority, as it is at each handshake. Certificates that are refused are recorded.
    #[must_use]
    pub fn new(authority: Arc<Authority>, refusals: Refusals) -> Self {
        Self {
            authority,
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            trusted: ArcSwapOption::empty(),
            refusals,
        }
    }

    /// TLS 1.2 and 1.3 of a listener with a certificate of its own. It asks for certificates of clients, and
    /// resumes no session.
    ///
    /// # Errors
    /// What the library says when it cannot do that.
    pub fn listener(
        self: &Arc<Self>,
        own: Arc<dyn ResolvesServerCert>,
    ) -> Result<ServerConfig, Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::clone(self) as Arc<dyn ClientCertVerifier>)
            .with_cert_resolver(own);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// What verifies by the bundle as it is now.
    fn trusted(&self) -> Result<Arc<Trusted>, Error> {
        let bundle = self.authority.bundle();
        if let Some(known) = self.trusted.load_full()
            && Arc::ptr_eq(&known.bundle, &bundle)
        {
            return Ok(known);
        }
        let mut roots = RootCertStore::empty();
        for certificate in bundle.certificates() {
            roots.add(CertificateDer::from(certificate.as_slice()))?;
        }
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let trusted = Arc::new(Trusted { bundle, verifier });
        self.trusted.store(Some(Arc::clone(&trusted)));
        Ok(trusted)
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let trusted = self.trusted()?;
        // The signature first: what nobody here signed is not read any further.
        let verified = trusted
            .verifier
            .verify_client_cert(certificate, intermediates, now)?;
        let own = Svid::read(certificate).and_then(|svid| {
            let home = svid.trust_domain == *self.authority.trust_domain();
            home.then_some(svid).ok_or(NotAnSvid::NotAnAgent)
        });
        match own {
            Ok(_) => Ok(verified),
            Err(error) => Err(Error::InvalidCertificate(CertificateError::Other(
                rustls::OtherError(Arc::new(error)),
            ))),
        }
    }
}

impl ClientCertVerifier for Peers {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // None: clients have one certificate for this, and authorities come and go.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now)
            .inspect_err(|error| {
                let denial = Denial {
                    rule: Rule::Unauthenticated,
                    reason: format!("a client presented a certificate that is not trusted: {error}"),
                    remedy: "present an SVID of this trust domain (`sallyport agent svid`), or no certificate"
                        .to_owned(),
                };
                self.refusals.note(Timestamp::now(), "tls", None, denial);
            })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The SVID that the client of a connection presented, if it did. Only for connections of listeners whose
/// certificates [`Peers`] verifies; it is read once per connection.
#[must_use]
pub fn of_connection(connection: &rustls::ServerConnection) -> Option<Arc<Svid>> {
    let certificate = connection.peer_certificates()?.first()?;
    // It was read in the handshake, so it can be read.
    Svid::read(certificate).ok().map(Arc::new)
}

/// The SVID that came with the connection of a request. Nothing that a client sends can put one there.
#[must_use]
pub fn of_request(extensions: &Extensions) -> Option<&Svid> {
    extensions.get::<Arc<Svid>>().map(|svid| &**svid)
}

#[cfg(test)]
mod tests;
