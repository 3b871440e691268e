//! Agents and their instances.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::InstanceId;
use crate::name::{AgentName, SegmentName};

/// Where an agent is in its life. Only an active agent gets anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// Known, but no instance has enrolled yet.
    Registered,
    /// At least one instance has enrolled; tasks may be opened.
    Active,
    /// Stopped by a person or a playbook; can be released again.
    Quarantined,
    /// Gone for good; its name is not used again.
    Retired,
}

impl Lifecycle {
    /// The word used in the API, the store and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Active => "active",
            Self::Quarantined => "quarantined",
            Self::Retired => "retired",
        }
    }

    /// Reads the word back; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Registered,
            Self::Active,
            Self::Quarantined,
            Self::Retired,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }

    /// Whether a change from this state to `next` is one that the lifecycle knows.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use Lifecycle::{Active, Quarantined, Registered, Retired};
        matches!(
            (self, next),
            (Registered, Active | Quarantined | Retired)
                | (Active, Quarantined | Retired)
                | (Quarantined, Active | Registered | Retired)
        )
    }
}

/// A service principal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its name, unique in the trust domain.
    pub name: AgentName,
    /// The human who answers for it, as an e-mail address.
    pub sponsor: String,
    /// The segment that it belongs to, if any.
    pub segment: Option<SegmentName>,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// When it was registered.
    pub registered_at: Timestamp,
}

/// One running copy of an agent, with its own key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id, which is its OAuth `client_id`.
    pub id: InstanceId,
    /// The agent that it is a copy of.
    pub agent: AgentName,
    /// The public key as a JWK (RFC 7517), one line of JSON.
    pub public_jwk: String,
    /// The JWK thumbprint (RFC 7638, SHA-256, base64url).
    pub thumbprint: String,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// Whether it was disabled since.
    pub disabled: bool,
}

/// How a caller proved possession of the key that its token is bound to, the weakest first: what demands one of
/// them takes a stronger one too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// No proof: whoever holds the token can use it. Only where a template allows it.
    Bearer,
    /// A fresh DPoP proof on this very call (RFC 9449).
    Dpop,
    /// The connection of this call was made with the key of the agent's SVID (RFC 8705). There is nothing on it
    /// that somebody could take along and show again elsewhere.
    Certificate,
}

impl Proof {
    /// The word used in templates, the API and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Dpop => "dpop",
            Self::Certificate => "certificate",
        }
    }

    /// Reads the word back; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Bearer, Self::Dpop, Self::Certificate]
            .into_iter()
            .find(|proof| proof.as_str() == text)
    }
}
