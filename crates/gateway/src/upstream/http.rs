//! Servers that speak streamable HTTP themselves. The body of the answer passes as it arrives;
//! of its head only what MCP needs does.

use std::error::Error as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::header::{
    ACCEPT_ENCODING, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING,
    CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, PROXY_AUTHORIZATION, RETRY_AFTER, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use model::config::{Http2, Limits};
use model::name::ServerName;
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;

use super::allowance::Allowance;
use super::connections::{self, Answer, CONNECT, Connections, Failed, HEAD, HEADERS, IDLE, KEPT};
use super::credential::Resolved;
use super::passed::{Counted, Passed};
use super::{MCP_PROTOCOL_VERSION, MCP_SESSION_ID, Outgoing, Shared};
use super::{UpstreamConfigError, UpstreamError};
use crate::{Body, BodyError};

/// What of answers over HTTP/2 may be on its way without being asked for: of one, and of all on a
/// connection, in bytes. All agents share the connection: even 256 answers that nobody takes must not
/// hold up those of others.
const WINDOW: u32 = 256 << 10;
const WINDOW_OF_ALL: u32 = 64 << 20;
/// Most of a request's body that waits for the server over HTTP/2, in bytes.
const WAITING: usize = 64 << 10;
/// How often a server with requests under way over HTTP/2 is asked whether it is there, and how long that
/// may take.
const ASKED: Duration = Duration::from_secs(30);
const TO_ANSWER: Duration = Duration::from_secs(20);

/// What of an answer's head passes. Challenges do not: how the gateway authenticates to the server
/// is not the agent's business.
static PASSED: [&HeaderName; 6] = [
    &CONTENT_TYPE,
    &MCP_SESSION_ID,
    &MCP_PROTOCOL_VERSION,
    &CACHE_CONTROL,
    &RETRY_AFTER,
    &ALLOW,
];

/// What never reaches a server, whatever the enforcement point passes on: credentials of the agent,
/// and what is between two neighbours only. Compression would hide the answer from inspection.
static WITHHELD: [&HeaderName; 13] = [
    &AUTHORIZATION,
    &PROXY_AUTHORIZATION,
    &COOKIE,
    &HOST,
    &CONNECTION,
    &CONTENT_LENGTH,
    &TRANSFER_ENCODING,
    &TE,
    &TRAILER,
    &UPGRADE,
    &EXPECT,
    &ACCEPT_ENCODING,
    &DPOP,
];
static DPOP: HeaderName = HeaderName::from_static("dpop");

/// Makes what connects to servers: no proxy. Servers are verified with these authorities, or with the
/// public ones.
pub(super) fn connector(
    authorities: Option<RootCertStore>,
    http2: Http2,
) -> Result<connections::Connector, UpstreamConfigError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let unusable = |error: rustls::Error| UpstreamConfigError::Tls(error.to_string());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let tls = match authorities {
        Some(authorities) => tls.with_root_certificates(authorities),
        None => tls.with_webpki_roots(),
    };
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls.with_no_client_auth())
        .https_or_http();
    Ok(match http2 {
        Http2::Never => https.enable_http1().wrap_connector(tcp),
        Http2::Offered => https.enable_http1().enable_http2().wrap_connector(tcp),
        Http2::Always => https.enable_http2().wrap_connector(tcp),
    })
}

/// Connections to servers whose requests stream, or that may be upgraded.
pub(super) type Client<B> = legacy::Client<Connector, B>;

/// Makes a pool of such connections: no proxy, no redirects. Servers are verified with these authorities,
/// or with the public ones.
pub(super) fn client<B>(
    authorities: Option<RootCertStore>,
    http2: Http2,
) -> Result<Client<B>, UpstreamConfigError>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    Ok(pool(Connector(connector(authorities, http2)?), http2, KEPT))
}

/// Makes a pool of connections that keeps so many unused ones.
pub(super) fn pool<B>(connector: Connector, http2: Http2, kept: usize) -> Client<B>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(kept)
        .http1_max_headers(HEADERS)
        .http1_max_buf_size(HEAD)
        .http2_only(http2 == Http2::Always)
        .timer(TokioTimer::new())
        .http2_initial_stream_window_size(WINDOW)
        .http2_initial_connection_window_size(WINDOW_OF_ALL)
        .http2_max_header_list_size(HEAD as u32)
        .http2_max_send_buf_size(WAITING)
        .http2_keep_alive_interval(ASKED)
        .http2_keep_alive_timeout(TO_ANSWER)
        .build(connector)
}

/// The certification authorities in a PEM file.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let shown = path.display();
    let mut store = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(path).map_err(|error| format!("{shown}: {error}"))?
    {
        let certificate = certificate.map_err(|error| format!("{shown}: {error}"))?;
        store
            .add(certificate)
            .map_err(|error| format!("{shown}: {error}"))?;
    }
    if store.is_empty() {
        return Err(format!("{shown} holds no certificate"));
    }
    Ok(store)
}

/// Connects, and gives up in time: a server that accepts and then says nothing would hold the
/// handshake forever.
#[derive(Clone)]
pub(super) struct Connector(pub(super) connections::Connector);

type Stream = TokioIo<Counted<MaybeHttpsStream<TokioIo<TcpStream>>>>;
type ConnectError = Box<dyn std::error::Error + Send + Sync>;

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(CONNECT, self.0.call(uri));
        Box::pin(async move {
            connecting
                .await
                .unwrap_or_else(|_| Err("no connection within 5 seconds".into()))
                .map(Counted::of)
        })
    }
}

/// The target of a URL, and the `Host` header that goes with it.
///
/// # Errors
/// Why it cannot be used, in words.
pub(super) fn target(url: &str) -> Result<(Uri, HeaderValue), &'static str> {
    let uri: Uri = url.parse().map_err(|_| "it is not a URL")?;
    let default_port = match uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return Err("it is neither http nor https"),
    };
    let authority = uri.authority().ok_or("it names no host")?;
    if authority.as_str().contains('@') {
        return Err("it has a user name or password in it");
    }
    let host = match authority.port_u16() {
        Some(port) if port != default_port => authority.as_str(),
        _ => authority.host(),
    };
    let host = HeaderValue::from_str(host).map_err(|_| "its host is not valid")?;
    Ok((uri, host))
}

/// Whether a connection of HTTP/1.1 that was kept was closed before anything of an answer came.
fn is_stale(error: &legacy::Error) -> bool {
    let Some(connection) = error.connect_info().filter(|it| !it.is_negotiated_h2()) else {
        return false;
    };
    let mut extras = http::Extensions::new();
    connection.get_extras(&mut extras);
    extras.get::<Passed>().is_some_and(Passed::is_unanswered)
}

/// What went wrong, for the operator and for the agent.
pub(super) fn story(error: &legacy::Error) -> (String, UpstreamError) {
    let mut cause = error.source();
    let mut exchange = None;
    while let Some(error) = cause {
        exchange = error.downcast_ref::<hyper::Error>().or(exchange);
        cause = error.source();
    }
    let told = match exchange {
        _ if error.is_connect() => unreachable(),
        _ if is_stale(error) => UpstreamError::Stale,
        Some(error) => broken(error),
        None => UpstreamError::Unreachable("the connection broke before the answer".to_owned()),
    };
    (causes(error), told)
}

/// An error with its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let mut story = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        story = format!("{story}: {error}");
        cause = error.source();
    }
    story
}

fn unreachable() -> UpstreamError {
    UpstreamError::Unreachable("no connection could be made".to_owned())
}

fn broken(error: &hyper::Error) -> UpstreamError {
    if error.is_parse() {
        UpstreamError::Protocol("it is not HTTP, or its head is too large".to_owned())
    } else {
        UpstreamError::Unreachable("the connection broke before the answer".to_owned())
    }
}

/// One server.
pub(super) struct Http {
    name: ServerName,
    /// Made once, and not for every request.
    host: HeaderValue,
    resolved: Arc<Resolved>,
    connections: Connections,
    limits: Arc<ArcSwap<Limits>>,
    closed: AtomicBool,
    warnings: Mutex<Allowance>,
}

impl Http {
    pub(super) fn new(
        name: &ServerName,
        url: &str,
        ca: Option<&Path>,
        resolved: &Arc<Resolved>,
        shared: &Shared,
    ) -> Result<Self, UpstreamConfigError> {
        let refuse = |because| UpstreamConfigError::Url {
            server: name.clone(),
            because,
        };
        let (uri, host) = target(url).map_err(refuse)?;
        let connector = match ca {
            None => shared.connector.clone(),
            Some(path) => {
                let trusted =
                    authorities(path).map_err(|because| UpstreamConfigError::Authorities {
                        server: name.clone(),
                        because,
                    })?;
                connector(Some(trusted), Http2::Never)?
            }
        };
        Ok(Self {
            name: name.clone(),
            host,
            connections: Connections::new(connector, uri),
            resolved: Arc::clone(resolved),
            limits: Arc::clone(&shared.limits),
            closed: AtomicBool::new(false),
            warnings: Mutex::new(Allowance::new(10, 1, Instant::now())),
        })
    }

    /// Refuses further requests. What is under way is for whoever waits for it to end.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.connections.close();
    }

    /// Whether there is a connection to the server.
    pub(super) fn is_connected(&self) -> bool {
        self.connections.are_open()
    }

    /// Closes connections that were not used for a while.
    pub(super) fn forget_idle(&self) {
        self.connections.forget_idle();
    }

    pub(super) async fn send(&self, out: Outgoing) -> Result<Response<Body>, UpstreamError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(UpstreamError::Disabled);
        }
        let mut request = Request::new(Full::new(out.body));
        *request.method_mut() = out.method;
        *request.headers_mut() = self.dress(out.headers);
        let longest = Duration::from_secs(self.limits.load().upstream_seconds);
        match tokio::time::timeout(longest, self.connections.send(request)).await {
            Err(_) => {
                self.warn("no answer within `limits.upstream_seconds`");
                Err(UpstreamError::Timeout)
            }
            Ok(Err(error)) => Err(self.failed(&error)),
            Ok(Ok(response)) => self.pass(response),
        }
    }

    /// The headers as the server gets them.
    fn dress(&self, mut headers: HeaderMap) -> HeaderMap {
        for name in WITHHELD {
            headers.remove(name);
        }
        headers.insert(HOST, self.host.clone());
        if let Some((name, value)) = &self.resolved.header {
            headers.insert(name, value.clone());
        }
        headers
    }

    /// The answer as the enforcement point gets it.
    fn pass(&self, response: Response<Answer>) -> Result<Response<Body>, UpstreamError> {
        let (mut head, body) = response.into_parts();
        if matches!(
            head.status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        ) {
            self.warn(&format!(
                "the server refuses the gateway's credential with {}: check `credential` of this \
                 server, and reload",
                head.status
            ));
            return Err(UpstreamError::Protocol(
                "the server does not let the gateway in; an operator must see to its credential"
                    .to_owned(),
            ));
        }
        if head.status.is_redirection() || head.status.is_informational() {
            self.warn(&format!(
                "the server answers with {}; redirects are not followed: set `url` to where it \
                 really is",
                head.status
            ));
            return Err(UpstreamError::Protocol("it points elsewhere".to_owned()));
        }
        let plain = head
            .headers
            .get(CONTENT_ENCODING)
            .is_none_or(|coding| coding == "identity");
        if !plain {
            self.warn("the server compresses its answer, though the request does not allow it");
            return Err(UpstreamError::Protocol(
                "it is compressed, though that was not asked for".to_owned(),
            ));
        }
        let mut headers = HeaderMap::with_capacity(PASSED.len() + 2);
        for name in PASSED {
            if let Some(value) = head.headers.remove(name) {
                headers.insert(name, value);
            }
        }
        let mut passed = Response::new(
            body.map_err(|_| BodyError("the connection to the server broke".to_owned()))
                .boxed(),
        );
        *passed.status_mut() = head.status;
        *passed.headers_mut() = headers;
        Ok(passed)
    }

    fn failed(&self, failed: &Failed) -> UpstreamError {
        match failed {
            Failed::Connect(error) => {
                self.warn(&causes(&**error));
                unreachable()
            }
            Failed::Exchange(error) => {
                self.warn(&causes(error));
                broken(error)
            }
        }
    }

    /// Tells the operator, but not more often than anyone can read.
    fn warn(&self, text: &str) {
        if let Some(left_out) = self.warnings.lock().take(Instant::now()) {
            let text = text.escape_debug();
            tracing::warn!(target: "upstream", server = %self.name, left_out, "{text}");
        }
    }
}
