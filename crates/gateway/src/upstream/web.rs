//! Servers that are reached by plain HTTP: APIs, providers of models, agents. Requests and answers
//! stream; what of their heads passes is for the enforcement point to say.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use model::config::{Http2, Limits, Server};
use model::name::ServerName;

use super::connections::{HEADERS, KEPT};
use super::credential::Resolved;
use super::http::{Client, Connector, authorities, client, connector, pool, story};
use super::{UpstreamConfigError, UpstreamError};
use crate::Body;

/// One server that is reached by plain HTTP.
pub struct Web {
    name: ServerName,
    server: Server,
    scheme: Scheme,
    authority: Authority,
    /// The path of the base URL, without a trailing slash.
    base: String,
    host: HeaderValue,
    resolved: Resolved,
    client: Client<Body>,
    /// For what only HTTP/1.1 can do; the same where nothing else is spoken.
    upgrades: Client<Body>,
    /// A connection for each request.
    fresh: Client<Body>,
    longest: Duration,
}

impl Web {
    /// Reads the URL, the credential and the certification authorities of a server. Nothing is
    /// connected before the first request.
    ///
    /// # Errors
    /// [`UpstreamConfigError`] when one of them cannot be used.
    pub fn new(
        name: &ServerName,
        server: &Server,
        limits: &Limits,
    ) -> Result<Self, UpstreamConfigError> {
        let refuse = |because| UpstreamConfigError::Url {
            server: name.clone(),
            because,
        };
        let url = server.url.as_deref().unwrap_or_default();
        let (uri, host) = super::http::target(url).map_err(refuse)?;
        if uri.query().is_some() {
            return Err(refuse("it has a query"));
        }
        let trusted = server
            .ca
            .as_deref()
            .map(authorities)
            .transpose()
            .map_err(|because| UpstreamConfigError::Authorities {
                server: name.clone(),
                because,
            })?;
        let connector = Connector(connector(trusted.clone(), Http2::Never)?);
        let fresh = pool(connector.clone(), Http2::Never, 0);
        let upgrades = pool(connector, Http2::Never, KEPT);
        let client = match server.http2 {
            Http2::Never => upgrades.clone(),
            http2 => client(trusted, http2)?,
        };
        let parts = uri.into_parts();
        let base = parts.path_and_query.as_ref().map_or("", |path| path.path());
        Ok(Self {
            name: name.clone(),
            server: server.clone(),
            base: base.trim_end_matches('/').to_owned(),
            scheme: parts.scheme.unwrap_or(Scheme::HTTPS),
            authority: parts.authority.ok_or_else(|| refuse("it names no host"))?,
            host,
            resolved: Resolved::read(name, server)?,
            client,
            upgrades,
            fresh,
            longest: Duration::from_secs(limits.upstream_seconds),
        })
    }

    /// Whether a configuration asks for exactly this server, with the same credential.
    #[must_use]
    pub fn is_what(&self, server: &Server, limits: &Limits) -> bool {
        self.server == *server
            && self.longest.as_secs() == limits.upstream_seconds
            && Resolved::read(&self.name, server).is_ok_and(|now| now == self.resolved)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ServerName {
        &self.name
    }

    /// What the configuration says of it.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The base URL, without a trailing slash.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.base)
    }

    /// Sends one request, and resolves when the head of the answer is there. `path` is the path and
    /// query behind the base URL, from its `/` on. The request's headers must be what the server may
    /// see: nothing of the agent's credentials, and nothing about the connection. The server's own
    /// credential takes the place of whatever has its name (R3). The answer to an upgrade, which goes
    /// over HTTP/1.1 whatever else is spoken, comes with the connection, for [`hyper::upgrade::on`].
    ///
    /// # Errors
    /// [`UpstreamError`] when there is no answer.
    pub async fn send(
        &self,
        request: Request<Body>,
        path: &str,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let client = if request.headers().contains_key(UPGRADE) {
            &self.upgrades
        } else {
            &self.client
        };
        self.send_by(client, request, path).await
    }

    /// The same over a connection of its own: for what [`UpstreamError::Stale`] was the answer to, if it can
    /// be repeated without harm.
    ///
    /// # Errors
    /// [`UpstreamError`] when there is no answer.
    pub async fn send_afresh(
        &self,
        request: Request<Body>,
        path: &str,
    ) -> Result<Response<Incoming>, UpstreamError> {
        self.send_by(&self.fresh, request, path).await
    }

    async fn send_by(
        &self,
        client: &Client<Body>,
        mut request: Request<Body>,
        path: &str,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let path: PathAndQuery = format!("{}{path}", self.base)
            .parse()
            .map_err(|_| UpstreamError::Protocol("the path cannot be sent".to_owned()))?;
        *request.uri_mut() = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(|_| UpstreamError::Protocol("the path cannot be sent".to_owned()))?;
        let headers = request.headers_mut();
        // Over HTTP/2 `:authority` says it, once; the client sets the header where HTTP/1.1 is spoken
        // after all.
        if self.server.http2 == Http2::Never {
            headers.insert(HOST, self.host.clone());
        } else {
            headers.remove(HOST);
        }
        if let Some((name, value)) = &self.resolved.header {
            headers.insert(name, value.clone());
        }
        match tokio::time::timeout(self.longest, client.request(request)).await {
            Err(_) => Err(UpstreamError::Timeout),
            Ok(Ok(response)) if response.headers().len() > HEADERS => Err(UpstreamError::Protocol(
                format!("its head has more than {HEADERS} headers"),
            )),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let (text, error) = story(&error);
                let text = text.escape_debug();
                tracing::warn!(target: "upstream", server = %self.name, "{text}");
                Err(error)
            }
        }
    }
}

/// Servers of one kind, by name, made anew only where the configuration says something new.
///
/// # Errors
/// Every server that cannot be used, and why.
pub fn webs(
    config: &model::config::Config,
    kind: model::config::ServerKind,
    before: impl Fn(&ServerName) -> Option<Arc<Web>>,
) -> Result<Vec<Arc<Web>>, Vec<String>> {
    let mut webs = Vec::new();
    let mut wrong = Vec::new();
    for (name, server) in config
        .servers
        .iter()
        .filter(|(_, server)| server.kind == kind)
    {
        let known = before(name).filter(|known| known.is_what(server, &config.limits));
        match known.map_or_else(|| Web::new(name, server, &config.limits).map(Arc::new), Ok) {
            Ok(web) => webs.push(web),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if wrong.is_empty() {
        Ok(webs)
    } else {
        Err(wrong)
    }
}
