//! The protocol itself, spoken by hand where no driver would.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::World;

/// Begins a session by hand: up to what the gateway answers first.
async fn begin(port: u16, version: u32, parameters: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut first = version.to_be_bytes().to_vec();
    first.extend_from_slice(parameters);
    let length = u32::try_from(first.len() + 4).unwrap();
    stream.write_all(&length.to_be_bytes()).await.unwrap();
    stream.write_all(&first).await.unwrap();
    stream
}

async fn give_password(stream: &mut TcpStream, password: &str) {
    let mut message = vec![b'p'];
    let length = u32::try_from(password.len() + 5).unwrap();
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(password.as_bytes());
    message.push(0);
    stream.write_all(&message).await.unwrap();
}

/// The next message.
async fn message(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let tag = stream.read_u8().await.unwrap();
    let length = stream.read_u32().await.unwrap() as usize - 4;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (tag, body)
}

/// The next message of a type.
async fn message_of(stream: &mut TcpStream, wanted: u8) -> Vec<u8> {
    loop {
        let (tag, body) = message(stream).await;
        assert!(
            tag == wanted || tag != b'E',
            "{}",
            String::from_utf8_lossy(&body)
        );
        if tag == wanted {
            return body;
        }
    }
}

async fn send(stream: &mut TcpStream, tag: u8, body: &[u8]) {
    let mut message = vec![tag];
    let length = u32::try_from(body.len() + 4).unwrap();
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(body);
    stream.write_all(&message).await.unwrap();
}

const SESSION: &[u8] = b"user\0desk\0database\0crm\0\0";

#[tokio::test(flavor = "multi_thread")]
async fn broken_messages_end_the_session_and_nothing_else() {
    let world = World::new().await;
    let (_, token) = world.token("analyst", false).await;
    for broken in [
        &b"Q\0\0\0\x03"[..],
        b"Q\xff\xff\xff\xff",
        b"Q\0\0\0\x08ab\0c",
        b"F\0\0\0\x04Q\0\0\0\x05",
        b"!\0\0\0\x04",
        b"P\0\0\0\x05x",
    ] {
        let mut stream = begin(world.port, 0x0003_0000, SESSION).await;
        give_password(&mut stream, &token.text).await;
        stream.write_all(broken).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(30), read)
            .await
            .unwrap();
    }
    world.database.until_there_are_roles(false).await;
    assert_eq!(world.query(&token.text, "SELECT 1").0, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_protocols_are_negotiated_and_older_ones_refused() {
    let world = World::new().await;
    let (_, token) = world.token("analyst", false).await;
    let asking = b"user\0desk\0database\0crm\0_pq_.future\0on\0\0";
    let mut stream = begin(world.port, 0x0003_270f, asking).await;
    let (tag, body) = message(&mut stream).await;
    assert_eq!(tag, b'v');
    assert_eq!(body, b"\0\x03\0\x02\0\0\0\x01_pq_.future\0");
    assert_eq!(message(&mut stream).await, (b'R', vec![0, 0, 0, 3]));
    give_password(&mut stream, &token.text).await;
    // A number, and a secret of 256 bits.
    assert_eq!(message_of(&mut stream, b'K').await.len(), 4 + 32);
    message_of(&mut stream, b'Z').await;
    send(&mut stream, b'X', b"").await;
    for version in [0x0002_0000, 0x0004_0000] {
        let mut stream = begin(world.port, version, SESSION).await;
        let (tag, body) = message(&mut stream).await;
        assert_eq!(tag, b'E');
        assert!(String::from_utf8_lossy(&body).contains("0A000"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_the_secret_cancels_a_statement() {
    let world = World::new().await;
    let (_, token) = world.token("analyst", false).await;
    let mut stream = begin(world.port, 0x0003_0000, SESSION).await;
    give_password(&mut stream, &token.text).await;
    let key = message_of(&mut stream, b'K').await;
    message_of(&mut stream, b'Z').await;
    // What the client knows is not what the database knows.
    let known = world.database.asked(&format!(
        "SELECT count(*) FROM pg_stat_activity WHERE pid = {}",
        u32::from_be_bytes(key[..4].try_into().unwrap())
    ));
    assert_eq!(known, "0");
    let endless = b"SELECT count(*) FROM generate_series(1, 100000000000)\0";
    send(&mut stream, b'Q', endless).await;
    let cancel = async |key: &[u8]| {
        let mut stream = begin(world.port, 80_877_102, key).await;
        // The connection is closed when it is done.
        assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    };
    let mut wrong = key.clone();
    wrong[7] ^= 1;
    cancel(&wrong).await;
    let mut longer = key.clone();
    longer.push(0);
    cancel(&longer).await;
    let goes_on = tokio::time::timeout(Duration::from_millis(700), stream.read_u8()).await;
    assert!(goes_on.is_err(), "{goes_on:?}");
    cancel(&key).await;
    let body = message_of(&mut stream, b'E').await;
    assert!(String::from_utf8_lossy(&body).contains("57014"));
    message_of(&mut stream, b'Z').await;
    send(&mut stream, b'Q', b"SELECT 7 AS seven\0").await;
    assert_eq!(message_of(&mut stream, b'D').await.last(), Some(&b'7'));
    send(&mut stream, b'X', b"").await;
    world.database.until_there_are_roles(false).await;
    // A key is worth nothing when its session is over.
    cancel(&key).await;
}
