//! Certificates of agents: `[identity]`.

use serde::{Deserialize, Serialize};

/// What certificates agents get (X.509-SVIDs).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// How long one is good, in seconds: [`Self::SHORTEST`] to [`Self::LONGEST`].
    pub svid_seconds: u64,
}

impl Identity {
    /// The shortest life of a certificate, in seconds: less would be over before it is used.
    pub const SHORTEST: u64 = 60;
    /// The longest life of a certificate, in seconds: a day.
    pub const LONGEST: u64 = 24 * 3_600;
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            svid_seconds: 3_600,
        }
    }
}
