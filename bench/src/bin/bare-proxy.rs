//! The least that a reverse proxy can do with hyper: read the request, send it on, send the answer
//! back. Nothing is looked at, so whatever stands in the path can only be slower.

use std::net::SocketAddr;

use bytes::Bytes;
use clap::Parser;
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use sallyport_bench::{Whole, listen};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A reverse proxy that does nothing else.
#[derive(Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9701")]
    listen: SocketAddr,
    /// The upstream.
    #[arg(long, default_value = "http://127.0.0.1:9700/mcp")]
    upstream: Uri,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Whole> = Client::builder(TokioExecutor::new()).build(connector);
    listen(args.listen, move |request| {
        forward(client.clone(), args.upstream.clone(), request)
    })
    .await
}

async fn forward(
    client: Client<HttpConnector, Whole>,
    upstream: Uri,
    request: Request<Incoming>,
) -> Response<Whole> {
    let failed = || {
        let mut response = Response::new(Whole::new(Bytes::new()));
        *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        response
    };
    let (mut head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return failed();
    };
    head.uri = upstream;
    let request = Request::from_parts(head, Whole::new(body.to_bytes()));
    let Ok(response) = client.request(request).await else {
        return failed();
    };
    let (head, body) = response.into_parts();
    match body.collect().await {
        Ok(body) => Response::from_parts(head, Whole::new(body.to_bytes())),
        Err(_) => failed(),
    }
}
