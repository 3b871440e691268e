//! The enforcement point for providers of models: the HTTP APIs of OpenAI and Anthropic.
//!
//! The path of one request, and where each step lives:
//! 1. [`surface`]: which operation of which API it is; [`request`]: what its body says;
//! 2. `caller`: who is calling, before anything of the body is read;
//! 3. `visit`, `reach`, [`meter`]: what is attempted, and what it may use up;
//! 4. and 5. [`gateway::pipeline`]: the decision and its durable record;
//! 6. `provider`, `send`: to the first address that answers, with the provider's credential and nothing
//!    of the agent's;
//! 7. `inspect`: what the model is asked and what it wrote; [`traffic`], [`meter`], `answer`, `stream`:
//!    read, and counted, while it passes;
//! 8. `exchange`: what became of it, with what was seen.
//!
//! Bytes pass as they came in both directions, but for the few members of a request that must change.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway::Body;
use gateway::front::{BoxFuture, Commit, Door, HttpDoor, Knock, Settings};
use gateway::intake::Room;
use gateway::pipeline::Pipeline;
use gateway::slots::Slots;
use http::Response;
use model::ServerName;
use model::config::{Config, ServerKind};

mod answer;
mod caller;
mod circuit;
mod exchange;
mod headers;
mod inspect;
mod listing;
pub mod meter;
mod provider;
mod reach;
pub mod refusal;
pub mod request;
mod send;
pub mod stored;
mod stream;
pub mod surface;
pub mod traffic;
mod visit;

use inspect::Passed;
use provider::Provider;
use stored::Stored;

type Providers = BTreeMap<ServerName, Arc<Provider>>;

/// The enforcement point, for one listener.
pub struct Endpoint {
    shared: Arc<Shared>,
}

/// What requests share.
struct Shared {
    pipeline: Arc<Pipeline>,
    providers: ArcSwap<Providers>,
    slots: Slots,
    room: Room,
    stored: Stored,
    passed: Passed,
}

impl Endpoint {
    /// Puts the enforcement point in front of the providers of a configuration.
    ///
    /// # Errors
    /// Every server that cannot be used, and why; never a secret.
    pub fn new(
        config: &Config,
        pipeline: Arc<Pipeline>,
        settings: &ArcSwap<Settings>,
    ) -> Result<Self, Vec<String>> {
        let shared = Shared {
            pipeline,
            providers: ArcSwap::from_pointee(providers(config, &Providers::new())?),
            slots: Slots::default(),
            room: Room::new(settings.load().limits.longest()),
            stored: Stored::default(),
            passed: Passed::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Goes on with what was kept of the answers that providers keep, and keeps what comes in a ledger.
    pub fn remember(&self, kept: Vec<stored::Answer>, ledger: Arc<dyn stored::Ledger>) {
        self.shared.stored.remember(kept, ledger);
    }
}

impl Door for Endpoint {
    fn kind(&self) -> ServerKind {
        ServerKind::Llm
    }

    fn prepare(&self, config: &Config) -> Result<Commit<'_>, Vec<String>> {
        let prepared = providers(config, &self.shared.providers.load())?;
        Ok(Box::new(move || {
            self.shared.providers.store(Arc::new(prepared));
            self.shared.passed.forget();
        }))
    }
}

impl HttpDoor for Endpoint {
    fn answer(&self, knock: Knock) -> BoxFuture<'_, Response<Body>> {
        Box::pin(visit::answer(&self.shared, knock))
    }
}

/// The providers of a configuration.
fn providers(config: &Config, before: &Providers) -> Result<Providers, Vec<String>> {
    let mut providers = Providers::new();
    let mut wrong = Vec::new();
    for (name, server) in &config.servers {
        if server.kind != ServerKind::Llm {
            continue;
        }
        let known = before.get(name).map(Arc::as_ref);
        match Provider::new(name, server, &config.limits, known) {
            Ok(provider) => {
                providers.insert(name.clone(), Arc::new(provider));
            }
            Err(errors) => wrong.extend(errors),
        }
    }
    if wrong.is_empty() {
        Ok(providers)
    } else {
        Err(wrong)
    }
}
