//! Servers that are reached by plain HTTP, over either version, and what of their answers cannot be passed on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use gateway::upstream::{UpstreamError, Web};
use gateway::{Body, BodyError, full};
use http::header::{HOST, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use model::config::{Config, Limits, ServerKind};
use model::name::ServerName;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Answers by the path: with what was received, or with what should not be passed on.
async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let version = request.version();
    let host = request.headers().get(HOST).cloned();
    let authority = request.uri().authority().map(ToString::to_string);
    let mut response = match request.uri().path() {
        "/v1/many" => {
            let mut response = Response::new(full("many"));
            for n in 0..70 {
                let name = http::HeaderName::try_from(format!("x-{n}")).unwrap();
                response
                    .headers_mut()
                    .insert(name, HeaderValue::from_static("1"));
            }
            response
        }
        "/v1/large" => {
            let mut response = Response::new(full("large"));
            let large = HeaderValue::try_from("x".repeat(400_000)).unwrap();
            response.headers_mut().insert("x-large", large);
            response
        }
        "/v1/broken" => {
            let pieces = [
                Ok(Frame::data(Bytes::from_static(b"half"))),
                Err(BodyError("broken".to_owned())),
            ];
            Response::new(StreamBody::new(futures_util::stream::iter(pieces)).boxed())
        }
        "/v1/silent" => std::future::pending().await,
        "/v1/socket" if request.headers().contains_key(UPGRADE) => {
            let mut response = Response::new(full(""));
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let kind = HeaderValue::from_static("websocket");
            response.headers_mut().insert(UPGRADE, kind);
            response
        }
        _ => {
            let body = request.into_body().collect().await;
            let length = body.map_or(0, |body| body.to_bytes().len());
            Response::new(full(format!("{version:?} {host:?} {authority:?} {length}")))
        }
    };
    let version = HeaderValue::try_from(format!("{version:?}")).unwrap();
    response.headers_mut().insert("x-version", version);
    Ok(response)
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, two: bool) {
    let service = hyper::service::service_fn(answer);
    let stream = TokioIo::new(stream);
    if two {
        let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        drop(
            http.max_header_list_size(1 << 20)
                .serve_connection(stream, service)
                .await,
        );
    } else {
        let http = hyper::server::conn::http1::Builder::new();
        drop(http.serve_connection(stream, service).with_upgrades().await);
    }
}

/// A server in clear that speaks one version only.
async fn in_clear(two: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(speak(stream, two));
        }
    });
    url
}

/// A server with TLS that chooses from these, and its certificate.
async fn over_tls(offers: &[&str]) -> (String, NamedTempFile) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = offers.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that wants another version goes away.
                if let Ok(stream) = acceptor.accept(stream).await {
                    let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    speak(stream, two).await;
                }
            });
        }
    });
    let certificate = NamedTempFile::new().unwrap();
    std::fs::write(certificate.path(), made.cert.pem()).unwrap();
    (format!("https://localhost:{port}/v1"), certificate)
}

fn web(url: &str, more: &str) -> Web {
    let text =
        format!("trust_domain = \"a\"\n[servers.api]\nkind = \"http\"\nurl = \"{url}\"\n{more}\n");
    let config = Config::parse(std::path::Path::new("sallyport.toml"), &text).unwrap();
    let (name, server) = config.servers.first_key_value().unwrap();
    assert_eq!(
        (name, server.kind),
        (&ServerName::parse("api").unwrap(), ServerKind::Http)
    );
    let limits = Limits {
        upstream_seconds: 2,
        ..Limits::default()
    };
    Web::new(name, server, &limits).unwrap()
}

async fn get(web: &Web, path: &str) -> Result<Response<Incoming>, UpstreamError> {
    web.send(Request::get("/").body(full("")).unwrap(), path)
        .await
}

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_server_is_spoken_to_as_the_configuration_says() {
    let (both, certificate) = over_tls(&["h2", "http/1.1"]).await;
    let (old, old_certificate) = over_tls(&["http/1.1"]).await;
    let (clear, clear_two) = (in_clear(false).await, in_clear(true).await);
    let trust = |file: &NamedTempFile| format!("ca = {:?}", file.path());
    let (both_ca, old_ca) = (trust(&certificate), trust(&old_certificate));
    for (url, ca, http2, expected) in [
        (&both, &both_ca[..], "false", Some(Version::HTTP_11)),
        (&both, &both_ca, "\"auto\"", Some(Version::HTTP_2)),
        (&both, &both_ca, "true", Some(Version::HTTP_2)),
        (&old, &old_ca, "\"auto\"", Some(Version::HTTP_11)),
        (&old, &old_ca, "true", None),
        (&clear, "", "false", Some(Version::HTTP_11)),
        (&clear, "", "\"auto\"", Some(Version::HTTP_11)),
        (&clear, "", "true", None),
        (&clear_two, "", "true", Some(Version::HTTP_2)),
        (&clear_two, "", "false", None),
    ] {
        let web = web(url, &format!("http2 = {http2}\n{ca}"));
        let answer = get(&web, "/x").await;
        let Some(version) = expected else {
            assert!(answer.is_err(), "{url} {http2}");
            continue;
        };
        let said = text(answer.unwrap()).await;
        assert!(
            said.starts_with(&format!("{version:?} ")),
            "{url} {http2}: {said}"
        );
        // It is told once which host it is.
        let host = url.split('/').nth(2).unwrap();
        let parts = if version == Version::HTTP_2 {
            format!("None Some(\"{host}\") 0")
        } else {
            format!("Some(\"{host}\") None 0")
        };
        assert!(said.ends_with(&parts), "{said}");
    }
}

#[tokio::test]
async fn a_socket_is_opened_over_http_1_1_whatever_else_is_spoken() {
    let (url, certificate) = over_tls(&["h2", "http/1.1"]).await;
    let web = web(
        &url,
        &format!("http2 = true\nca = {:?}", certificate.path()),
    );
    assert_eq!(get(&web, "/x").await.unwrap().version(), Version::HTTP_2);
    let upgrade = Request::get("/")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .body(full(""))
        .unwrap();
    let answer = web.send(upgrade, "/socket").await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.headers()["x-version"], "HTTP/1.1");
}

#[tokio::test]
async fn what_is_too_much_or_never_comes_is_no_answer_over_either_version() {
    for (url, http2) in [
        (in_clear(false).await, "false"),
        (in_clear(true).await, "true"),
    ] {
        let web = web(&url, &format!("http2 = {http2}"));
        for path in ["/many", "/large"] {
            assert!(get(&web, path).await.is_err(), "{http2} {path}");
        }
        let silent = get(&web, "/silent").await.unwrap_err();
        assert_eq!(silent, UpstreamError::Timeout);
        // It may break before anything of it was on its way.
        if let Ok(broken) = get(&web, "/broken").await {
            assert!(
                broken.into_body().collect().await.is_err(),
                "half is not the whole"
            );
        }
        // The next one is answered.
        assert_eq!(get(&web, "/x").await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn bodies_that_break_do_not_look_complete_to_the_server() {
    for (url, http2) in [
        (in_clear(false).await, "false"),
        (in_clear(true).await, "true"),
    ] {
        let web = web(&url, &format!("http2 = {http2}"));
        let pieces = [
            Ok(Frame::data(Bytes::from_static(b"half"))),
            Err(BodyError("cut".to_owned())),
        ];
        let body = StreamBody::new(futures_util::stream::iter(pieces)).boxed();
        let sent = web.send(Request::post("/").body(body).unwrap(), "/x").await;
        // The server counts a broken body as nothing.
        if let Ok(answer) = sent {
            assert!(!text(answer).await.ends_with(" 4"), "{http2}");
        }
        let whole = Request::post("/").body(full("whole")).unwrap();
        let answer = web.send(whole, "/x").await.unwrap();
        assert!(text(answer).await.ends_with(" 5"));
    }
}
