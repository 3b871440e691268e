//! What the configuration says of an agent behind the Agent2Agent protocol, beyond what it says of every server.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::name::{AgentName, SegmentName, TemplateName};

/// More about an agent behind the Agent2Agent protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct A2a {
    /// Whether everyone may read its card, with all skills, without a token; by default only those
    /// who may use it, cut to what their task may ask for.
    pub public_card: bool,
    /// For how many seconds its card is kept before it is fetched again; 300 by default.
    pub card_seconds: Option<u64>,
    /// The keys (JWK, P-256 or Ed25519) one of which must have signed its card. With none, its
    /// signatures count for nothing.
    pub card_keys: Vec<String>,
    /// The protocol extensions, by URI, that agents may use with it.
    pub extensions: Vec<String>,
    /// The name that this agent is registered by. It then acts under a sub-task of whoever asks it.
    pub agent: Option<AgentName>,
    /// The template of those sub-tasks.
    pub template: Option<TemplateName>,
    /// Where notifications about its tasks may be delivered. With none, push notifications are not
    /// offered.
    pub push: Vec<PushTarget>,
    /// The URL by which it reaches the gateway, without a trailing slash, for the notifications that it
    /// sends; by default the gateway's own.
    pub push_url: Option<String>,
}

/// Where notifications may be delivered: webhooks of the agents that ask.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PushTarget {
    /// Scheme, host and port, such as `https://hooks.example.org`.
    pub origin: String,
    /// The segments whose agents may use it; with none, all agents may.
    #[serde(default)]
    pub segments: Vec<SegmentName>,
    /// Whether its host may have an address of a private network, or of this machine.
    #[serde(default)]
    pub private: bool,
    /// The certification authorities that it is verified with, in a PEM file; by default the public ones.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}
