//! What the benchmark's programs share: listening and one message of the load.

pub mod wire;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The revision that the load speaks.
pub const REVISION: &str = "2026-07-28";

/// A complete body.
pub type Whole = Full<Bytes>;

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
    F: Future<Output = Response<Whole>> + Send,
{
    let listener = TcpListener::bind(address).await?;
    let handler = Arc::new(handler);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let handler = Arc::clone(&handler);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let handler = Arc::clone(&handler);
                async move { Ok::<_, Infallible>(handler(request).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            // A client that goes away is the normal end of a connection.
            drop(served.await);
        });
    }
}
