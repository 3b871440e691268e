//! What the benchmark's programs share: listening, tokens, the load and what was seen of it, and one message.

pub mod load;
pub mod seen;
pub mod token;
pub mod wire;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

/// The revision that the load speaks.
pub const REVISION: &str = "2026-07-28";

/// A complete body.
pub type Whole = Full<Bytes>;

/// Whatever went wrong.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One call of the tool `echo`, as a client of the stateless revision writes it.
#[must_use]
pub fn call() -> Bytes {
    let call = serde_json::json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": "echo",
            "arguments": { "path": "/data/reports/2026/summary.txt", "text": "hello" },
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": REVISION,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": { "name": "load", "version": "1" }
            }
        }
    });
    Bytes::from(call.to_string())
}

/// Serves HTTP/1.1 until the process ends.
///
/// # Errors
/// When the address cannot be bound.
pub async fn listen<H, F>(address: SocketAddr, handler: H) -> std::io::Result<()>
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Whole>> + Send + 'static,
{
    serve(address, false, handler).await
}

/// Serves HTTP/2 in clear, to clients that know it, until the process ends.
///
/// # Errors
/// When the address cannot be bound.
pub async fn listen_http2<H, F>(address: SocketAddr, handler: H) -> std::io::Result<()>
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Whole>> + Send + 'static,
{
    serve(address, true, handler).await
}

async fn serve<H, F>(address: SocketAddr, http2: bool, handler: H) -> std::io::Result<()>
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Whole>> + Send + 'static,
{
    let listener = TcpListener::bind(address).await?;
    let handler = Arc::new(handler);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(connection(stream, http2, Arc::clone(&handler)));
    }
}

async fn connection<H, F>(stream: TcpStream, http2: bool, handler: Arc<H>)
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Whole>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let stream = TokioIo::new(stream);
    // A client that goes away is the normal end of a connection.
    if http2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        drop(builder.serve_connection(stream, service).await);
    } else {
        let builder = hyper::server::conn::http1::Builder::new();
        drop(builder.serve_connection(stream, service).await);
    }
}
