//! The servers of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{A2a, Confine, Http, Http2, Llm, Postgres, RecordContent};
use crate::grant::PermissionKind;
use crate::inspection::{FirstContact, Inspection};
use crate::name::SegmentName;

/// Something protected that agents reach through the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// What it speaks.
    #[serde(default)]
    pub kind: ServerKind,
    /// What it is, in words.
    #[serde(default)]
    pub description: String,
    /// The segment that it belongs to, if any.
    #[serde(default)]
    pub segment: Option<SegmentName>,
    /// What is kept of the content of what passes.
    #[serde(default)]
    pub record_content: RecordContent,
    /// The program and its arguments, for an MCP server over stdio.
    #[serde(default)]
    pub command: Vec<String>,
    /// The folder that the program runs in.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// The program's environment; nothing else is inherited but `PATH`, `HOME` and `LANG`.
    #[serde(default)]
    pub environment: BTreeMap<String, Secret>,
    /// What the program's files must be: SHA-256 digests by path, as `sallyport mcp pin` writes them to
    /// `pins.toml`. They are compared each time before the program starts; empty means that none are.
    #[serde(default)]
    pub digests: BTreeMap<PathBuf, String>,
    /// What becomes of tools of an MCP server that nobody has approved yet.
    #[serde(default)]
    pub pins: FirstContact,
    /// What is done about what is seen in contents, beyond what the configuration says for all servers.
    #[serde(default)]
    pub inspection: Inspection,
    /// How the program is confined.
    #[serde(default)]
    pub confine: Confine,
    /// Where it is: the endpoint of an MCP server over streamable HTTP, the base URL of an HTTP API, a
    /// provider of models or an agent, or the address of a database (`postgres://host:port/database`).
    #[serde(default)]
    pub url: Option<String>,
    /// The certification authorities that a server over HTTPS is verified with, in a PEM file; by
    /// default the public ones.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Whether an HTTP API, a provider of models or an agent is spoken to over HTTP/2.
    #[serde(default)]
    pub http2: Http2,
    /// The credential that the gateway presents to it.
    #[serde(default)]
    pub credential: Option<Credential>,
    /// More about an HTTP API.
    #[serde(default)]
    pub http: Http,
    /// More about a provider of models.
    #[serde(default)]
    pub llm: Llm,
    /// More about an agent.
    #[serde(default)]
    pub a2a: A2a,
    /// More about a database.
    #[serde(default)]
    pub postgres: Postgres,
}

impl Server {
    /// Every secret that it names, whatever for.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let credentials = self
            .llm
            .fallbacks
            .iter()
            .filter_map(|fallback| fallback.credential.as_ref())
            .chain(&self.credential)
            .map(|credential| &credential.value);
        self.environment
            .values()
            .chain(credentials)
            .chain(&self.postgres.password)
    }

    /// The same, to be changed.
    pub fn secrets_mut(&mut self) -> impl Iterator<Item = &mut Secret> {
        let credentials = self
            .llm
            .fallbacks
            .iter_mut()
            .filter_map(|fallback| fallback.credential.as_mut())
            .chain(&mut self.credential)
            .map(|credential| &mut credential.value);
        self.environment
            .values_mut()
            .chain(credentials)
            .chain(&mut self.postgres.password)
    }
}

/// What a server speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerKind {
    /// The Model Context Protocol: either `command` (stdio) or `url` (streamable HTTP).
    #[default]
    Mcp,
    /// HTTP: an API.
    Http,
    /// The HTTP API of a provider of models.
    Llm,
    /// The Agent2Agent protocol.
    A2a,
    /// The PostgreSQL protocol.
    Postgres,
}

impl ServerKind {
    /// The word in the configuration, in paths and in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::Http => "http",
            Self::Llm => "llm",
            Self::A2a => "a2a",
            Self::Postgres => "postgres",
        }
    }

    /// The kind of the servers that a permission is about.
    #[must_use]
    pub fn of(permission: PermissionKind) -> Self {
        match permission {
            PermissionKind::Mcp => Self::Mcp,
            PermissionKind::Http => Self::Http,
            PermissionKind::Llm => Self::Llm,
            PermissionKind::A2a => Self::A2a,
            PermissionKind::Postgres => Self::Postgres,
        }
    }

    /// The kind of permission that is about such servers.
    #[must_use]
    pub fn permission(self) -> PermissionKind {
        match self {
            Self::Mcp => PermissionKind::Mcp,
            Self::Http => PermissionKind::Http,
            Self::Llm => PermissionKind::Llm,
            Self::A2a => PermissionKind::A2a,
            Self::Postgres => PermissionKind::Postgres,
        }
    }
}

/// A value that comes from a file or from the environment, or plain text that is no secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Secret {
    /// The content of a file, without the line's end.
    File(PathBuf),
    /// An environment variable of the Sallyport process.
    Env(String),
    /// Plain text, for what is no secret.
    Plain(String),
}

/// A credential for an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The header that carries it.
    #[serde(default = "Credential::default_header")]
    pub header: String,
    /// What stands before the value, such as `Bearer `.
    #[serde(default)]
    pub prefix: String,
    /// The value.
    pub value: Secret,
}

impl Credential {
    fn default_header() -> String {
        "authorization".to_owned()
    }
}
