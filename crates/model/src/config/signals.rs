//! Signals to and from other security systems: `[signals]` (OpenID Shared Signals Framework 1.0).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Secret;
use crate::name::ServerName;

/// Who is told what happened to agents here, and whose word on what happened elsewhere is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Signals {
    /// Those who are told, by name.
    pub receivers: BTreeMap<String, SignalReceiver>,
    /// Those whose word is taken, by name.
    pub transmitters: BTreeMap<String, SignalTransmitter>,
}

/// One who is told. It makes its stream itself, through the stream management API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SignalReceiver {
    /// Whom events are for: the `aud` of their tokens, a URL of the receiver.
    pub audience: String,
    /// The bearer token that the receiver shows at the stream management API and where it polls.
    pub token: Secret,
    /// The server of the kind `http` that events can be pushed to; its own `credential` is used.
    #[serde(default)]
    pub server: Option<ServerName>,
    /// The path there, behind the server's URL.
    #[serde(default)]
    pub push: Option<String>,
}

/// One whose word is taken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SignalTransmitter {
    /// The `iss` of its tokens, exactly.
    pub issuer: String,
    /// The `aud` that its tokens must have.
    pub audience: String,
    /// The server of the kind `http` where its keys are, and where events are polled.
    pub server: ServerName,
    /// The path of its keys (JWKS, RFC 7517) there.
    #[serde(default = "SignalTransmitter::default_keys")]
    pub keys: String,
    /// The path where events are polled (RFC 8936).
    #[serde(default)]
    pub poll: Option<String>,
    /// The bearer token that it shows when it pushes events to `/ssf/v1/events/NAME` (RFC 8935).
    #[serde(default)]
    pub token: Option<Secret>,
    /// What is done when a session is revoked there.
    #[serde(default = "Reaction::end_tasks")]
    pub session_revoked: Reaction,
    /// What is done when a credential is revoked or deleted there; new ones are noted.
    #[serde(default = "Reaction::end_tasks")]
    pub credential_change: Reaction,
    /// What is done when somebody's risk becomes high there; lower levels are noted.
    #[serde(default)]
    pub risk_level_change: Reaction,
}

impl SignalTransmitter {
    fn default_keys() -> String {
        "/jwks.json".to_owned()
    }
}

/// What is done about a signal, to the agents that it is about: those that it names, and those whose
/// sponsor it names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reaction {
    /// It is recorded, and nothing else.
    #[default]
    Note,
    /// The open tasks are revoked; when it names one task, only that.
    EndTasks,
    /// The agents are quarantined.
    Quarantine,
}

impl Reaction {
    fn end_tasks() -> Self {
        Self::EndTasks
    }

    /// The word in the configuration and in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::EndTasks => "end-tasks",
            Self::Quarantine => "quarantine",
        }
    }
}

impl Signals {
    /// Whether nobody is told and nobody's word is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.receivers.is_empty() && self.transmitters.is_empty()
    }

    /// Every secret that it names, to be changed.
    pub fn secrets_mut(&mut self) -> impl Iterator<Item = &mut Secret> {
        let shown = self.transmitters.values_mut();
        self.receivers
            .values_mut()
            .map(|receiver| &mut receiver.token)
            .chain(shown.filter_map(|transmitter| transmitter.token.as_mut()))
    }
}
