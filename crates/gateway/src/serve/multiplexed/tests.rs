//! Clients of HTTP/2, well-behaved and not.

use super::*;
use crate::serve::tests::{Much, Waits, serving};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::SendRequest;
use std::future::IntoFuture as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

type Sender = SendRequest<Empty<Bytes>>;

/// A connection that takes so much of each answer without being asked.
async fn connect(address: SocketAddr, window: u32) -> (Sender, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    (sender, tokio::spawn(connection.into_future()))
}

async fn get(sender: &mut Sender) -> hyper::Result<Response<Incoming>> {
    sender.ready().await?;
    let request = Request::get("http://x/").body(Empty::new()).unwrap();
    sender.send_request(request).await
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .expect("it happens")
}

#[tokio::test]
async fn many_answers_come_over_one_connection_and_an_orderly_end_waits_for_them() {
    let handler = Arc::new(Waits(Notify::new()));
    let (address, stop, serving) = serving(8, Arc::clone(&handler)).await;
    let (mut sender, connection) = connect(address, 1 << 16).await;
    let mut other = sender.clone();
    let both = tokio::spawn(async move { tokio::join!(get(&mut sender), get(&mut other)) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    stop.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!serving.is_finished());
    handler.0.notify_one();
    handler.0.notify_one();
    let (one, two) = soon(both).await.unwrap();
    for answer in [one, two] {
        let body = answer.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "done");
    }
    soon(serving).await.unwrap();
    soon(connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_answer_that_nobody_takes_gives_its_place_back_and_the_others_go_on() {
    let (address, _stop, _serving) = serving(1, Arc::new(Much)).await;
    let (mut sender, _connection) = connect(address, 1).await;
    let untouched = soon(get(&mut sender)).await.unwrap();
    assert_eq!(untouched.status(), 200);
    assert_eq!(
        soon(get(&mut sender)).await.unwrap().status(),
        503,
        "there is one place"
    );
    soon(async {
        while get(&mut sender).await.unwrap().status() != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // What is left of the first one must not look like the end of an answer.
    assert!(soon(untouched.into_body().collect()).await.is_err());
}

#[tokio::test]
async fn a_client_that_takes_none_of_many_answers_loses_its_connection() {
    let (address, _stop, _serving) = serving(64, Arc::new(Much)).await;
    let (mut sender, connection) = connect(address, 1).await;
    let mut untouched = Vec::new();
    for _ in 0..=UNTOUCHED {
        untouched.push(soon(get(&mut sender)).await.unwrap());
    }
    // It answers pings all the while.
    let ended = soon(connection).await;
    drop((ended, untouched));
}

#[tokio::test]
async fn a_connection_without_requests_is_ended_and_one_with_them_is_not() {
    let handler = Arc::new(Waits(Notify::new()));
    let (address, _stop, _serving) = serving(8, Arc::clone(&handler)).await;
    let (mut busy, _held) = connect(address, 1 << 16).await;
    let waiting = tokio::spawn(async move { get(&mut busy).await });
    let (_unused, connection) = connect(address, 1 << 16).await;
    soon(connection).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!waiting.is_finished(), "it is under way, however long");
    handler.0.notify_one();
    assert_eq!(soon(waiting).await.unwrap().unwrap().status(), 200);
}
