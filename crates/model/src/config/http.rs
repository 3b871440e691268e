//! What the configuration says of an HTTP API, beyond what it says of every server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// More about an HTTP API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// The endpoints that there are, such as `GET /customers/{id}`; `WEBSOCKET /feed` is an upgrade.
    /// What is not among them is refused before anything is decided.
    pub routes: Vec<String>,
    /// An OpenAPI 3 document, in JSON or YAML, whose operations are endpoints too.
    pub openapi: Option<PathBuf>,
    /// Headers of requests that pass besides those that every API may see.
    pub headers: Vec<String>,
    /// Whether bodies may pass that cannot be looked into: neither JSON nor a form.
    pub opaque_bodies: bool,
    /// The longest body of those, in bytes; [`Http::OPAQUE_BYTES`] when absent.
    pub opaque_bytes: Option<u64>,
    /// What is taken out of answers, by endpoint: JSONPath expressions (RFC 9535), such as `$..ssn`.
    pub redact: BTreeMap<String, Vec<String>>,
    /// Whether agents may ask for parts of answers (`Range`). Nobody sees what is spread over several parts.
    pub ranges: bool,
    /// Kinds of content of answers that may pass though nobody can look into them, such as `image/*` or
    /// `application/pdf`; what is done about others, `unscanned` of `[inspection]` says.
    pub opaque_answers: Vec<String>,
    /// A credential that is made for each request, in place of `credential`.
    pub call_token: Option<CallToken>,
    /// Whether tunnels to it through the forward proxy are looked into; as `[proxy]` says when absent.
    pub inspect: Option<bool>,
}

impl Http {
    /// The longest body that cannot be looked into, unless the configuration says otherwise: 64 MiB.
    pub const OPAQUE_BYTES: u64 = 64 << 20;

    /// The longest body that cannot be looked into.
    #[must_use]
    pub fn opaque_bytes(&self) -> u64 {
        self.opaque_bytes.unwrap_or(Self::OPAQUE_BYTES)
    }
}

/// A signed token (JWT) that is good for one request: it names the agent, the task, the decision, the
/// method and the URL, and lasts a minute. The API verifies it with the keys at `/oauth/jwks`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CallToken {
    /// The `aud` claim; by default the API's `url`.
    #[serde(default)]
    pub audience: Option<String>,
    /// The header that carries it, behind `Bearer `.
    #[serde(default = "CallToken::default_header")]
    pub header: String,
}

impl CallToken {
    fn default_header() -> String {
        "authorization".to_owned()
    }
}
