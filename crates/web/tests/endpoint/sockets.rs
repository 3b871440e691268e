//! Messages of WebSockets.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::support::*;

/// An API that opens a socket, and sends back what it is sent; text that begins with `say:` it says without that.
async fn echo(extension: &'static str) -> (Api, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = Api {
        url: format!("http://{}/v1", listener.local_addr().unwrap()),
        requests: Arc::default(),
    };
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let (requests, texts) = (Arc::clone(&api.requests), Arc::clone(&heard));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        requests.lock().push((0, String::from_utf8(head).unwrap()));
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{extension}\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Text(text) = &message {
                texts.lock().push(text.to_string());
            }
            let back = match &message {
                Message::Text(text) => {
                    Message::text(text.strip_prefix("say:").unwrap_or(text).to_owned())
                }
                Message::Binary(_) => message,
                _ => continue,
            };
            if socket.send(back).await.is_err() {
                break;
            }
        }
    });
    (api, heard)
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

async fn open(gateway: &Gateway) -> Result<Socket, u16> {
    let request = http::Request::get(gateway.url("/socket"))
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-extensions", "permessage-deflate")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let answer = gateway.begin(request, "").await;
    if answer.status() != 101 {
        return Err(answer.status().as_u16());
    }
    let connection = hyper::upgrade::on(answer).await.unwrap();
    Ok(Socket::from_raw_socket(TokioIo::new(connection), Role::Client, None).await)
}

async fn told(socket: &mut Socket) -> Option<Message> {
    socket.next().await.and_then(Result::ok)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_looked_at_one_by_one() {
    let (api, heard) = echo("").await;
    let gateway = Gateway::before(&api, "", "").await;
    let mut socket = open(&gateway).await.unwrap();
    assert!(
        !api.requests.lock()[0].1.contains("deflate"),
        "compression is not asked for"
    );
    let big = vec![7; 300_000];
    socket.send(Message::text("grüße")).await.unwrap();
    assert_eq!(told(&mut socket).await, Some(Message::text("grüße")));
    socket.send(Message::binary(big.clone())).await.unwrap();
    assert_eq!(told(&mut socket).await, Some(Message::binary(big)));
    // Of what the agent says nothing is taken out; of what it is told, it is.
    let said = format!("{{\"k\":\"{}\"}}", secret());
    socket.send(Message::text(said.clone())).await.unwrap();
    let expected = said.replace(&secret(), "[redacted: github-token]");
    assert_eq!(told(&mut socket).await, Some(Message::text(expected)));
    assert_eq!(heard.lock().last(), Some(&said));
    socket
        .send(Message::Close(Some(CloseFrame {
            code: 1000.into(),
            reason: "bye".into(),
        })))
        .await
        .unwrap();
    assert!(
        matches!(told(&mut socket).await, Some(Message::Close(Some(frame))) if frame.code == 1000.into())
    );
    assert_eq!(gateway.results().await[0]["ended"], "answered");
    let found = gateway.found();
    assert_eq!(
        found
            .iter()
            .filter(|rule| *rule == "not-all-scanned")
            .count(),
        2,
        "once in each direction: {found:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_closes_the_socket_in_either_direction() {
    for (said, blocked) in [
        (CANARY.to_owned(), "arguments"),
        // Only the API's answer has it in one piece; signs between its letters would not help.
        (
            format!(
                "say:{}",
                CANARY.chars().map(|c| format!("{c}.")).collect::<String>()
            ),
            "arguments",
        ),
    ] {
        let (api, heard) = echo("").await;
        let gateway = Gateway::before(&api, "", "").await;
        let mut socket = open(&gateway).await.unwrap();
        socket.send(Message::text(said)).await.unwrap();
        let Some(Message::Close(Some(frame))) = told(&mut socket).await else {
            panic!("it goes on");
        };
        assert_eq!(u16::from(frame.code), 1008);
        assert!(frame.reason.contains("rule `canary`"), "{}", frame.reason);
        assert!(heard.lock().is_empty());
        let results = gateway.results().await;
        assert_eq!(
            (&results[0]["ended"], &results[0]["notes"]["blocked"]),
            (&"cut".into(), &blocked.into())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_says_is_blocked_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = Api {
        url: format!("http://{}/v1", listener.local_addr().unwrap()),
        requests: Arc::default(),
    };
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        // One message in two frames, with a ping in between.
        let (one, two) = CANARY.split_at(7);
        let frame =
            |first: u8, text: &str| [&[first, text.len() as u8][..], text.as_bytes()].concat();
        let all = [frame(0x01, one), frame(0x89, "ping"), frame(0x80, two)].concat();
        stream.write_all(&all).await.unwrap();
        let _ = stream.read_to_end(&mut head).await;
    });
    let gateway = Gateway::before(&api, "", "").await;
    let mut socket = open(&gateway).await.unwrap();
    let Some(Message::Close(Some(frame))) = told(&mut socket).await else {
        panic!("it goes on");
    };
    assert_eq!(u16::from(frame.code), 1008);
    let results = gateway.results().await;
    assert_eq!(results[0]["notes"]["blocked"], "http-answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_was_not_asked_for_ends_it() {
    let (api, _) = echo("sec-websocket-extensions: permessage-deflate\r\n").await;
    let gateway = Gateway::before(&api, "", "").await;
    assert_eq!(open(&gateway).await.err(), Some(502));
}
