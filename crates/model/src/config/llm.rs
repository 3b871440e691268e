//! What the configuration says of a provider of models, beyond what it says of every server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Credential;
use crate::money::Usd;
use crate::pattern::Pattern;

/// More about a provider of models. The server's `url` is the base URL as the provider's own SDK takes
/// it: with `/v1` on the `openai` surface, without it on the `anthropic` one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Llm {
    /// The API that agents and the provider speak.
    pub surface: Surface,
    /// The names that the models have at the server's `url`, by the names that agents use; a model
    /// that is not listed has the same name there.
    pub aliases: BTreeMap<String, String>,
    /// Where else to ask, in this order, when the server's `url` cannot be reached, has no room or
    /// fails before its answer begins.
    pub fallbacks: Vec<Fallback>,
    /// The models that the server's `url` is asked for, besides those in `aliases`; all when empty.
    pub models: Vec<Pattern>,
    /// What models cost, by name; the longest pattern that matches counts. Tasks with a budget of
    /// money may use only models that have a price.
    pub prices: BTreeMap<Pattern, Price>,
    /// The longest answer, in tokens, that is asked for on behalf of a request that does not say, when
    /// its task has a budget of tokens or money.
    pub max_output_tokens: u32,
    /// Failures in a row after which an address is left alone for a while.
    pub failures: u32,
    /// How long it is left alone then, in seconds.
    pub cool_down_seconds: u64,
    /// Whether requests may name what the provider fetches by itself: URLs, and files that are stored
    /// there. Such content passes the gateway unseen, and everyone who uses the provider's key shares
    /// the files.
    pub remote_content: bool,
    /// Seconds without a byte after which an answer that has begun is given up.
    pub idle_seconds: u64,
}

impl Default for Llm {
    fn default() -> Self {
        Self {
            surface: Surface::default(),
            aliases: BTreeMap::new(),
            fallbacks: Vec::new(),
            models: Vec::new(),
            prices: BTreeMap::new(),
            max_output_tokens: 4_096,
            failures: 3,
            cool_down_seconds: 30,
            remote_content: false,
            idle_seconds: 120,
        }
    }
}

/// The HTTP APIs of providers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Surface {
    /// That of OpenAI, which many others offer too: chat completions, responses, embeddings.
    #[default]
    OpenAi,
    /// That of Anthropic: messages.
    Anthropic,
}

/// Another address of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// The base URL.
    pub url: String,
    /// The certification authorities that it is verified with, in a PEM file.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// The credential for it; none by default, never that of another address.
    #[serde(default)]
    pub credential: Option<Credential>,
    /// The models that it is asked for, besides those in `aliases`; all when both are empty.
    #[serde(default)]
    pub models: Vec<Pattern>,
    /// The names that the models have there.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
}

/// What a model costs, in US dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Of what it reads.
    pub input_usd_per_million: Usd,
    /// Of what it writes.
    #[serde(default)]
    pub output_usd_per_million: Usd,
    /// Of what it reads from a cache; as of what it reads otherwise when absent.
    #[serde(default)]
    pub cache_read_usd_per_million: Option<Usd>,
    /// Of what it reads and puts into a cache; twice what it costs otherwise when absent.
    #[serde(default)]
    pub cache_write_usd_per_million: Option<Usd>,
}
