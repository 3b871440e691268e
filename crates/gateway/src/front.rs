//! The front of the gateway's listener: who may knock at all (Host, Origin), what is open to everyone,
//! and which enforcement point a request is for.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ALLOW,
    CONTENT_TYPE, HOST, ORIGIN, VARY,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use model::config::{Config, Limits, ServerKind};

use crate::pipeline::Pipeline;
use crate::problem::{problem, put_off};
use crate::resource::{self, Route};
use crate::serve::Handler;
use crate::sources::Wrong;
use crate::{Body, full};

/// What browser clients may call with.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// What browser clients may send (MCP, `basic/transports`, and RFC 9449), and what the SDKs of providers of
/// models send by themselves.
const REQUEST_HEADERS: &str = "authorization, dpop, content-type, accept, mcp-protocol-version, \
    mcp-session-id, mcp-method, mcp-name, last-event-id, traceparent, tracestate, \
    x-api-key, anthropic-version, anthropic-beta, anthropic-dangerous-direct-browser-access, \
    openai-organization, openai-project, idempotency-key, x-stainless-arch, x-stainless-async, \
    x-stainless-helper, x-stainless-helper-method, x-stainless-lang, x-stainless-os, \
    x-stainless-package-version, x-stainless-retry-count, x-stainless-runtime, \
    x-stainless-runtime-version, x-stainless-timeout";
/// What scripts of browser clients may read.
const RESPONSE_HEADERS: &str =
    "mcp-session-id, mcp-protocol-version, www-authenticate, dpop-nonce, retry-after, proxy-status";

/// What enforcement points need to know of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The URL that clients use for the gateway, without a trailing slash.
    pub base_url: String,
    /// The issuer of the tokens that are accepted, as the metadata names it.
    pub issuer: String,
    /// Origins of browser pages that may call.
    pub allowed_origins: Vec<String>,
    /// Limits on what arrives.
    pub limits: Limits,
    /// Whether tokens can be bound to certificates (RFC 8705): only where the listener has TLS of its own.
    pub certificates: bool,
}

impl Settings {
    /// What a configuration says.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            base_url: config.gateway.base_url(),
            issuer: config.control.base_url(),
            allowed_origins: config.gateway.allowed_origins.clone(),
            limits: config.limits.clone(),
            certificates: config.gateway.tls.is_some(),
        }
    }
}

/// A future of a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// Takes a prepared configuration into use; cannot fail any more.
pub type Commit<'a> = Box<dyn FnOnce() + Send + 'a>;

/// An enforcement point: it turns one protocol into actions, for all servers of one kind.
pub trait Door: Send + Sync + 'static {
    /// The kind of its servers.
    fn kind(&self) -> ServerKind;

    /// Reads what a configuration says of its servers, with their credentials. Nothing changes before
    /// the commit is called. Servers that are the same as before keep their connections.
    ///
    /// # Errors
    /// Every server that cannot be used, and why; never a secret.
    fn prepare(&self, config: &Config) -> Result<Commit<'_>, Vec<String>>;

    /// Forgets what belongs to tasks that are over and to instances that are disabled. Called each
    /// second, and after ending anything.
    fn sweep(&self) {}

    /// Ends what runs, when the process ends; nothing is served any more.
    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// An enforcement point on the gateway's HTTP listener.
pub trait HttpDoor: Door {
    /// Answers one request. The caller is not authenticated yet.
    fn answer(&self, knock: Knock) -> BoxFuture<'_, Response<Body>>;
}

/// A request at one of the doors.
pub struct Knock {
    /// The request.
    pub request: Request<Incoming>,
    /// The protected resource that it is for.
    pub route: Route,
    /// The path behind the resource's, from its `/` on and as it was sent, without the query; empty
    /// for the resource itself.
    pub rest: String,
    /// The settings that hold for it.
    pub settings: Arc<Settings>,
    /// Where it comes from.
    pub peer: SocketAddr,
}

/// The front of one listener.
pub struct Front {
    settings: Arc<ArcSwap<Settings>>,
    doors: Vec<Arc<dyn HttpDoor>>,
    /// What puts off addresses whose credentials are wrong.
    pipeline: Option<Arc<Pipeline>>,
}

impl Front {
    /// A front with these doors, of different kinds.
    #[must_use]
    pub fn new(settings: Arc<ArcSwap<Settings>>, doors: Vec<Arc<dyn HttpDoor>>) -> Self {
        Self {
            settings,
            doors,
            pipeline: None,
        }
    }

    /// Puts off addresses that present wrong credentials too often, as the pipeline counts them.
    #[must_use]
    pub fn putting_off(mut self, pipeline: Arc<Pipeline>) -> Self {
        self.pipeline = Some(pipeline);
        self
    }

    /// Lets a door answer, unless its address is put off.
    async fn through(&self, door: &dyn HttpDoor, knock: Knock) -> Response<Body> {
        let Some(pipeline) = &self.pipeline else {
            return door.answer(knock).await;
        };
        let from = knock.peer.ip();
        if let Some(wait) = pipeline.puts_off(from, &knock.request) {
            let denial = pipeline.put_off(&knock.route.path());
            return put_off(&denial, wait);
        }
        let nonce = pipeline.next_nonce(knock.request.headers());
        let mut answer = door.answer(knock).await;
        if let Some((name, value)) = nonce {
            // Whatever the server behind says: it is the gateway that the next proof is for.
            answer.headers_mut().insert(name, value);
        }
        if answer.extensions().get::<Wrong>().is_some() {
            pipeline.wrong_from(from);
        }
        answer
    }
}

impl Handler for Front {
    const HTTP2: bool = true;

    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let settings = self.settings.load_full();
        if !is_of_one_host(&request) {
            return problem(
                StatusCode::BAD_REQUEST,
                "the request names one host in its first line and another in its Host header",
                "send the path alone in the first line",
            );
        }
        let origin = match admit(&settings, request.headers()) {
            Ok(origin) => origin,
            Err(refused) => return *refused,
        };
        let response = match open(&settings, &request) {
            Opened::Answer(response) => response,
            Opened::Route(route, rest) => {
                let door = self.doors.iter().find(|door| door.kind() == route.kind);
                match door {
                    Some(door) => {
                        let knock = Knock {
                            request,
                            route,
                            rest,
                            settings: Arc::clone(&settings),
                            peer,
                        };
                        self.through(&**door, knock).await
                    }
                    None => nothing_here(),
                }
            }
        };
        dress(response, origin.as_ref())
    }
}

/// Where a request leads.
enum Opened {
    /// It is answered already.
    Answer(Response<Body>),
    /// To a protected resource, and further on behind it.
    Route(Route, String),
}

/// Whether a request whose first line is a whole URL (RFC 9112 §3.2.2) is for the host that its Host
/// header names, so that nobody takes it for one to another host.
fn is_of_one_host<B>(request: &Request<B>) -> bool {
    let Some(authority) = request.uri().authority() else {
        return true;
    };
    let host = request.headers().get(HOST);
    host.is_some_and(|host| {
        host.as_bytes()
            .eq_ignore_ascii_case(authority.as_str().as_bytes())
    })
}

/// Lets a request in by its Host and Origin; returns the origin to answer to, if it has one.
///
/// # Errors
/// 403 when a browser page calls that may not, or a name that is not the gateway's was used to
/// reach it over loopback (DNS rebinding).
fn admit(
    settings: &Settings,
    headers: &HeaderMap,
) -> Result<Option<HeaderValue>, Box<Response<Body>>> {
    if let Some(own) = authority(&settings.base_url)
        && is_loopback(own.host())
    {
        let mut hosts = headers.get_all(HOST).iter();
        let ours = match (
            hosts.next().and_then(|host| host.to_str().ok()),
            hosts.next(),
        ) {
            (Some(host), None) => host
                .parse::<Authority>()
                .is_ok_and(|h| is_loopback(h.host())),
            _ => false,
        };
        if !ours {
            return Err(Box::new(problem(
                StatusCode::FORBIDDEN,
                "the Host header is not one of this gateway's names",
                "call it by the URL that it announces, such as http://127.0.0.1:8601",
            )));
        }
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return Ok(None);
    };
    let allowed = origins.next().is_none()
        && origin
            .to_str()
            .is_ok_and(|origin| is_allowed(settings, origin));
    if allowed {
        Ok(Some(origin.clone()))
    } else {
        Err(Box::new(problem(
            StatusCode::FORBIDDEN,
            "pages of this origin may not call",
            "an operator can list the origin in `allowed_origins` of the gateway's listener",
        )))
    }
}

/// The gateway's own origin, those that are listed, and, for a gateway on loopback, other pages
/// of this machine.
fn is_allowed(settings: &Settings, origin: &str) -> bool {
    if origin == settings.base_url || settings.allowed_origins.iter().any(|o| o == origin) {
        return true;
    }
    let local = |url: &str| authority(url).is_some_and(|authority| is_loopback(authority.host()));
    local(&settings.base_url) && local(origin)
}

fn authority(url: &str) -> Option<Authority> {
    let (scheme, rest) = url.split_once("://")?;
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    rest.parse().ok()
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || matches!(host, "127.0.0.1" | "[::1]")
}

/// Answers what is open to everyone, and finds the route of everything else.
fn open<B>(settings: &Settings, request: &Request<B>) -> Opened {
    let path = request.uri().path();
    if let Some((route, rest)) = Route::split(path) {
        // An API may have an OPTIONS of its own; a browser asks with this header.
        let asks = request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let own = route.kind == ServerKind::Http && !asks;
        return if request.method() == Method::OPTIONS && !own {
            Opened::Answer(preflight())
        } else {
            let rest = rest.to_owned();
            Opened::Route(route, rest)
        };
    }
    let metadata = Route::of_metadata_path(path);
    Opened::Answer(match (request.method(), metadata) {
        (&Method::GET, Some(route)) => resource::metadata(&route, settings),
        (&Method::OPTIONS, Some(_)) => preflight(),
        (_, Some(_)) => method_not_allowed("GET, OPTIONS"),
        (&Method::GET, None) if path == "/livez" => {
            let mut response = Response::new(full("ok\n"));
            let plain = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, plain);
            response
        }
        (_, None) => nothing_here(),
    })
}

fn nothing_here() -> Response<Body> {
    problem(
        StatusCode::NOT_FOUND,
        "there is nothing at this path",
        "servers are at /<kind>/<server> and /tasks/<task>/<kind>/<server>, where the kind is mcp, \
         http, llm or a2a",
    )
}

fn preflight() -> Response<Body> {
    let mut response = Response::new(full(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(METHODS));
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static(METHODS),
    );
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static(REQUEST_HEADERS),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// Adds what a browser needs to let a page of the origin see the answer.
fn dress(mut response: Response<Body>, origin: Option<&HeaderValue>) -> Response<Body> {
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(RESPONSE_HEADERS),
        );
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    response
}

/// 405 with the methods that there are.
pub(crate) fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = problem(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not have that method",
        "see the Allow header",
    );
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(base_url: &str) -> Settings {
        Settings {
            base_url: base_url.to_owned(),
            issuer: "http://127.0.0.1:8600".to_owned(),
            allowed_origins: vec!["https://app.example.org".to_owned()],
            limits: model::config::Limits::default(),
            certificates: false,
        }
    }

    fn status(base_url: &str, of: &[(&'static str, &'static str)]) -> u16 {
        let headers = of
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        match admit(&settings(base_url), &headers) {
            Ok(_) => 200,
            Err(refused) => refused.status().as_u16(),
        }
    }

    #[test]
    fn a_loopback_gateway_answers_to_loopback_names_only() {
        let base = "http://127.0.0.1:8601";
        for good in [
            "127.0.0.1:8601",
            "localhost:8601",
            "[::1]:9",
            "LOCALHOST",
            "127.0.0.1",
        ] {
            assert_eq!(status(base, &[("host", good)]), 200, "{good}");
        }
        for bad in [
            "evil.example.org",
            "127.0.0.1.evil.org:8601",
            "localhost.",
            "a@b:1",
            "",
        ] {
            assert_eq!(status(base, &[("host", bad)]), 403, "{bad}");
        }
        assert_eq!(status(base, &[]), 403);
        assert_eq!(
            status("https://gw.example.org", &[("host", "anything")]),
            200
        );
    }

    #[test]
    fn a_whole_url_in_the_first_line_names_the_host_of_the_header() {
        let one = |uri: &str, host: &str| {
            let request = Request::get(uri).header(HOST, host).body(()).unwrap();
            is_of_one_host(&request)
        };
        assert!(one("/mcp/files", "gw.example:1"));
        assert!(one("http://gw.example:1/mcp/files", "GW.example:1"));
        assert!(!one("http://gw.example/mcp/files", "gw.example:1"));
        assert!(!one("http://other.example:1/mcp/files", "gw.example:1"));
    }

    #[test]
    fn pages_call_only_from_allowed_origins() {
        let base = "https://gw.example.org";
        for good in ["https://gw.example.org", "https://app.example.org"] {
            assert_eq!(status(base, &[("origin", good)]), 200, "{good}");
        }
        for bad in [
            "null",
            "http://localhost:3000",
            "https://app.example.org.evil.org",
            "*",
            "",
        ] {
            assert_eq!(status(base, &[("origin", bad)]), 403, "{bad}");
        }
        let local = [
            ("host", "localhost:8601"),
            ("origin", "http://localhost:3000"),
        ];
        assert_eq!(status("http://127.0.0.1:8601", &local), 200);
        let rebound = [
            ("host", "localhost:8601"),
            ("origin", "http://evil.example.org"),
        ];
        assert_eq!(status("http://127.0.0.1:8601", &rebound), 403);
    }

    #[test]
    fn pages_may_send_what_the_sdks_of_providers_send() {
        let response = preflight();
        let allowed = response.headers()[ACCESS_CONTROL_ALLOW_HEADERS].to_str();
        let allowed: Vec<&str> = allowed.unwrap().split(',').map(str::trim).collect();
        for name in [
            "authorization",
            "dpop",
            "x-api-key",
            "anthropic-version",
            "x-stainless-lang",
        ] {
            assert!(allowed.contains(&name), "{name}");
        }
    }

    #[test]
    fn everything_else_is_not_there() {
        let of = |method: &str, path: &str| {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .body(())
                .unwrap();
            match open(&settings("http://127.0.0.1:8601"), &request) {
                Opened::Answer(response) => response.status().as_u16(),
                Opened::Route(..) => 0,
            }
        };
        assert_eq!(of("POST", "/mcp/files"), 0);
        assert_eq!(of("OPTIONS", "/mcp/files"), 204);
        assert_eq!(of("GET", "/livez"), 200);
        assert_eq!(
            of("GET", "/.well-known/oauth-protected-resource/mcp/files"),
            200
        );
        assert_eq!(
            of("POST", "/.well-known/oauth-protected-resource/mcp/files"),
            405
        );
        for nothing in ["/", "/mcp", "/mcp/files/", "/metrics", "/.well-known/x"] {
            assert_eq!(of("GET", nothing), 404, "{nothing}");
        }
    }
}
