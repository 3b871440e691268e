//! The enforcement point for HTTP APIs: a reverse proxy that decides about every request.
//!
//! The path of one request, and where each step lives:
//! 1. [`path`], [`query`], [`routes`]: which endpoint it is for, read as everyone reads it;
//! 2. `visit`: who is calling, before anything of the body is read;
//! 3. `arguments`: what is attempted;
//! 4. and 5. [`gateway::pipeline`]: the decision and its durable record;
//! 6. `visit`, `headers`, `call_token`: to the API, with nothing of the agent's credentials, and with one
//!    that is made for this request alone;
//! 7. `answer`, [`redaction`]: what the agent may see of the answer, while it passes; `upgrade`: both ways
//!    after an upgrade;
//! 8. `account`: what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway::Body;
use gateway::front::{BoxFuture, Commit, Door, HttpDoor, Knock, Settings};
use gateway::intake::Room;
use gateway::pipeline::Pipeline;
use gateway::slots::Slots;
use http::Response;
use identity::KeyRing;
use model::ServerName;
use model::config::{Config, ServerKind};

mod account;
mod answer;
mod api;
mod arguments;
mod call_token;
mod headers;
pub mod openapi;
pub mod path;
pub mod query;
pub mod redaction;
pub mod routes;
mod upgrade;
mod visit;

use api::Api;

type Apis = BTreeMap<ServerName, Arc<Api>>;

/// The enforcement point, for one listener.
pub struct Endpoint {
    shared: Arc<Shared>,
}

/// What requests share.
struct Shared {
    pipeline: Arc<Pipeline>,
    keys: Arc<KeyRing>,
    apis: ArcSwap<Apis>,
    slots: Slots,
    room: Room,
}

impl Endpoint {
    /// Puts the enforcement point in front of the APIs of a configuration. The keys sign the credentials
    /// that are made for each request.
    ///
    /// # Errors
    /// Every API that cannot be used, and why; never a secret.
    pub fn new(
        config: &Config,
        pipeline: Arc<Pipeline>,
        keys: Arc<KeyRing>,
        settings: &ArcSwap<Settings>,
    ) -> Result<Self, Vec<String>> {
        let shared = Shared {
            pipeline,
            keys,
            apis: ArcSwap::from_pointee(apis(config, &Apis::new())?),
            slots: Slots::default(),
            room: Room::new(settings.load().limits.longest()),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }
}

impl Door for Endpoint {
    fn kind(&self) -> ServerKind {
        ServerKind::Http
    }

    fn prepare(&self, config: &Config) -> Result<Commit<'_>, Vec<String>> {
        let prepared = apis(config, &self.shared.apis.load())?;
        Ok(Box::new(move || self.shared.apis.store(Arc::new(prepared))))
    }
}

impl HttpDoor for Endpoint {
    fn answer(&self, knock: Knock) -> BoxFuture<'_, Response<Body>> {
        Box::pin(visit::answer(&self.shared, knock))
    }
}

/// The APIs of a configuration.
fn apis(config: &Config, before: &Apis) -> Result<Apis, Vec<String>> {
    let webs = gateway::upstream::webs(config, ServerKind::Http, |name| {
        before.get(name).map(|api| Arc::clone(&api.web))
    });
    let mut apis = Apis::new();
    let mut wrong = Vec::new();
    for web in webs? {
        let name = web.name().clone();
        match Api::new(web, &config.trust_domain) {
            Ok(api) => drop(apis.insert(name, Arc::new(api))),
            Err(errors) => wrong.extend(errors),
        }
    }
    if wrong.is_empty() {
        Ok(apis)
    } else {
        Err(wrong)
    }
}
