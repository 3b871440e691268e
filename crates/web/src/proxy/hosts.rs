//! Which servers of the configuration are at a host and port: the only places that the proxy leads to.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gateway::caller::Caller;
use http::Uri;
use model::Task;
use model::config::{Config, Proxy, Server, ServerKind};
use model::grant::PermissionKind;

use super::target::{Host, Target};
use crate::api::Api;

/// One API at a host and port.
pub(crate) struct Site {
    pub(crate) api: Arc<Api>,
    /// The path of its URL, without a trailing slash.
    base: String,
    /// Whether it is reached over TLS.
    secure: bool,
}

/// What is at one host and port.
#[derive(Default)]
pub(crate) struct Here {
    sites: Vec<Site>,
    /// Whether tunnels there are looked into: if only one of the APIs says so, they are.
    inspect: bool,
    /// Whether servers of other kinds are there too.
    others: bool,
}

/// What is where, and how long tunnels may be.
#[derive(Default)]
pub(crate) struct Hosts {
    at: HashMap<Target, Here>,
    /// How long nothing may pass through a tunnel.
    pub(crate) idle: Duration,
    /// How long a tunnel may be open.
    pub(crate) longest: Duration,
}

/// What becomes of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// The client speaks TLS with the proxy, and the requests inside are decided.
    Terminated,
    /// The client speaks HTTP in the clear, and the requests inside are decided.
    Clear,
    /// The client speaks TLS with the API, and nobody looks into it.
    Opaque,
}

impl Hosts {
    /// Those of a configuration and its APIs. An API whose URL names no plain host is not among them.
    pub(crate) fn new<'a>(config: &Config, apis: impl Iterator<Item = &'a Arc<Api>>) -> Self {
        let proxy = config.proxy.clone().unwrap_or_default();
        let mut hosts = Self {
            at: HashMap::new(),
            idle: Duration::from_secs(proxy.idle_seconds),
            longest: Duration::from_secs(proxy.tunnel_seconds),
        };
        for api in apis {
            hosts.add(api, &proxy);
        }
        for server in config.servers.values() {
            for target in others(server) {
                if let Some(here) = hosts.at.get_mut(&target) {
                    here.others = true;
                }
            }
        }
        hosts
    }

    fn add(&mut self, api: &Arc<Api>, proxy: &Proxy) {
        let Ok(url) = api.web.base_url().parse::<Uri>() else {
            return;
        };
        let Ok(target) = Target::of(&url) else {
            return;
        };
        let here = self.at.entry(target).or_default();
        here.inspect |= api.web.server().http.inspect.unwrap_or(proxy.inspect);
        here.sites.push(Site {
            api: Arc::clone(api),
            base: url.path().trim_end_matches('/').to_owned(),
            secure: url.scheme_str() == Some("https"),
        });
    }

    /// What is at a host and port.
    pub(crate) fn at(&self, target: &Target) -> Option<&Here> {
        self.at.get(target)
    }

    /// The hosts whose tunnels are terminated for a task.
    pub(crate) fn terminated(&self, task: &Task) -> Vec<Host> {
        let ours = self.at.iter().filter(|(_, here)| {
            here.manner() == Manner::Terminated && here.granted(task).next().is_some()
        });
        ours.map(|(target, _)| target.host().clone()).collect()
    }
}

impl Here {
    /// What becomes of a tunnel. What is in the clear is always looked into.
    pub(crate) fn manner(&self) -> Manner {
        if !self.sites.iter().any(|site| site.secure) {
            Manner::Clear
        } else if self.inspect {
            Manner::Terminated
        } else {
            Manner::Opaque
        }
    }

    /// Whether an API there is reached in the clear.
    pub(crate) fn has_clear(&self) -> bool {
        self.sites.iter().any(|site| !site.secure)
    }

    /// Whether more than one server is there, so that a tunnel cannot be held to one of them.
    pub(crate) fn is_shared(&self) -> bool {
        self.others || self.sites.len() > 1
    }

    /// The APIs there that a task's grant names.
    pub(crate) fn granted<'a>(&'a self, task: &'a Task) -> impl Iterator<Item = &'a Site> {
        self.sites.iter().filter(|site| site.is_granted(task))
    }

    /// The API that a path belongs to, and what of the path is behind its base: the one with the longest
    /// base, and among equals the first one that the caller's task grants.
    pub(crate) fn site<'a>(
        &self,
        caller: &Caller,
        secure: bool,
        path: &'a str,
    ) -> Option<(&Site, &'a str)> {
        let fitting = self.sites.iter().filter(|site| site.secure == secure);
        let fitting = fitting.filter_map(|site| Some((site, site.behind(path)?)));
        let longest = fitting.clone().map(|(site, _)| site.base.len()).max()?;
        let mut equals = fitting.filter(|(site, _)| site.base.len() == longest);
        let first = equals.clone().next();
        equals
            .find(|(site, _)| site.is_granted(caller.task.task()))
            .or(first)
    }
}

impl Site {
    fn is_granted(&self, task: &Task) -> bool {
        let mut permissions = task.grant.permissions.iter();
        permissions
            .any(|one| one.kind == PermissionKind::Http && one.server == *self.api.web.name())
    }

    /// What of a path is behind the base. The base is compared as it is written: every other spelling of
    /// it is another path here.
    fn behind<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(self.base.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

/// Where a server is that is no HTTP API.
fn others(server: &Server) -> impl Iterator<Item = Target> {
    let is_other = server.kind != ServerKind::Http;
    let fallbacks = server.llm.fallbacks.iter().map(|fallback| &fallback.url);
    let urls = server.url.iter().chain(fallbacks);
    urls.filter(move |_| is_other)
        .filter_map(|url| Target::of(&url.parse().ok()?).ok())
}
