//! X.509-SVIDs: short-lived certificates that say which agent, and which running copy of it, is at the other
//! end of a TLS connection ([X509-SVID]).
//!
//! The one URI in a certificate is the agent's SPIFFE ID, and nothing else in it is an identity for anybody
//! outside. The instance that it was issued to is the common name of its subject, for Sallyport alone: so the
//! agent's name stays the same for everyone who knows it, and a certificate can still be refused with its
//! instance ([decision 6](../../../docs/decisions/0006-svids-name-agents.md)).
//!
//! [X509-SVID]: https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md

mod authority;
mod bundle;
mod request;

pub use authority::{Authority, AuthorityError, Issued, NotIssued};
pub use bundle::Bundle;
pub use request::{NotRequested, Request};

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use model::{AgentName, InstanceId, TrustDomain};
use serde::{Deserialize, Serialize};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use crate::{base64url, decode_base64url, sha256};

/// How long an SVID is good when nobody says otherwise.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(1);
/// The shortest and the longest life of an SVID.
pub const SHORTEST: SignedDuration = SignedDuration::from_secs(60);
/// See [`SHORTEST`].
pub const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// How far the clocks of those who verify may be behind.
const BACKDATED: SignedDuration = SignedDuration::from_secs(60);

/// What a certificate is known by: SHA-256 of its DER, which tokens carry as `x5t#S256` (RFC 8705 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// That of a certificate in DER.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        Self(sha256(certificate))
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url(&self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

impl Serialize for Thumbprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Thumbprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        match decode_base64url(&text, &mut bytes) {
            Some(32) => Ok(Self(bytes)),
            _ => Err(serde::de::Error::custom(
                "a thumbprint is 32 bytes in base64url",
            )),
        }
    }
}

/// Who an SVID is for, as it stands in the certificate. That somebody who is trusted signed it, and that it is
/// good now, is for whoever took it from a connection to see to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Svid {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The agent.
    pub agent: AgentName,
    /// The running copy of it.
    pub instance: InstanceId,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// What it is known by.
    pub thumbprint: Thumbprint,
    /// Its serial number, in hexadecimal.
    pub serial: String,
}

/// Why a certificate is no SVID of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnSvid {
    /// It cannot be read.
    #[error("the certificate is malformed")]
    Malformed,
    /// There is not exactly one name in it, or it is no URI (X509-SVID §2).
    #[error("the certificate must have exactly one name, a URI: the agent's SPIFFE ID")]
    NotOneName,
    /// The name is another one's.
    #[error("the URI in the certificate is no agent's SPIFFE ID")]
    NotAnAgent,
    /// It may sign certificates (X509-SVID §4).
    #[error("the certificate is one of an authority, or its key is not for signatures alone")]
    NotALeaf,
    /// No instance is named.
    #[error("the certificate does not say which instance of the agent it was issued to")]
    NoInstance,
}

impl Svid {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// [`NotAnSvid`]
    pub fn read(der: &[u8]) -> Result<Self, NotAnSvid> {
        let malformed = |_| NotAnSvid::Malformed;
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| NotAnSvid::Malformed)?;
        if !rest.is_empty() {
            return Err(NotAnSvid::Malformed);
        }
        let names = certificate.subject_alternative_name().map_err(malformed)?;
        let names = names.ok_or(NotAnSvid::NotOneName)?;
        let [GeneralName::URI(id)] = names.value.general_names[..] else {
            return Err(NotAnSvid::NotOneName);
        };
        let (trust_domain, agent) = agent_of(id).ok_or(NotAnSvid::NotAnAgent)?;
        let usage = certificate.key_usage().map_err(malformed)?;
        // Digital signatures, the first bit, and nothing else.
        let signs_only = usage.is_some_and(|usage| usage.value.flags == 1);
        let constraints = certificate.basic_constraints().map_err(malformed)?;
        let is_authority = constraints.is_some_and(|of| of.value.ca);
        if is_authority || !signs_only {
            return Err(NotAnSvid::NotALeaf);
        }
        let mut subject = certificate.subject().iter_common_name();
        let instance = match (subject.next(), subject.next()) {
            (Some(name), None) => name
                .as_str()
                .ok()
                .and_then(|name| InstanceId::parse(name).ok()),
            _ => None,
        };
        let moment =
            |seconds: i64| Timestamp::from_second(seconds).map_err(|_| NotAnSvid::Malformed);
        let validity = certificate.validity();
        let from = moment(validity.not_before.timestamp())?;
        Ok(Self {
            trust_domain,
            agent,
            instance: instance.ok_or(NotAnSvid::NoInstance)?,
            issued_at: from
                .checked_add(BACKDATED)
                .map_err(|_| NotAnSvid::Malformed)?,
            expires_at: moment(validity.not_after.timestamp())?,
            thumbprint: Thumbprint::of(der),
            serial: hex(certificate.raw_serial()),
        })
    }

    /// Whether it has expired.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }
}

/// The trust domain and the agent that a SPIFFE ID names; it has one spelling only.
fn agent_of(id: &str) -> Option<(TrustDomain, AgentName)> {
    let (domain, _) = id.strip_prefix("spiffe://")?.split_once('/')?;
    let domain = TrustDomain::parse(domain).ok()?;
    let agent = domain.agent_of(id)?;
    Some((domain, agent))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
