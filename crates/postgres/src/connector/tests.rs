//! The connector between a client and a gateway that are both played here.

use std::sync::Mutex;

use bytes::{BufMut as _, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpStream, UnixStream};

use super::*;
use crate::wire::backend::{put, read_error};
use crate::wire::{self, Message, password, startup};

const SECRET: &str = "local-secret";

/// Gives passwords, and keeps in mind how they were asked for.
#[derive(Clone, Default)]
struct Given(Arc<Mutex<Vec<bool>>>);

impl Credentials for Given {
    async fn shown(&self, again: bool) -> Result<Shown, String> {
        self.0.lock().unwrap().push(again);
        Ok(Shown::Password(format!("token-{again}~proof").into()))
    }

    fn take_nonce(&self, _: &str) {}
}

/// Plays the gateway for one session: what it was asked, and with which password. Refuses passwords that do
/// not begin as wanted, and says what it gets back afterwards.
async fn gateway(listener: TcpListener, wants: &'static str) -> (Vec<u8>, String) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let body = startup::receive(&mut stream).await.unwrap().unwrap();
        password::ask(&mut stream, None).await.unwrap();
        let given = password::receive(&mut stream).await.unwrap().unwrap();
        if !given.starts_with(wants) {
            let told = ErrorResponse::fatal("28P01", "no").to_bytes();
            stream.write_all(&told).await.unwrap();
            continue;
        }
        let mut begun = BytesMut::new();
        put(&mut begun, b'R', |body| body.put_u32(0));
        put(&mut begun, b'Z', |body| body.put_u8(b'I'));
        stream.write_all(&begun).await.unwrap();
        let mut echoed = [0; 64];
        let read = stream.read(&mut echoed).await.unwrap();
        stream.write_all(&echoed[..read]).await.unwrap();
        return (body, given.to_string());
    }
}

struct Playing {
    address: std::net::SocketAddr,
    given: Given,
    gateway: tokio::task::JoinHandle<(Vec<u8>, String)>,
    stop: CancellationToken,
}

async fn playing(wants: &'static str) -> Playing {
    let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, given, stop) = (
        near.local_addr().unwrap(),
        Given::default(),
        CancellationToken::new(),
    );
    let url = format!("postgres://{}/crm", far.local_addr().unwrap());
    tokio::spawn(serve(
        ServerName::parse("crm").unwrap(),
        Gateway::new(&url, None).unwrap(),
        given.clone(),
        Listener::Tcp(near, Zeroizing::new(SECRET.to_owned())),
        stop.clone(),
    ));
    Playing {
        address,
        given,
        gateway: tokio::spawn(gateway(far, wants)),
        stop,
    }
}

/// Reads one message.
async fn message(stream: &mut (impl AsyncRead + Unpin)) -> Message {
    let mut buffer = BytesMut::new();
    loop {
        if let Some(message) = wire::next(&mut buffer, 1 << 16).unwrap() {
            assert!(buffer.is_empty(), "{buffer:?}");
            return message;
        }
        // One byte at a time, so that nothing of the next message is taken.
        buffer.put_u8(stream.read_u8().await.unwrap());
    }
}

async fn greet(stream: &mut TcpStream, database: &str, secret: &str) {
    let first = startup::session(2, [("user", "anyone"), ("database", database)]);
    stream.write_all(&first).await.unwrap();
    assert_eq!(message(stream).await.body(), [0, 0, 0, 3]);
    stream.write_all(&password::message(secret)).await.unwrap();
}

#[tokio::test]
async fn a_session_passes_with_credentials_of_its_own() {
    let playing = playing("token-false").await;
    let mut client = TcpStream::connect(playing.address).await.unwrap();
    // What drivers ask first.
    client
        .write_all(&[0, 0, 0, 8, 4, 210, 22, 47])
        .await
        .unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'N');
    greet(&mut client, "crm", SECRET).await;
    assert_eq!(message(&mut client).await.tag, b'R');
    assert_eq!(message(&mut client).await.tag, b'Z');
    client.write_all(b"X\0\0\0\x04").await.unwrap();
    assert_eq!(message(&mut client).await.tag, b'X');
    let (body, given) = playing.gateway.await.unwrap();
    assert_eq!(given, "token-false~proof", "the local secret stays here");
    let asked = String::from_utf8_lossy(&body).into_owned();
    assert!(asked.contains("anyone") && asked.contains("database\0crm"));
}

#[tokio::test]
async fn what_is_refused_for_its_token_is_tried_once_more() {
    let playing = playing("token-true").await;
    let mut client = TcpStream::connect(playing.address).await.unwrap();
    greet(&mut client, "crm", SECRET).await;
    assert_eq!(message(&mut client).await.tag, b'R');
    assert_eq!(*playing.given.0.lock().unwrap(), [false, true]);

    let refusing = playing_nothing().await;
    let mut client = TcpStream::connect(refusing.address).await.unwrap();
    greet(&mut client, "crm", SECRET).await;
    let told = message(&mut client).await;
    assert_eq!(read_error(told.body()).0, "28P01");
    assert_eq!(*refusing.given.0.lock().unwrap(), [false, true]);
}

async fn playing_nothing() -> Playing {
    playing("nothing").await
}

#[tokio::test]
async fn only_who_knows_the_secret_gets_in_and_only_to_this_database() {
    let playing = playing("token").await;
    for (database, secret, code) in [
        ("crm", "wrong", "28P01"),
        ("crm", "", "28P01"),
        ("crm", "local-secret2", "28P01"),
        ("other", SECRET, "3D000"),
    ] {
        let mut client = TcpStream::connect(playing.address).await.unwrap();
        greet(&mut client, database, secret).await;
        let told = message(&mut client).await;
        assert_eq!(read_error(told.body()).0, code, "{database} {secret}");
    }
    assert!(playing.given.0.lock().unwrap().is_empty());
    assert!(
        !playing.gateway.is_finished(),
        "nothing reached the gateway"
    );
}

#[tokio::test]
async fn what_is_newer_than_this_is_negotiated_here() {
    let playing = playing("token").await;
    let mut client = TcpStream::connect(playing.address).await.unwrap();
    let first = startup::session(9_999, [("user", "a"), ("database", "crm"), ("_pq_.x", "1")]);
    client.write_all(&first).await.unwrap();
    assert_eq!(message(&mut client).await.tag, b'v');
    assert_eq!(message(&mut client).await.body(), [0, 0, 0, 3]);
    client.write_all(&password::message(SECRET)).await.unwrap();
    assert_eq!(message(&mut client).await.tag, b'R');
    client.write_all(b"X\0\0\0\x04").await.unwrap();
    let (body, _) = playing.gateway.await.unwrap();
    assert_eq!(&body[..4], [0, 3, 0, 2]);
    assert!(!String::from_utf8_lossy(&body).contains("_pq_"));
}

#[tokio::test]
async fn the_end_is_told_to_who_is_connected() {
    let playing = playing("token").await;
    let mut client = TcpStream::connect(playing.address).await.unwrap();
    greet(&mut client, "crm", SECRET).await;
    assert_eq!(message(&mut client).await.tag, b'R');
    assert_eq!(message(&mut client).await.tag, b'Z');
    playing.stop.cancel();
    let told = message(&mut client).await;
    assert_eq!(read_error(told.body()).0, "57P01");
    assert!(client.read_u8().await.is_err());
}

#[tokio::test]
async fn a_socket_of_ones_own_needs_no_secret() {
    let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join(".s.PGSQL.5432");
    let listener = UnixListener::bind(&socket).unwrap();
    let url = format!("postgres://{}/crm", far.local_addr().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(serve(
        ServerName::parse("crm").unwrap(),
        Gateway::new(&url, None).unwrap(),
        Given::default(),
        Listener::Unix(listener),
        stop.clone(),
    ));
    let playing = tokio::spawn(gateway(far, "token"));
    let mut client = UnixStream::connect(&socket).await.unwrap();
    let first = startup::session(0, [("user", "a"), ("database", "crm")]);
    client.write_all(&first).await.unwrap();
    let mut begun = BytesMut::new();
    put(&mut begun, b'R', |body| body.put_u32(0));
    assert_eq!(message(&mut client).await.bytes, begun.freeze());
    assert_eq!(message(&mut client).await.tag, b'Z');
    client.write_all(b"X\0\0\0\x04").await.unwrap();
    assert_eq!(playing.await.unwrap().1, "token-false~proof");
}

#[test]
fn tokens_go_to_other_machines_encrypted_only() {
    for (url, encrypted) in [
        ("postgres://127.0.0.1:8602/crm", false),
        ("postgres://localhost/crm", false),
        (
            "postgres://gw.example.org:8602/crm?sslmode=verify-full",
            true,
        ),
        ("postgres://127.0.0.1:8602/crm?sslmode=verify-full", true),
    ] {
        let gateway = Gateway::new(url, None).unwrap();
        assert_eq!(gateway.tls.is_some(), encrypted, "{url}");
    }
    for bad in [
        "postgres://gw.example.org:8602/crm",
        "postgres://10.0.0.1/crm",
        "postgres://gw.example.org/crm?sslmode=require",
        "http://127.0.0.1/crm",
    ] {
        assert!(Gateway::new(bad, None).is_err(), "{bad}");
    }
}
