//! Serves the reference server over streamable HTTP at `/mcp`: what the conformance suite talks to,
//! directly and through the gateway.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use sallyport_conformance::server::Reference;
use tokio::net::TcpListener;

/// A server for the MCP conformance suite. Prints the address that it listens on.
#[derive(Parser)]
struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

type Service = StreamableHttpService<Reference, LocalSessionManager>;
type Body = BoxBody<bytes::Bytes, Infallible>;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(never) => match never {},
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> std::io::Result<Infallible> {
    let listener = TcpListener::bind(args.listen).await?;
    announce(listener.local_addr()?);
    let reference = Reference::default();
    let mut config = StreamableHttpServerConfig::default();
    // A listening stream stays silent for long; the comments show that it is alive.
    config.sse_keep_alive = Some(Duration::from_secs(5));
    let service: Service = StreamableHttpService::new(
        move || Ok(reference.clone()),
        Arc::new(LocalSessionManager::default()),
        config,
    );
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(service.clone(), request));
            // A client that goes away is no news.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

async fn answer(
    service: Service,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/mcp" {
        return Ok(service.handle(request).await);
    }
    let mut response = Response::new(Empty::new().boxed());
    *response.status_mut() = StatusCode::NOT_FOUND;
    Ok(response)
}

#[expect(
    clippy::print_stdout,
    reason = "whoever started this reads the address"
)]
fn announce(address: SocketAddr) {
    println!("{address}");
}

#[expect(
    clippy::print_stderr,
    reason = "whoever started this reads why it ended"
)]
fn complain(error: &std::io::Error) {
    eprintln!("the reference server ends: {error}");
}
