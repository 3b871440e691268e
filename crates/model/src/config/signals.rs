//! Signals to and from other security systems: `[signals]` (OpenID Shared Signals Framework 1.0).

use std::collections::BTreeMap;
use std::path::PathBuf;

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
    /// The server of the kind `http` where its keys are, and where events are polled. Not needed by one that
    /// pushes and whose keys are found elsewhere.
    #[serde(default)]
    pub server: Option<ServerName>,
    /// The path of its keys (JWKS, RFC 7517) there; `/jwks.json` if neither this nor another way to its keys
    /// is named.
    #[serde(default)]
    pub keys: Option<String>,
    /// The URL of its keys, if they are not at the server.
    #[serde(default)]
    pub jwks_uri: Option<String>,
    /// Whether the URL of its keys is taken from its own metadata (SSF 1.0 §7.1), below its `issuer`.
    #[serde(default)]
    pub discover: bool,
    /// Whether its metadata, keys and tokens may be at `http` URLs and in private networks.
    #[serde(default)]
    pub private: bool,
    /// The certification authorities of those places, as a PEM file; the public ones by default.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// How to get the tokens that are shown where events are polled; the server's own `credential` without.
    #[serde(default)]
    pub oauth: Option<ClientCredentials>,
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

/// Access tokens for the gateway itself, by client credentials (RFC 6749 §4.4).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCredentials {
    /// The URL of the token endpoint.
    pub token_endpoint: String,
    /// The client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// What is asked for, with spaces between.
    #[serde(default)]
    pub scope: Option<String>,
    /// For whom the tokens are (RFC 8707).
    #[serde(default)]
    pub resource: Option<String>,
    /// Where the secret stands.
    #[serde(default)]
    pub method: SecretMethod,
}

/// Where a client's secret stands in a request for a token (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretMethod {
    /// In the header `Authorization`.
    #[default]
    ClientSecretBasic,
    /// In the body.
    ClientSecretPost,
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
            .chain(shown.flat_map(|transmitter| {
                let oauth = transmitter.oauth.as_mut();
                let oauth = oauth.map(|oauth| &mut oauth.client_secret);
                transmitter.token.as_mut().into_iter().chain(oauth)
            }))
    }
}
