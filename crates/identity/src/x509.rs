//! What all certificates that are made here have in common (RFC 5280): P-256 keys that are wiped when they
//! go, a name, and the time for which they are good.

use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use time::OffsetDateTime;
use zeroize::Zeroize as _;

/// A key or a certificate could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a certificate cannot be made: {0}")]
pub struct NotMade(String);

impl NotMade {
    /// For this reason.
    #[must_use]
    pub fn because(error: impl ToString) -> Self {
        Self(error.to_string())
    }
}

/// A P-256 private key that signs certificates, wiped when it goes.
pub struct Key(KeyPair);

impl Key {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`NotMade`] when the cryptographic library fails.
    pub fn generate() -> Result<Self, NotMade> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(NotMade::because)
    }

    /// From PKCS#8 (RFC 5958).
    ///
    /// # Errors
    /// [`NotMade`] when it is no P-256 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, NotMade> {
        let key = Self(KeyPair::try_from(der).map_err(NotMade::because)?);
        if key.0.algorithm() == &PKCS_ECDSA_P256_SHA256 {
            Ok(key)
        } else {
            Err(NotMade::because("the key is not on the curve P-256"))
        }
    }

    /// The key as the library that makes certificates takes it.
    #[must_use]
    pub fn pair(&self) -> &KeyPair {
        &self.0
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A certificate of this common name that is good from one moment to another, both in whole seconds. Everything
/// else, such as what its key may be used for, is for the caller to say.
///
/// # Errors
/// [`NotMade`] when a moment is none that certificates know.
pub fn params(
    name: impl Into<String>,
    from: Timestamp,
    until: Timestamp,
) -> Result<CertificateParams, NotMade> {
    let moment = |at: Timestamp| {
        OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(NotMade::because)
    };
    let mut params = CertificateParams::default();
    params.not_before = moment(from)?;
    params.not_after = moment(until)?;
    params.distinguished_name = DistinguishedName::new();
    let name: String = name.into();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}
