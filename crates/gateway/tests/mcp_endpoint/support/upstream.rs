//! A double of an MCP server: answers as each test wants, and keeps what it was sent.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What the double was sent.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

pub type Reply = Response<BoxBody<Bytes, Infallible>>;
type Answering = dyn Fn(Seen) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync;

/// The double.
pub struct Double {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Double {
    /// Answers each request with what the function makes of it.
    pub async fn answering<F, R>(answer: F) -> Self
    where
        F: Fn(Seen) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        let answer: Arc<Answering> = Arc::new(move |seen| Box::pin(answer(seen)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, kept) = (Arc::clone(&answer), Arc::clone(&kept));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (answer, kept) = (Arc::clone(&answer), Arc::clone(&kept));
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body
                            .collect()
                            .await
                            .map(|b| b.to_bytes())
                            .unwrap_or_default();
                        let seen = Seen {
                            method: parts.method,
                            headers: parts.headers,
                            body,
                        };
                        kept.lock().unwrap().push(seen.clone());
                        Ok::<_, Infallible>(answer(seen).await)
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, seen }
    }

    /// Answers each request with a result.
    pub async fn with_result(result: Value) -> Self {
        Self::answering(move |seen| {
            let reply = result_of(&seen, &result);
            async move { reply }
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Everything that it was sent so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How much it was sent so far.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// A JSON answer.
pub fn json_reply(status: u16, body: &Value) -> Reply {
    let body = Full::new(Bytes::from(body.to_string())).boxed();
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("set-cookie", "upstream=secret")
        .header("www-authenticate", "Bearer realm=\"upstream\"")
        .body(body)
        .unwrap()
}

/// The JSON answer to a request with this result.
pub fn result_of(seen: &Seen, result: &Value) -> Reply {
    json_reply(
        200,
        &json!({ "jsonrpc": "2.0", "id": seen.json()["id"], "result": result }),
    )
}

/// An empty answer.
pub fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::new()).boxed());
    *reply.status_mut() = status;
    reply
}

/// A stream of events, fed by the sender.
pub fn stream() -> (mpsc::UnboundedSender<String>, Reply) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<String>();
    let frames = futures_util::stream::poll_fn(move |context| {
        receiver
            .poll_recv(context)
            .map(|text| text.map(|text| Ok(Frame::data(Bytes::from(text)))))
    });
    let reply = Response::builder()
        .header("content-type", "text/event-stream")
        .body(BodyExt::boxed(StreamBody::new(frames)))
        .unwrap();
    (sender, reply)
}

/// A complete stream of events.
pub fn events(messages: &[String]) -> Reply {
    let (sender, reply) = stream();
    for message in messages {
        sender.send(message.clone()).unwrap();
    }
    reply
}

/// One event.
pub fn event(message: &Value) -> String {
    format!("data: {message}\n\n")
}
