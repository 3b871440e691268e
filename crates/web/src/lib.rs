//! The enforcement point for HTTP APIs: a reverse proxy that decides about every request.
//!
//! The path of one request, and where each step lives:
//! 1. [`path`], [`query`], [`routes`]: which endpoint it is for, read as everyone reads it;
//! 2. `visit`: who is calling, before anything of the body is read;
//! 3. `arguments`: what is attempted;
//! 4. and 5. [`gateway::pipeline`]: the decision and its durable record;
//! 6. `visit`, `headers`, `upload`, `call_token`: to the API, with nothing of the agent's credentials, and
//!    with one that is made for this request alone;
//! 7. `answer`, `watch`, [`redaction`]: what the agent may see of the answer, looked at as a whole or while
//!    it passes; `upgrade`: both ways after an upgrade;
//! 8. `account`: what became of it.
//!
//! [`proxy`] is another way to the same APIs, for clients that cannot be told another URL.

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
mod described;
mod headers;
pub mod openapi;
pub mod path;
pub mod proxy;
pub mod query;
pub mod redaction;
pub mod routes;
mod upgrade;
mod upload;
mod visit;
mod watch;

pub use described::{Described, described};

use api::Api;
use proxy::{Hosts, Proxy, Tunnels};

/// The APIs of a configuration.
#[derive(Default)]
struct Apis {
    by_name: BTreeMap<ServerName, Arc<Api>>,
    hosts: Hosts,
}

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
    tunnels: Tunnels,
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
            apis: ArcSwap::from_pointee(apis(config, &Apis::default())?),
            slots: Slots::default(),
            room: Room::new(settings.load().limits.longest()),
            tunnels: Tunnels::new(config.limits.connections),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The forward proxy to the same APIs, for a listener of its own. `url` is what clients reach it by,
    /// and the resource of the tokens for it.
    #[must_use]
    pub fn proxy(&self, settings: Arc<ArcSwap<Settings>>, url: String) -> Proxy {
        Proxy::new(Arc::clone(&self.shared), settings, url)
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

    fn sweep(&self) {
        self.shared.tunnels.sweep(self.shared.pipeline.live());
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.tunnels.stop())
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
        let known = before.by_name.get(name);
        known.map(|api| Arc::clone(&api.web))
    });
    let mut by_name = BTreeMap::new();
    let mut wrong = Vec::new();
    for web in webs? {
        let name = web.name().clone();
        match Api::new(web, &config.trust_domain) {
            Ok(api) => drop(by_name.insert(name, Arc::new(api))),
            Err(errors) => wrong.extend(errors),
        }
    }
    if wrong.is_empty() {
        let hosts = Hosts::new(config, by_name.values());
        Ok(Apis { by_name, hosts })
    } else {
        Err(wrong)
    }
}
