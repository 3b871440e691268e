//! The upstream of the benchmark: an MCP server that answers as fast as one can, so that what is
//! measured is what stands in front of it.

use std::net::SocketAddr;

use bytes::Bytes;
use clap::Parser;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sallyport_bench::{REVISION, Whole, listen};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An MCP server with one tool, `echo`.
#[derive(Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9700")]
    listen: SocketAddr,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> std::io::Result<()> {
    listen(Args::parse().listen, answer).await
}

async fn answer(request: Request<Incoming>) -> Response<Whole> {
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Response::default(),
    };
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let result = match message["method"].as_str() {
        Some("tools/call") => json!({
            "content": [{ "type": "text", "text": message["params"]["arguments"]["text"] }],
            "resultType": "complete"
        }),
        Some("tools/list") => json!({
            "tools": [{ "name": "echo", "inputSchema": { "type": "object" } }],
            "resultType": "complete", "ttlMs": 0, "cacheScope": "private"
        }),
        Some("server/discover") => json!({
            "supportedVersions": [REVISION], "capabilities": { "tools": {} },
            "resultType": "complete", "ttlMs": 0, "cacheScope": "private"
        }),
        _ => Value::Null,
    };
    let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
    let mut response = Response::new(Whole::new(Bytes::from(answer.to_string())));
    response.headers_mut().insert(
        "content-type",
        http::HeaderValue::from_static("application/json"),
    );
    response
}
