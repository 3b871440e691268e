//! Clients that are slow, send without end, or go on after they were stopped.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use super::Desk;
use crate::support::PATIENCE;
use crate::support::http::Call;

/// Short times, few places, and an API that takes bodies that nobody can look into.
const ROUTES: &str = r#"
[servers.crm.http]
routes = ["POST /orders", "POST /upload", "POST /early", "GET /flood", "GET /count"]
opaque_bodies = true
opaque_bytes = 1000000

[limits]
connections = 8
request_seconds = 1
streams_per_task = 2
"#;

const CLERK: &str = r#"
description = "Bring files"
agents = ["*"]
ttl = "10m"
proof = "bearer"

[parameters.customer]
pattern = "[0-9]+"

[[allow]]
server = "crm"
endpoints = ["POST /orders", "POST /upload", "POST /early", "GET /flood", "GET /count"]
other_arguments = "allow"
"#;

const BINARY: &str = "content-type: application/octet-stream\r\n";

impl Desk {
    async fn slow() -> Self {
        Self::with(ROUTES, CLERK).await
    }

    /// Waits until what the API says of its last upload is so.
    async fn uploaded(&self, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let told = self.told("/uploaded").await;
            if holds(&told) {
                return told;
            }
            assert!(begun.elapsed() < PATIENCE, "{told}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks until there is room.
    async fn served_again(&self) {
        let begun = Instant::now();
        loop {
            let answer = self.get("/count").await;
            if answer.status == 200 {
                return;
            }
            assert_eq!(answer.status, 429, "{answer:?}");
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Sends a byte at a time until the other side has had enough; what it said.
fn drip(mut stream: TcpStream, first: &str) -> String {
    stream.write_all(first.as_bytes()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let begun = Instant::now();
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    loop {
        assert!(begun.elapsed() < PATIENCE, "it is let go on for ever");
        if stream.write_all(b"a").is_err() {
            break;
        }
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => said.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn status(said: &str) -> u16 {
    let code = said.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_and_bodies_are_ended_and_keep_nobody_out() {
    let desk = Desk::slow().await;
    let seen = desk.seen().await;
    let json = "content-type: application/json\r\ncontent-length: 5000\r\n";
    let body = desk.raw_head("POST /http/crm/orders", json).await;
    let opaque = desk
        .raw_head(
            "POST /http/crm/upload",
            &format!("{BINARY}content-length: 5000\r\n"),
        )
        .await;
    let begun = [
        "GET /http/crm/count HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nS".to_owned(),
        format!("{body}{{\"x\":\""),
    ];
    // As many as there are places, twice over.
    let dripping: Vec<_> = (0..16)
        .map(|n| {
            let (stream, first) = (desk.connect(), begun[n % begun.len()].clone());
            std::thread::spawn(move || drip(stream, &first))
        })
        .collect();
    // An honest client has its turn.
    desk.served_again().await;
    for one in dripping {
        let said = one.join().unwrap();
        assert!(
            said.is_empty() || matches!(status(&said), 400 | 408 | 429),
            "{said}"
        );
    }
    // A body that nobody looks into may be slow, but not silent.
    let mut stream = desk.connect();
    stream.write_all(opaque.as_bytes()).unwrap();
    stream.write_all(b"some").unwrap();
    let mut said = String::new();
    let _ = stream.read_to_string(&mut said);
    assert_eq!(status(&said), 408, "{said}");
    desk.uploaded(|told| told["state"] == "broken").await;
    // The honest request, the upload that was silent, and the count itself.
    assert_eq!(desk.seen().await, seen + 3);
    desk.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_read_no_answers_do_not_keep_their_places() {
    let desk = Desk::slow().await;
    let head = desk.raw_head("GET /http/crm/flood", "").await;
    let mut deaf = Vec::new();
    for _ in 0..2 {
        let mut stream = desk.connect();
        stream.write_all(head.as_bytes()).unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        deaf.push(stream);
    }
    desk.served_again().await;
    drop(deaf);

    let stream = tokio::net::TcpStream::connect(desk.address())
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1_000)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let token = desk.bearer().await;
    let mut ask = async |path: &str| -> Response<Incoming> {
        let request = Request::get(format!("http://{}{path}", desk.address()))
            .header("authorization", format!("Bearer {token}"))
            .body(Empty::<Bytes>::new())
            .unwrap();
        sender.ready().await.unwrap();
        sender.send_request(request).await.unwrap()
    };
    let first = ask("/http/crm/flood").await;
    let second = ask("/http/crm/flood").await;
    assert_eq!(
        (first.status().as_u16(), second.status().as_u16()),
        (200, 200)
    );
    // The connection goes on with others while its two answers are given up.
    let begun = Instant::now();
    while desk.get("/count").await.status != 200 {
        assert_eq!(ask("/livez").await.status(), 200);
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ask("/http/crm/count").await.status(), 200);
    drop((first, second));
    let begun = Instant::now();
    let cancelled = |record: &Value| record["ended"] == "cancelled";
    while desk.gateway.records().into_iter().filter(cancelled).count() < 4 {
        assert!(begun.elapsed() < PATIENCE, "all four are recorded so");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_stops_a_body_that_is_on_its_way() {
    let desk = Desk::slow().await;
    let chunked = format!("{BINARY}transfer-encoding: chunked\r\n");
    let head = desk.raw_head("POST /http/crm/upload", &chunked).await;
    let mut upload = desk.connect();
    upload.write_all(head.as_bytes()).unwrap();
    upload.write_all(b"5\r\nfirst\r\n").unwrap();
    let told = desk.uploaded(|told| told["bytes"] == 5).await;
    assert_eq!(told["state"], "coming");
    let length = "content-type: application/json\r\ncontent-length: 30\r\n";
    let head = desk.raw_head("POST /http/crm/orders", length).await;
    let mut order = desk.connect();
    order.write_all(head.as_bytes()).unwrap();
    order.write_all(b"{\"customer\":\"7\",").unwrap();
    let seen = desk.seen().await;

    assert!(
        desk.gateway
            .run(&["task", "revoke", &desk.task])
            .status
            .success()
    );
    // From here on nothing passes, whatever is sent.
    let _ = upload.write_all(b"6\r\nsecond\r\n0\r\n\r\n");
    let _ = order.write_all(b"\"amount\": 100}");
    let mut said = String::new();
    let _ = upload.read_to_string(&mut said);
    assert_eq!(status(&said), 403, "{said}");
    let mut said = String::new();
    let _ = order.read_to_string(&mut said);
    assert!(matches!(status(&said), 401 | 403), "{said}");
    let told = desk.uploaded(|told| told["state"] != "coming").await;
    assert_eq!(told, json!({ "bytes": 5, "state": "broken" }));
    assert_eq!(desk.seen().await, seen + 1);
    desk.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_nobody_looks_into_has_a_limit_and_ends_with_its_answer() {
    let desk = Desk::slow().await;
    let send = async |length: usize| {
        let call = Call::post(&desk.url("/upload"))
            .header("content-type", "application/octet-stream")
            .body(vec![b'x'; length]);
        desk.send(call).await
    };
    let whole = send(1_000_000).await;
    assert_eq!(whole.status, 201, "{whole:?}");
    assert_eq!(
        whole.json(),
        json!({ "bytes": 1_000_000, "state": "whole" })
    );
    let seen = desk.seen().await;
    let announced = send(1_000_001).await;
    assert_eq!(announced.status, 413);
    assert!(
        announced.json()["remedy"]
            .as_str()
            .unwrap()
            .contains("opaque_bytes")
    );
    assert_eq!(
        desk.seen().await,
        seen + 1,
        "it is refused before anything is sent"
    );

    let chunked = format!("{BINARY}transfer-encoding: chunked\r\n");
    let head = desk.raw_head("POST /http/crm/upload", &chunked).await;
    let mut endless = desk.connect();
    endless.write_all(head.as_bytes()).unwrap();
    let piece = [&b"10000\r\n"[..], &[b'x'; 65_536], b"\r\n"].concat();
    let begun = Instant::now();
    while endless.write_all(&piece).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it goes on for ever");
    }
    let told = desk.uploaded(|told| told["state"] == "broken").await;
    assert!(told["bytes"].as_u64().unwrap() <= 1_000_000, "{told}");

    // One whose answer came early is over with the answer.
    let head = desk.raw_head("POST /http/crm/early", &chunked).await;
    let mut early = desk.connect();
    early.write_all(head.as_bytes()).unwrap();
    early.write_all(b"5\r\nfirst\r\n").unwrap();
    let mut first = [0; 12];
    early.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 201");
    desk.uploaded(|told| told["state"] == "broken" && told["bytes"].as_u64() <= Some(5))
        .await;
    desk.gateway.verify();
}
