//! What the benchmark's programs share: listening, an upstream, tokens, the operator, the load and what was seen of
//! it, and one message.

pub mod contents;
pub mod echo;
pub mod feed;
pub mod load;
pub mod operator;
pub mod seen;
pub mod token;
pub mod wire;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

use token::Token;

/// The revision that the load speaks.
pub const REVISION: &str = "2026-07-28";

/// A complete body.
pub type Whole = Full<Bytes>;

/// Whatever went wrong.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One call of the tool `echo`, as a client of the stateless revision writes it.
#[must_use]
pub fn call(text: &str) -> Bytes {
    let call = serde_json::json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": "echo",
            "arguments": { "path": "/data/reports/2026/summary.txt", "text": text },
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": REVISION,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": { "name": "load", "version": "1" }
            }
        }
    });
    Bytes::from(call.to_string())
}

/// What is in the body of every good answer to such a call, and of no refusal.
pub const MARK: &[u8] = b"\"content\"";

/// The head of such a call, but for a proof and for the empty line at its end.
#[must_use]
pub fn head(url: &Uri, token: Option<&Token>, length: usize) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let mut head = format!(
        "POST {} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\nmcp-protocol-version: {REVISION}\r\n\
         mcp-method: tools/call\r\nmcp-name: echo\r\ncontent-length: {length}\r\n",
        url.path()
    );
    if let Some(Token { scheme, text, .. }) = token {
        head.push_str(&format!("authorization: {scheme} {text}\r\n"));
    }
    head
}

/// Serves HTTP/1.1 until the process ends.
///
/// # Errors
/// When the address cannot be bound.
pub async fn listen<H, F, B>(address: SocketAddr, handler: H) -> std::io::Result<()>
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Failure>,
{
    serve(address, false, handler).await
}

/// Serves HTTP/2 in clear, to clients that know it, until the process ends.
///
/// # Errors
/// When the address cannot be bound.
pub async fn listen_http2<H, F, B>(address: SocketAddr, handler: H) -> std::io::Result<()>
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Failure>,
{
    serve(address, true, handler).await
}

async fn serve<H, F, B>(address: SocketAddr, http2: bool, handler: H) -> std::io::Result<()>
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Failure>,
{
    let listener = TcpListener::bind(address).await?;
    let handler = Arc::new(handler);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(connection(stream, http2, Arc::clone(&handler)));
    }
}

async fn connection<H, F, B>(stream: TcpStream, http2: bool, handler: Arc<H>)
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Failure>,
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

/// Connects as a client of HTTP/1.1, for what is not measured itself.
///
/// # Errors
/// What the operating system says, or hyper.
pub async fn connect(address: &str) -> Result<SendRequest<Whole>, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
