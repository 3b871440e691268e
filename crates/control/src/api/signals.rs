//! Signals to and from other systems.

use serde::{Deserialize, Serialize};

/// Who is told, and whose word is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalPeers {
    /// Those who are told.
    pub receivers: Vec<SignalReceiver>,
    /// Those whose word is taken.
    pub transmitters: Vec<SignalTransmitter>,
}

/// One who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalReceiver {
    /// Its name in the configuration.
    pub name: String,
    /// Whom events are for.
    pub audience: String,
    /// Its stream, once it has made one.
    pub stream: Option<SignalStream>,
    /// How many events wait for it.
    pub waiting: u64,
}

/// A stream of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalStream {
    /// Its id.
    pub id: String,
    /// `push` or `poll`.
    pub delivery: String,
    /// `enabled`, `paused` or `disabled`.
    pub status: String,
    /// What the receiver calls it.
    pub description: String,
}

/// One whose word is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalTransmitter {
    /// Its name in the configuration.
    pub name: String,
    /// The issuer of its events.
    pub issuer: String,
    /// Whether it is asked for events.
    pub polled: bool,
    /// Whether it may push events.
    pub pushes: bool,
    /// What is done when a session is revoked there.
    pub session_revoked: String,
    /// What is done when a credential is revoked there.
    pub credential_change: String,
    /// What is done when a risk becomes high there.
    pub risk_level_change: String,
}
