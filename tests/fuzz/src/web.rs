//! HTTP: requests over HTTP/2, paths, queries and targets.

use std::convert::Infallible;

use gateway::serve::strict;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Empty;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use policy::path::{Folder, normalise};
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use web::proxy::target::{Host, Target};
use web::routes::{Found, Route, Routes};
use web::{path, query};

use crate::text;

/// Requests over HTTP/2: what is let through has one host, the one that it named, and means the same when it is sent on
/// over HTTP/1.1. The first line is method and URI, each further one a header.
pub fn http2_request(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let line = lines.next().and_then(text).unwrap_or_default();
    let (method, uri) = line.split_once(' ').unwrap_or(("GET", line));
    let Ok(mut request) = Request::builder().method(method).uri(uri).body(()) else {
        return;
    };
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            request.headers_mut().append(name, value);
        }
    }
    one_meaning(request);
}

/// What is let through of a request has one meaning.
fn one_meaning<B>(request: Request<B>) {
    let authority = request.uri().authority().map(ToString::to_string);
    let asked = request.uri().path_and_query().map(ToString::to_string);
    let Ok(plain) = strict::plain(request) else {
        return;
    };
    let hosts: Vec<&HeaderValue> = plain.headers().get_all(HOST).iter().collect();
    assert_eq!(hosts.len(), 1);
    if let Some(authority) = authority {
        assert!(
            hosts[0]
                .as_bytes()
                .eq_ignore_ascii_case(authority.as_bytes())
        );
        assert!(!authority.contains('@'));
    }
    assert!(plain.uri().authority().is_none() && plain.uri().scheme().is_none());
    assert_eq!(asked, Some(plain.uri().to_string()));
    assert!(plain.headers().get_all(CONTENT_LENGTH).iter().count() <= 1);
    // As a server behind reads it.
    let mut written = format!("{} {} HTTP/1.1\r\n", plain.method(), plain.uri()).into_bytes();
    for (name, value) in plain.headers() {
        written.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    written.extend(b"\r\n");
    let mut headers = [httparse::EMPTY_HEADER; 80];
    let mut read = httparse::Request::new(&mut headers);
    let status = read.parse(&written).expect("it is a request of HTTP/1.1");
    assert_eq!(status, httparse::Status::Complete(written.len()));
    assert_eq!(read.method, Some(plain.method().as_str()));
    assert_eq!(read.path.map(str::to_owned), Some(plain.uri().to_string()));
    assert_eq!(read.headers.len(), plain.headers().len());
    for (one, (name, value)) in read.headers.iter().zip(plain.headers()) {
        assert_eq!((one.name, one.value), (name.as_str(), value.as_bytes()));
    }
}

/// Frames of HTTP/2, behind a client's preface: whatever the library makes a request of, what is let through of it has one
/// meaning.
pub fn http2_frames(bytes: &[u8]) {
    /// The preface (RFC 9113 §3.4), with empty settings.
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
    }
    let local = tokio::task::LocalSet::new();
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let serving = async move {
        let service = service_fn(|request: Request<hyper::body::Incoming>| {
            one_meaning(request.map(drop));
            async { Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new())) }
        });
        // Whatever is wrong with a connection ends it.
        let _ = http2::Builder::new(Local)
            .max_concurrent_streams(16)
            .max_header_list_size(64 << 10)
            .serve_connection(TokioIo::new(server), service)
            .await;
    };
    let calling = async move {
        if client.write_all(PREFACE).await.is_ok() && client.write_all(bytes).await.is_ok() {
            let _ = client.shutdown().await;
        }
        let mut answer = [0; 4_096];
        while matches!(client.read(&mut answer).await, Ok(read) if read > 0) {}
    };
    RUNTIME.with(|runtime| {
        local.block_on(runtime, async {
            tokio::join!(serving, calling);
        });
    });
}

/// Runs what a connection needs on the thread that it is on.
#[derive(Clone)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// Paths: what is accepted below a folder is below it for every reader.
pub fn path_constraint(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let folder = Folder::parse("/srv/data").expect("a plain path");
    if let Ok(location) = normalise(text)
        && folder.contains(&location)
    {
        assert!(!text.contains(['\\', '\0', '%']), "{text:?}");
        assert!(text.contains("srv/data"), "{text:?}");
        for segment in text.split('/') {
            // Some servers take what follows a semicolon for a parameter of the segment.
            let name = segment.split(';').next().unwrap_or_default();
            assert!(name != ".." && name != ".", "{text:?}");
        }
    }
}

/// The one way to write a segment.
fn written(segment: &str, path: &mut String) {
    path.push('/');
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// What agents ask of HTTP APIs: a path has one spelling, and what is read of a query is all of it. The first line is a
/// route, what follows is what is asked.
pub fn request(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let (route, sent) = text.split_once('\n').unwrap_or(("GET /a/{b}", text));
    let (sent_path, sent_query) = sent.split_once('?').unwrap_or((sent, ""));
    if let Ok(segments) = path::segments(sent_path) {
        let mut again = String::new();
        for segment in &segments {
            written(segment, &mut again);
            assert!(!segment.contains(['/', '\\', ';', '%', '\0']));
            assert!(segment != "." && segment != "..");
        }
        assert_eq!(again, sent_path);
        if let Ok(route) = Route::parse(route) {
            let method = route.name();
            let method = method.split(' ').next().unwrap_or_default();
            let routes = Routes::new([route.clone()]);
            if let Found::Route(found, values) = routes.find(method, &segments) {
                assert_eq!(*found, route);
                assert!(values.iter().all(|(_, value)| segments.contains(value)));
            }
        }
    }
    let mut all = Map::new();
    if query::parameters(sent_query, "query.", &mut all).is_ok() {
        let count = |value: &Value| value.as_array().map_or(1, Vec::len);
        let read: usize = all.values().map(count).sum();
        let sent = sent_query.split('&').filter(|pair| !pair.is_empty());
        assert_eq!(read, sent.count());
    }
}

/// What agents name to the forward proxy: a host and a port that mean one thing to everybody, or nothing.
pub fn proxy_target(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(target) = Target::parse(text) {
        let spelt = target.to_string();
        assert_eq!(Target::parse(&spelt), Ok(target.clone()));
        assert_eq!(Target::with_default(&spelt, 1), Ok(target.clone()));
        // Nothing but letters and the spelling of an IPv6 address is ever changed.
        assert!(spelt.eq_ignore_ascii_case(text) || text.starts_with('['));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
        assert!(spelt.bytes().all(plain) && !spelt.contains(".:"));
        assert_ne!(target.port(), 0);
        // A name is no address to anybody who reads addresses in other ways.
        if let Host::Name(name) = target.host() {
            let last = name.rsplit('.').next().unwrap_or_default();
            assert!(!last.is_empty() && !last.bytes().all(|byte| byte.is_ascii_digit()));
            assert!(name.parse::<std::net::IpAddr>().is_err());
        }
        let url = format!("https://{spelt}/x");
        assert_eq!(
            url.parse().ok().map(|url| Target::of(&url)),
            Some(Ok(target))
        );
    }
    if let Ok(target) = Target::with_default(text, 443) {
        assert_eq!(Target::parse(&target.to_string()), Ok(target));
    }
}
