//! Asking for an SVID: a certification request (PKCS#10, RFC 2986) is signed with the key that it is about, so
//! whoever asks has that key.

use std::path::Path;

use rcgen::{CertificateParams, DistinguishedName, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY};
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

use crate::private_file::{self, KeyError};
use crate::public_key::PublicKey;
use crate::signing::{SigningFailed, SigningKey};
use crate::x509::{self, NotMade};

/// Longest request that is read, in bytes of PEM.
const LIMIT: usize = 8 << 10;

/// A request for an SVID, with the new key that it is about. The key never leaves the machine.
pub struct Request {
    key: SigningKey,
    pem: String,
}

impl Request {
    /// Makes a key, and a request that names nobody: who asks says whom the certificate is for.
    ///
    /// # Errors
    /// [`NotMade`] when the cryptographic library fails.
    pub fn new() -> Result<Self, NotMade> {
        let key = SigningKey::generate().map_err(NotMade::because)?;
        let der = key.to_pkcs8().map_err(NotMade::because)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let signing = x509::Key::from_pkcs8(&der)?;
        let request = params.serialize_request(signing.pair());
        let request = request.map_err(NotMade::because)?;
        let pem = request.pem().map_err(NotMade::because)?;
        Ok(Self { key, pem })
    }

    /// The request, in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The private key, as PKCS#8 in DER.
    ///
    /// # Errors
    /// [`SigningFailed`]
    pub fn key(&self) -> Result<Zeroizing<Vec<u8>>, SigningFailed> {
        self.key.to_pkcs8()
    }

    /// Writes the private key into a new file that only its owner can read.
    ///
    /// # Errors
    /// [`KeyError`], also when there is a file already.
    pub fn save_key(&self, path: &Path) -> Result<(), KeyError> {
        private_file::save(&self.key, path)
    }
}

/// Why a request is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRequested {
    /// It is no certification request in PEM.
    #[error("`csr` is no certification request in PEM (`BEGIN CERTIFICATE REQUEST`)")]
    Malformed,
    /// The key is of another kind.
    #[error("the key of an SVID must be on the curve P-256")]
    OtherKey,
    /// It was not signed with its own key.
    #[error("the certification request is not signed with the key that it is about")]
    NotSigned,
    /// It asks for other names.
    #[error(
        "the certification request asks for another name than the agent's SPIFFE ID: leave names out"
    )]
    OtherName,
}

/// The public key of a request whose signature was verified.
#[derive(Debug)]
pub(super) struct Requested(Vec<u8>);

impl PublicKeyData for Requested {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Requested {
    /// Reads a request for a SPIFFE ID: it names that ID or nobody. Whatever else it asks for is not looked
    /// at, since none of it gets into the certificate.
    pub(super) fn read(pem: &str, id: &str) -> Result<Self, NotRequested> {
        let malformed = || NotRequested::Malformed;
        if pem.len() > LIMIT {
            return Err(malformed());
        }
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| malformed())?;
        if !matches!(
            &*pem.label,
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST"
        ) {
            return Err(malformed());
        }
        let (rest, request) =
            X509CertificationRequest::from_der(&pem.contents).map_err(|_| malformed())?;
        if !rest.is_empty() {
            return Err(malformed());
        }
        let key = &request.certification_request_info.subject_pki;
        let curve = key.algorithm.parameters.as_ref();
        let curve = curve.and_then(|parameters| parameters.as_oid().ok());
        let point = &*key.subject_public_key.data;
        if key.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY
            || curve.is_none_or(|curve| curve != OID_EC_P256)
            || PublicKey::p256(point).is_err()
            || point.len() != 65
        {
            return Err(NotRequested::OtherKey);
        }
        request
            .verify_signature()
            .map_err(|_| NotRequested::NotSigned)?;
        let mut names = request
            .requested_extensions()
            .into_iter()
            .flatten()
            .filter_map(|extension| match extension {
                ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
                _ => None,
            })
            .flatten();
        if names.any(|name| !matches!(name, GeneralName::URI(asked) if *asked == id)) {
            return Err(NotRequested::OtherName);
        }
        Ok(Self(point.to_vec()))
    }
}
