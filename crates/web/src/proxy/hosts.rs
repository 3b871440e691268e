//! Which servers of the configuration are at a host and port: the only places that the proxy leads to.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

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

    /// The API that a path belongs to, if the task grants it, and what of the path is behind its
    /// base. It is the one with the longest base: where that one is not granted, no shorter one takes its
    /// place. Among equals it is the first one that is granted.
    pub(crate) fn site<'a>(
        &self,
        task: &Task,
        secure: bool,
        path: &'a str,
    ) -> Option<(&Site, &'a str)> {
        let fitting = self.sites.iter().filter(|site| site.secure == secure);
        let mut fitting = fitting.filter_map(|site| Some((site, site.behind(path)?)));
        let longest = fitting.clone().map(|(site, _)| site.base.len()).max()?;
        fitting.find(|(site, _)| site.base.len() == longest && site.is_granted(task))
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

#[cfg(test)]
mod tests {
    use super::*;
    use gateway::upstream::webs;
    use jiff::Timestamp;
    use model::{TaskId, TaskStatus};
    use serde_json::json;
    use std::path::Path;

    const SERVERS: &str = r#"
        trust_domain = "a.example"
        [proxy]
        [servers.crm]
        kind = "http"
        url = "https://API.example/crm"
        http = { routes = ["GET /x"] }
        [servers.crm-admin]
        kind = "http"
        url = "https://api.example:443/crm/admin/"
        http = { routes = ["GET /x"] }
        [servers.crm-again]
        kind = "http"
        url = "https://api.example/crm"
        http = { routes = ["GET /x"] }
        [servers.seen]
        kind = "http"
        url = "https://seen.example"
        http = { routes = ["GET /x"], inspect = true }
        [servers.clear]
        kind = "http"
        url = "http://10.0.0.1:8080"
        http = { routes = ["GET /x"] }
        [servers.alone]
        kind = "http"
        url = "https://alone.example:8443/v1"
        http = { routes = ["GET /x"] }
        [servers.beside]
        kind = "http"
        url = "https://beside.example"
        http = { routes = ["GET /x"] }
        [servers.model]
        kind = "llm"
        url = "https://beside.example/v1"
    "#;

    fn hosts() -> Hosts {
        let config = Config::parse(Path::new("t"), SERVERS).unwrap();
        let webs = webs(&config, ServerKind::Http, |_| None).unwrap();
        let api = |web| Arc::new(Api::new(web, &config.trust_domain).unwrap());
        let apis: Vec<Arc<Api>> = webs.into_iter().map(api).collect();
        Hosts::new(&config, apis.iter())
    }

    fn task(servers: &[&str]) -> Task {
        let permissions: Vec<_> = servers
            .iter()
            .map(|name| json!({ "type": "sallyport_http", "server": name }))
            .collect();
        let grant = json!({ "permissions": permissions, "budget": {}, "proof": "dpop" });
        Task {
            id: TaskId::new(Timestamp::UNIX_EPOCH, [0; 10]),
            agent: "clerk".parse().unwrap(),
            instance: None,
            parent: None,
            template: "work".parse().unwrap(),
            parameters: Default::default(),
            purpose: String::new(),
            grant: serde_json::from_value(grant).unwrap(),
            opened_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
            status: TaskStatus::Open,
            ended_at: None,
            ended_because: None,
        }
    }

    fn at<'a>(hosts: &'a Hosts, target: &str) -> Option<&'a Here> {
        hosts.at(&Target::parse(target).unwrap())
    }

    #[test]
    fn only_the_hosts_and_ports_of_apis_are_anywhere() {
        let hosts = hosts();
        for (target, manner, shared) in [
            ("api.example:443", Manner::Opaque, true),
            ("seen.example:443", Manner::Terminated, false),
            ("10.0.0.1:8080", Manner::Clear, false),
            ("alone.example:8443", Manner::Opaque, false),
            // A server of another kind is there too.
            ("beside.example:443", Manner::Opaque, true),
        ] {
            let here = at(&hosts, target).unwrap();
            assert_eq!(
                (here.manner(), here.is_shared()),
                (manner, shared),
                "{target}"
            );
        }
        for target in [
            "api.example:80",
            "alone.example:443",
            "10.0.0.1:80",
            "www.api.example:443",
        ] {
            assert!(at(&hosts, target).is_none(), "{target}");
        }
    }

    #[test]
    fn a_path_belongs_to_the_longest_base_and_never_to_what_is_not_granted() {
        let hosts = hosts();
        let here = at(&hosts, "api.example:443").unwrap();
        let found = |servers: &[&str], path| {
            let site = here.site(&task(servers), true, path);
            site.map(|(site, rest)| (site.api.web.name().to_string(), rest.to_owned()))
        };
        let is = |name: &str, rest: &str| Some((name.to_owned(), rest.to_owned()));
        assert_eq!(found(&["crm", "crm-admin"], "/crm/x"), is("crm", "/x"));
        assert_eq!(found(&["crm-again"], "/crm/x"), is("crm-again", "/x"));
        assert_eq!(
            found(&["crm", "crm-admin"], "/crm/admin/x"),
            is("crm-admin", "/x")
        );
        assert_eq!(
            found(&["crm"], "/crm/administrator"),
            is("crm", "/administrator")
        );
        for (servers, path) in [
            (&["crm"][..], "/crm/admin/x"),
            (&["crm-admin"], "/crm/x"),
            (&[], "/crm/x"),
            (&["crm"], "/CRM/x"),
            (&["crm"], "/%63rm/x"),
            (&["crm"], "//crm/x"),
            (&["crm"], "/crmx"),
        ] {
            assert_eq!(found(servers, path), None, "{servers:?} {path}");
        }
        assert!(here.site(&task(&["crm"]), false, "/crm/x").is_none());
    }

    #[test]
    fn an_authority_is_for_what_is_looked_into_and_granted() {
        let hosts = hosts();
        let of = |servers: &[&str]| hosts.terminated(&task(servers)).len();
        assert_eq!(of(&["seen", "clear", "alone"]), 1);
        assert_eq!(of(&["clear", "alone"]), 0);
    }
}
