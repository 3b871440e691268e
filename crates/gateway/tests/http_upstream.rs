//! Servers over HTTP, as the enforcement point sees them: real connections, to servers some of
//! which misbehave.

#![expect(
    clippy::unwrap_used,
    reason = "what a test cannot unwrap is its failure"
)]

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway::caller::Principal;
use gateway::upstream::{Outgoing, Upstream, UpstreamConfigError, UpstreamError, Upstreams};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use model::config::{Config, Limits};
use model::{InstanceId, TaskId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

type Answer = Response<http_body_util::combinators::BoxBody<Bytes, std::io::Error>>;

fn principal() -> Principal {
    let now = jiff::Timestamp::UNIX_EPOCH;
    Principal {
        instance: InstanceId::new(now, [1; 10]),
        task: TaskId::new(now, [1; 10]),
    }
}

fn config(text: &str) -> Config {
    Config::parse(
        Path::new("t"),
        &format!("trust_domain = \"a\"\n[servers.x]\n{text}"),
    )
    .unwrap()
}

fn upstream(text: &str, limits: &Limits) -> Result<Upstream, UpstreamConfigError> {
    let config = config(text);
    let (name, server) = config.servers.first_key_value().unwrap();
    Upstream::new(name, server, limits)
}

fn at(url: &str) -> Upstream {
    upstream(
        &format!("url = {url:?}"),
        &Limits {
            upstream_seconds: 2,
            ..Limits::default()
        },
    )
    .unwrap()
}

fn outgoing(headers: &[(&'static str, &'static str)], body: &'static str) -> Outgoing {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_static(value));
    }
    let body = Bytes::from_static(body.as_bytes());
    Outgoing {
        method: Method::POST,
        headers: map,
        body,
        principal: principal(),
    }
}

fn whole(text: impl Into<Bytes>) -> Answer {
    Response::new(
        Full::new(text.into())
            .map_err(|never| match never {})
            .boxed(),
    )
}

/// A server that answers each request with what the function makes of it; gives its URL, and how
/// many connections were made to it.
async fn serve<F, A>(answer: F) -> (String, Arc<AtomicUsize>)
where
    F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp?x=1", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let answer = Arc::clone(&answer);
            let service = hyper::service::service_fn(move |request| {
                let answered = answer(request);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    (url, connections)
}

/// A server that does with each connection, once a request's head is there, what the function says.
async fn raw<F, A>(behave: F) -> String
where
    F: Fn(TcpStream) -> A + Send + Sync + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let _ = stream.read(&mut head).await.unwrap();
            tokio::spawn(behave(stream));
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_arrives_as_it_was_without_the_agents_credentials() {
    let (url, connections) = serve(|request| async move {
        let mut seen = format!("{} {}\n", request.method(), request.uri());
        for (name, value) in request.headers() {
            seen.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        whole(format!("{seen}\n{}", std::str::from_utf8(&body).unwrap()))
    })
    .await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "s3cret\n").unwrap();
    let upstream = upstream(
        &format!(
            "url = {url:?}\ncredential = {{ header = \"X-Api-Key\", prefix = \"Key \", value = {{ file = {:?} }} }}",
            secret.path()
        ),
        &Limits::default(),
    )
    .unwrap();
    let sent = outgoing(
        &[
            ("mcp-session-id", "abc"),
            ("mcp-param-x", "1"),
            ("x-api-key", "the agent's own"),
            ("x-api-key", "and another"),
            ("authorization", "DPoP agent-token"),
            ("dpop", "agent-proof"),
            ("cookie", "agent-cookie"),
            ("proxy-authorization", "agent-proxy"),
            ("host", "elsewhere.example"),
            ("connection", "close"),
            ("accept-encoding", "gzip"),
            ("content-length", "7777"),
        ],
        "{\"a\":1}",
    );
    let response = upstream.send(sent).await.unwrap();
    let seen = response.into_body().collect().await.unwrap().to_bytes();
    let seen = std::str::from_utf8(&seen).unwrap();
    let host = url.trim_start_matches("http://").split('/').next().unwrap();
    assert!(seen.starts_with("POST /mcp?x=1\n"), "{seen}");
    assert!(seen.ends_with("\n\n{\"a\":1}"), "{seen}");
    let mut lines: Vec<_> = seen
        .lines()
        .skip(1)
        .take_while(|line| !line.is_empty())
        .collect();
    lines.sort_unstable();
    let host = format!("host: {host}");
    let expected = [
        "content-length: 7",
        &host,
        "mcp-param-x: 1",
        "mcp-session-id: abc",
        "x-api-key: Key s3cret",
    ];
    assert_eq!(lines, expected);
    for _ in 0..20 {
        let response = upstream.send(outgoing(&[], "{}")).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    // Going back to the pool takes a moment, which the next request need not wait for.
    let connections = connections.load(Ordering::Relaxed);
    assert!(
        connections <= 5,
        "{connections} connections for 21 requests"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_answers_head_only_what_mcp_needs_passes() {
    let (url, _) = serve(|_| async {
        let mut response = whole("{}");
        *response.status_mut() = StatusCode::NOT_FOUND;
        for name in [
            "content-type",
            "mcp-session-id",
            "mcp-protocol-version",
            "cache-control",
            "retry-after",
            "allow",
            "www-authenticate",
            "set-cookie",
            "server",
            "x-internal",
            "location",
        ] {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static("v"));
        }
        response
    })
    .await;
    let response = at(&url).send(outgoing(&[], "{}")).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let mut names: Vec<_> = response
        .headers()
        .keys()
        .map(http::HeaderName::as_str)
        .collect();
    names.sort_unstable();
    let expected = [
        "allow",
        "cache-control",
        "content-type",
        "mcp-protocol-version",
        "mcp-session-id",
        "retry-after",
    ];
    assert_eq!(names, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_streams_and_breaks_off_when_the_server_does() {
    let (sender, receiver) = mpsc::unbounded_channel::<Result<Frame<Bytes>, std::io::Error>>();
    let receiver = Arc::new(parking_lot::Mutex::new(Some(receiver)));
    let (url, _) = serve(move |_| {
        let mut receiver = receiver.lock().take().expect("one request");
        let stream = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        async { Response::new(BodyExt::boxed(StreamBody::new(stream))) }
    })
    .await;
    let response = at(&url).send(outgoing(&[], "{}")).await.unwrap();
    let mut body = response.into_body();
    for chunk in ["data: 1\n\n", ": comment\n\n", "data: 2\r\n\r\n"] {
        sender
            .send(Ok(Frame::data(Bytes::from_static(chunk.as_bytes()))))
            .unwrap();
        let frame = tokio::time::timeout(Duration::from_secs(5), body.frame()).await;
        let data = frame
            .expect("it comes before the body ends")
            .unwrap()
            .unwrap()
            .into_data();
        assert_eq!(data.unwrap(), chunk);
    }
    // Longer than the limit on the head: a stream may be silent.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    sender.send(Err(std::io::Error::other("dies"))).unwrap();
    let broken = body.frame().await.unwrap().unwrap_err();
    assert!(
        broken
            .to_string()
            .contains("the connection to the server broke"),
        "{broken}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_closes_the_servers_connection() {
    let (gone, mut is_gone) = mpsc::unbounded_channel();
    let url = raw(move |mut stream| {
        let gone = gone.clone();
        async move {
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
            stream.write_all(head).await.unwrap();
            let mut nothing = [0; 1];
            let read = stream.read(&mut nothing).await;
            gone.send(read.unwrap_or(0)).unwrap();
        }
    })
    .await;
    let mut body = at(&url)
        .send(outgoing(&[], "{}"))
        .await
        .unwrap()
        .into_body();
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "hello"
    );
    drop(body);
    let seen = tokio::time::timeout(Duration::from_secs(5), is_gone.recv()).await;
    assert_eq!(seen.expect("it is seen soon"), Some(0));
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_not_used_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let url = raw(move |mut stream| {
        let counted = Arc::clone(&counted);
        async move {
            counted.fetch_add(1, Ordering::Relaxed);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    let upstream = at(&url);
    for sent in 1..=3 {
        let answer = upstream.send(outgoing(&[], "{}")).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "{}");
        assert_eq!(requests.load(Ordering::Relaxed), sent, "none is sent twice");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_begin_its_answer_times_out() {
    let (url, _) = serve(|_| std::future::pending()).await;
    let start = Instant::now();
    let refused = at(&url).send(outgoing(&[], "{}")).await.unwrap_err();
    assert_eq!(refused, UpstreamError::Timeout);
    // So does one that lets its head trickle.
    let url = raw(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"x: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    })
    .await;
    let refused = at(&url).send(outgoing(&[], "{}")).await.unwrap_err();
    assert_eq!(refused, UpstreamError::Timeout);
    assert!(start.elapsed() < Duration::from_secs(8));
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_or_no_http_are_refused() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(100));
    let split = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy".to_owned();
    for answer in [long, many, split, "SSH-2.0-OpenSSH_9\r\n\r\n".to_owned()] {
        let begin = answer[..30.min(answer.len())].to_owned();
        let url = raw(move |mut stream| {
            let answer = answer.clone();
            async move {
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.read(&mut [0; 64]).await;
            }
        })
        .await;
        let refused = at(&url).send(outgoing(&[], "{}")).await.err();
        assert!(
            matches!(refused, Some(UpstreamError::Protocol(_))),
            "{begin}: {refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_is_told_names_no_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let closed = at(&format!("http://{address}/"))
        .send(outgoing(&[], "{}"))
        .await
        .unwrap_err();
    assert!(matches!(closed, UpstreamError::Unreachable(_)), "{closed}");
    assert!(!closed.to_string().contains(&address) && !closed.to_string().contains("127.0.0.1"));
    let url = raw(|stream| async move { drop(stream) }).await;
    let broke = at(&url).send(outgoing(&[], "{}")).await.unwrap_err();
    assert!(matches!(broke, UpstreamError::Unreachable(_)), "{broke}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_redirects_and_compression_do_not_reach_the_agent() {
    for (status, header, value) in [
        (401, "www-authenticate", "Bearer realm=\"inside.example\""),
        (
            403,
            "www-authenticate",
            "Bearer error=\"insufficient_scope\"",
        ),
        (302, "location", "http://inside.example/"),
        (307, "location", "http://inside.example/"),
        (200, "content-encoding", "gzip"),
    ] {
        let (url, connections) = serve(move |_| async move {
            let mut response = whole("about inside.example");
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
                .headers_mut()
                .insert(header, HeaderValue::from_static(value));
            response
        })
        .await;
        let refused = at(&url).send(outgoing(&[], "{}")).await.unwrap_err();
        assert!(
            matches!(refused, UpstreamError::Protocol(_)),
            "{status}: {refused}"
        );
        assert!(!refused.to_string().contains("inside.example"), "{refused}");
        assert_eq!(
            connections.load(Ordering::Relaxed),
            1,
            "nothing is followed or repeated"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_accepts_and_says_nothing_is_given_up_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let patient = upstream(&format!("url = {url:?}"), &Limits::default()).unwrap();
    let start = Instant::now();
    let refused = patient.send(outgoing(&[], "{}")).await.unwrap_err();
    assert!(
        matches!(refused, UpstreamError::Unreachable(_)),
        "{refused}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_taken_out_is_not_called_any_more() {
    let (url, connections) = serve(|_| async { whole("{}") }).await;
    let before = config(&format!("url = {url:?}"));
    let upstreams = Upstreams::new(&before).unwrap();
    let name = "x".parse().unwrap();
    let held = upstreams.get(&name).unwrap();
    upstreams.reload(&before).unwrap();
    assert!(Arc::ptr_eq(&held, &upstreams.get(&name).unwrap()));
    held.send(outgoing(&[], "{}")).await.unwrap();
    upstreams
        .reload(&config(&format!("url = {:?}", format!("{url}&y=2"))))
        .unwrap();
    assert_eq!(
        held.send(outgoing(&[], "{}")).await.unwrap_err(),
        UpstreamError::Disabled
    );
    upstreams
        .get(&name)
        .unwrap()
        .send(outgoing(&[], "{}"))
        .await
        .unwrap();
    assert!(connections.load(Ordering::Relaxed) <= 2);
    upstreams.stop().await;
    assert!(upstreams.get(&name).is_none());
}

#[test]
fn urls_that_cannot_be_used_are_refused() {
    for text in [
        "url = \"ftp://a/\"",
        "url = \"/mcp\"",
        "url = \"http://u:p@a/\"",
        "url = \"\"",
        "url = \"http://a b/\"",
        "",
        "url = \"http://a/\"\ncommand = [\"x\"]",
    ] {
        let refused = upstream(text, &Limits::default()).err();
        let refused = refused.unwrap_or_else(|| panic!("{text}")).to_string();
        assert!(
            refused.contains("`x`") && !refused.contains("u:p"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_server_over_tls_is_verified_with_the_authorities_of_its_configuration() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let home = tempfile::tempdir().unwrap();
    let ca = home.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}/mcp",
        listener.local_addr().unwrap().port()
    );
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let service = hyper::service::service_fn(async |_: Request<Incoming>| {
                Ok::<_, Infallible>(whole("{}"))
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    let limits = Limits::default();
    let trusting = upstream(&format!("url = {url:?}\nca = {ca:?}"), &limits).unwrap();
    let answer = trusting.send(outgoing(&[], "{}")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    // The public authorities do not know it.
    let wary = upstream(&format!("url = {url:?}"), &limits).unwrap();
    let refused = wary.send(outgoing(&[], "{}")).await;
    assert!(
        matches!(refused, Err(UpstreamError::Unreachable(_))),
        "{refused:?}"
    );
    // A file without a certificate is a mistake, not an empty list of authorities.
    std::fs::write(&ca, "nothing").unwrap();
    let refused = upstream(&format!("url = {url:?}\nca = {ca:?}"), &limits);
    assert!(matches!(
        refused,
        Err(UpstreamConfigError::Authorities { .. })
    ));
}
