//! The upstream of the benchmark: an MCP server that answers as fast as one can, so that what is
//! measured is what stands in front of it.

use std::borrow::Cow;
use std::net::SocketAddr;

use bytes::Bytes;
use clap::Parser;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sallyport_bench::{REVISION, Whole, listen};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An MCP server with one tool, `echo`.
#[derive(Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9700")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    listen(Args::parse().listen, answer).await
}

/// What of a message the answer depends on.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Params<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params<'a> {
    #[serde(borrow)]
    arguments: Arguments<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Arguments<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

async fn answer(request: Request<Incoming>) -> Response<Whole> {
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Response::default(),
    };
    let message: Message = serde_json::from_slice(&body).unwrap_or_default();
    let result = match &*message.method {
        "tools/call" => {
            let text = message.params.arguments.text.map_or("null", RawValue::get);
            format!(r#"{{"content":[{{"type":"text","text":{text}}}],"resultType":"complete"}}"#)
        }
        "tools/list" => json!({
            "tools": [{ "name": "echo", "inputSchema": { "type": "object" } }],
            "resultType": "complete", "ttlMs": 0, "cacheScope": "private"
        })
        .to_string(),
        "server/discover" => json!({
            "supportedVersions": [REVISION], "capabilities": { "tools": {} },
            "resultType": "complete", "ttlMs": 0, "cacheScope": "private"
        })
        .to_string(),
        _ => "null".to_owned(),
    };
    let id = message.id.map_or("null", RawValue::get);
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    let mut response = Response::new(Whole::new(Bytes::from(answer)));
    response.headers_mut().insert(
        "content-type",
        http::HeaderValue::from_static("application/json"),
    );
    response
}
