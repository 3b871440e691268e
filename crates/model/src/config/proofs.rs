//! What the configuration says of proofs of possession.

use serde::{Deserialize, Serialize};

/// Proofs of possession (RFC 9449).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proofs {
    /// Whether they must carry a nonce of the server that they are for (RFC 9449 §8 and §9).
    pub nonce: Nonce,
}

/// Whether something must carry a nonce.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Nonce {
    /// It need not, and none is offered.
    #[default]
    Off,
    /// It must; what does not is answered with one.
    Required,
}

impl Proofs {
    /// Whether a proof without a nonce is refused.
    #[must_use]
    pub fn demand_nonces(&self) -> bool {
        self.nonce == Nonce::Required
    }
}
