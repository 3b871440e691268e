//! Requests that the gateway sends by itself to places that are neither agents nor servers: webhooks of
//! agents, and of whoever runs the gateway.
//!
//! Where such a request may go is for whoever sends it to say, as an [`Origin`]. What is made sure of here
//! is that it goes there and nowhere else: a name is resolved once, the addresses that it stands for are
//! looked at, and one of those is connected to; nobody is followed elsewhere (redirects); of an answer the
//! status is read, and what it says only where that is asked for, and so much at most.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::ConfigBuilderExt as _;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::upstream;

mod address;

pub use address::is_public;

/// How long one request may take in all.
const LONGEST: Duration = Duration::from_secs(10);
/// Most addresses of a name that are tried.
const ADDRESSES: usize = 4;
/// Longest URL, in bytes.
const URL_BYTES: usize = 2_048;

/// Scheme, host and port of a URL, in one spelling (RFC 6454 §4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    secure: bool,
    host: String,
    port: u16,
}

/// Why a text is no URL that anything is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoTarget {
    /// It is not a URL, or too long for one.
    #[error("it is not a URL of at most 2048 plain characters")]
    Malformed,
    /// Its scheme is another one.
    #[error("it is neither http nor https")]
    Scheme,
    /// It names no host.
    #[error("it names no host")]
    Host,
    /// It has a user, a password or a fragment.
    #[error("it has a user, a password or a fragment in it")]
    Extra,
}

impl Origin {
    /// The origin of a URL, and the URL as it is sent to.
    ///
    /// # Errors
    /// [`NoTarget`]
    pub fn of(url: &str) -> Result<(Self, Uri), NoTarget> {
        let plain = url.len() <= URL_BYTES
            && url
                .bytes()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'"' | b'<' | b'>'));
        if !plain {
            return Err(NoTarget::Malformed);
        }
        if url.contains('#') {
            return Err(NoTarget::Extra);
        }
        let uri: Uri = url.parse().map_err(|_| NoTarget::Malformed)?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(NoTarget::Scheme),
        };
        let authority = uri.authority().ok_or(NoTarget::Host)?;
        if authority.as_str().contains('@') {
            return Err(NoTarget::Extra);
        }
        let host = authority.host().to_ascii_lowercase();
        // A name has one spelling: the dot at its end means the same, and is compared differently.
        if host.is_empty() || host.ends_with('.') || host.contains('%') {
            return Err(NoTarget::Host);
        }
        // A port that cannot be read would else be taken for none.
        let port = match authority.as_str().len() == authority.host().len() {
            true => None,
            false => Some(authority.port_u16().ok_or(NoTarget::Malformed)?),
        };
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        Ok((Self { secure, host, port }, uri))
    }

    /// The host, as it stands in URLs.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it is reached over TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    fn authority(&self) -> String {
        let default = if self.secure { 443 } else { 80 };
        match self.port {
            port if port == default => self.host.clone(),
            port => format!("{}:{port}", self.host),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// Which addresses a name may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Addresses of the public internet only.
    Public,
    /// Any address, those of private networks and of this machine too.
    Any,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Post {
    /// The method; mostly `POST`.
    pub method: Method,
    /// Where to.
    pub url: String,
    /// Which addresses its host may have.
    pub reach: Reach,
    /// Its headers, those about the connection aside.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// Its URL cannot be used.
    #[error("the URL cannot be used: {0}")]
    Target(#[from] NoTarget),
    /// Its host has no address that it may be sent to.
    #[error(
        "`{0}` is at no address that may be reached: addresses of private networks and of this \
         machine are left out unless the configuration says otherwise"
    )]
    Address(String),
    /// Its host has no address.
    #[error("`{0}` cannot be resolved")]
    Name(String),
    /// Nobody answered.
    #[error("it could not be delivered: {0}")]
    Broken(String),
    /// The answer took too long.
    #[error("there was no answer within 10 seconds")]
    Timeout,
}

/// Sends such requests. Connections are not kept: these are rare, and go to many places.
#[derive(Clone)]
pub struct Outbound {
    tls: Arc<ClientConfig>,
}

/// Why there is nothing to send with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoTls(String);

impl Outbound {
    /// Verifies servers with the certification authorities of a PEM file, or with the public ones.
    ///
    /// # Errors
    /// [`NoTls`] when the file cannot be used.
    pub fn new(authorities: Option<&Path>) -> Result<Self, NoTls> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| NoTls(error.to_string()))?;
        let tls = match authorities {
            Some(path) => tls.with_root_certificates(upstream::authorities(path).map_err(NoTls)?),
            None => tls.with_webpki_roots(),
        };
        Ok(Self {
            tls: Arc::new(tls.with_no_client_auth()),
        })
    }

    /// Sends a request, and returns the status that it was answered with.
    ///
    /// # Errors
    /// [`OutboundError`] when there is none.
    pub async fn send(&self, post: Post) -> Result<StatusCode, OutboundError> {
        self.fetch(post, 0).await.map(|(status, _)| status)
    }

    /// Sends a request, and returns the status and the body of the answer, of at most so many bytes. With 0
    /// nothing of the body is read.
    ///
    /// # Errors
    /// [`OutboundError`] when there is none, or it is longer.
    pub async fn fetch(
        &self,
        post: Post,
        most: usize,
    ) -> Result<(StatusCode, Bytes), OutboundError> {
        tokio::time::timeout(LONGEST, self.sent(post, most))
            .await
            .unwrap_or(Err(OutboundError::Timeout))
    }

    async fn sent(&self, post: Post, most: usize) -> Result<(StatusCode, Bytes), OutboundError> {
        let (origin, uri) = Origin::of(&post.url)?;
        let stream = connect(&origin, post.reach).await?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Full::new(post.body.clone()));
        *request.method_mut() = post.method;
        *request.uri_mut() = path.parse().map_err(|_| NoTarget::Malformed)?;
        let headers = request.headers_mut();
        *headers = post.headers;
        headers.insert(CONTENT_LENGTH, post.body.len().into());
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let host = HeaderValue::from_str(&origin.authority()).map_err(|_| NoTarget::Host)?;
        headers.insert(HOST, host);
        if !origin.secure {
            return exchange(stream, request, most).await;
        }
        let name = origin.host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(name.to_owned()).map_err(|_| NoTarget::Host)?;
        let secured = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await
            .map_err(|error| OutboundError::Broken(error.to_string()))?;
        exchange(secured, request, most).await
    }
}

/// Connects to one of the addresses of an origin that may be reached.
async fn connect(origin: &Origin, reach: Reach) -> Result<TcpStream, OutboundError> {
    let host = origin.host.trim_start_matches('[').trim_end_matches(']');
    let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, origin.port)],
        Err(_) => tokio::net::lookup_host((host, origin.port))
            .await
            .map_err(|_| OutboundError::Name(host.to_owned()))?
            .collect(),
    };
    // One address that may not be reached spoils the name: whoever answers for it plays games.
    let may = |address: &SocketAddr| reach == Reach::Any || is_public(address.ip());
    if found.is_empty() {
        return Err(OutboundError::Name(host.to_owned()));
    }
    if !found.iter().all(may) {
        return Err(OutboundError::Address(host.to_owned()));
    }
    let mut last = None;
    for address in found.into_iter().take(ADDRESSES) {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    let why = last.map_or_else(|| "no address".to_owned(), |error| error.to_string());
    Err(OutboundError::Broken(why))
}

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    most: usize,
) -> Result<(StatusCode, Bytes), OutboundError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| OutboundError::Broken(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(64 << 10)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let mut connection = std::pin::pin!(connection);
    let answer = async {
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        if most == 0 {
            return Ok((status, Bytes::new()));
        }
        let body = Limited::new(answer.into_body(), most).collect().await;
        let body = body.map_err(|error| OutboundError::Broken(error.to_string()))?;
        Ok((status, body.to_bytes()))
    };
    let mut answer = std::pin::pin!(answer);
    // Both live in this future, so that giving up closes the connection.
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        ended = &mut connection => {
            ended.map_err(broken)?;
            answer.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[test]
    fn origins_have_one_spelling() {
        for (url, origin) in [
            (
                "https://Hooks.example.org/a?b=c",
                "https://hooks.example.org",
            ),
            ("https://hooks.example.org:443", "https://hooks.example.org"),
            ("http://127.0.0.1:9/", "http://127.0.0.1:9"),
            ("https://[::1]:8443/x", "https://[::1]:8443"),
        ] {
            assert_eq!(Origin::of(url).unwrap().0.to_string(), origin);
        }
        for bad in [
            "ftp://a/",
            "https://",
            "https://user@a/",
            "https://a@b/",
            "https://a:99999/",
            "https://a:/",
            "https://a./",
            "https://a/#x",
            "https://a\\@b/",
            "https://a b/",
            "//a/",
            "HTTPS",
            "",
        ] {
            assert!(Origin::of(bad).is_err(), "{bad}");
        }
    }

    /// Answers one request with a text; returns what it was sent.
    async fn answering(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?x=1", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            let mut piece = [0; 1024];
            while !seen.ends_with(b"body") {
                let read = stream.read(&mut piece).await.unwrap();
                assert!(read > 0, "the request broke off");
                seen.extend_from_slice(&piece[..read]);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(seen).unwrap()
        });
        (url, served)
    }

    fn post(url: &str, reach: Reach) -> Post {
        let mut headers = HeaderMap::new();
        headers.insert("x-test", HeaderValue::from_static("1"));
        Post {
            method: Method::POST,
            url: url.to_owned(),
            reach,
            headers,
            body: Bytes::from_static(b"body"),
        }
    }

    #[tokio::test]
    async fn a_request_is_sent_once_and_redirects_lead_nowhere() {
        let moved =
            "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n";
        let (url, served) = answering(moved).await;
        let outbound = Outbound::new(None).unwrap();
        let status = outbound.send(post(&url, Reach::Any)).await.unwrap();
        assert_eq!(status, StatusCode::FOUND);
        let seen = served.await.unwrap().to_ascii_lowercase();
        assert!(seen.starts_with("post /hook?x=1 http/1.1\r\n"), "{seen}");
        assert!(
            seen.contains("x-test: 1\r\n") && seen.contains("host: 127.0.0.1:"),
            "{seen}"
        );
    }

    #[tokio::test]
    async fn of_an_answer_so_much_is_read_and_no_more() {
        let outbound = Outbound::new(None).unwrap();
        let long = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        for answer in [long, chunked] {
            let (url, served) = answering(answer).await;
            let fetched = outbound.fetch(post(&url, Reach::Any), 5).await.unwrap();
            assert_eq!(fetched, (StatusCode::OK, Bytes::from_static(b"hello")));
            served.await.unwrap();
            let (url, served) = answering(answer).await;
            let fetched = outbound.fetch(post(&url, Reach::Any), 4).await;
            assert!(
                matches!(fetched, Err(OutboundError::Broken(_))),
                "{fetched:?}"
            );
            served.await.unwrap();
        }
    }

    #[tokio::test]
    async fn private_addresses_are_out_of_reach_however_they_are_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let outbound = Outbound::new(None).unwrap();
        for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"] {
            let url = format!("http://{host}:{port}/");
            let sent = outbound.send(post(&url, Reach::Public)).await;
            assert!(
                matches!(sent, Err(OutboundError::Address(_))),
                "{host} {sent:?}"
            );
        }
        // Other spellings of an address are names, which nobody resolves, or the same address.
        for host in ["2130706433", "0x7f000001", "0177.0.0.1"] {
            let url = format!("http://{host}:{port}/");
            assert!(
                outbound.send(post(&url, Reach::Public)).await.is_err(),
                "{host}"
            );
        }
        tokio::select! {
            biased;
            _ = listener.accept() => panic!("somebody connected"),
            () = std::future::ready(()) => {}
        }
    }
}
