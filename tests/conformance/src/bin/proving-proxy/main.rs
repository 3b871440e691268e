//! A reverse proxy that puts an access token and a fresh proof of possession (RFC 9449) on every
//! request and changes nothing else, so that a client that knows nothing of either can talk to the
//! gateway. Bodies are streamed through as they come, both ways.

mod headers;
mod token;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use token::Tokens;
use tokio::net::TcpListener;

use crate::headers::Names;

/// Proves every request that it carries to a protected server. Prints the address that it listens
/// on; clients use the path `/mcp`.
#[derive(Parser)]
struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The folder of the instance that calls.
    #[arg(long)]
    instance: PathBuf,
    /// The task that it acts in.
    #[arg(long)]
    task: String,
    /// The protected server at the gateway: the URL that tokens and proofs are made for.
    #[arg(long)]
    resource: Uri,
    /// The control listener, which gives tokens.
    #[arg(long)]
    control: Uri,
}

/// Whatever ends the program or a request before there is an answer.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Body = BoxBody<bytes::Bytes, hyper::Error>;

struct Proxy {
    client: Client<HttpConnector, Incoming>,
    tokens: Tokens,
    resource: Uri,
    names: Names,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(never) => match never {},
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<Infallible, Failure> {
    let listener = TcpListener::bind(args.listen).await?;
    let address = listener.local_addr()?;
    let gateway = args
        .resource
        .authority()
        .ok_or("the resource names no host")?
        .clone();
    let tokens = Tokens::new(
        &args.instance,
        args.task,
        args.resource.to_string(),
        args.control,
    )?;
    // A wrong instance or task shall end the program, not every single request.
    tokens.current().await?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let proxy = Arc::new(Proxy {
        client: Client::builder(TokioExecutor::new()).build(connector),
        tokens,
        resource: args.resource,
        names: Names {
            proxy: address.to_string(),
            gateway: gateway.to_string(),
        },
    });
    announce(address);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let proxy = Arc::clone(&proxy);
                async move { Ok::<_, Infallible>(proxy.answer(request).await) }
            });
            // A client that goes away is no news.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Proxy {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if request.uri().path() != "/mcp" {
            return failed(StatusCode::NOT_FOUND, "only /mcp is carried on");
        }
        match self.carry(request).await {
            Ok(response) => response,
            Err(error) => {
                complain(&*error);
                failed(StatusCode::BAD_GATEWAY, &error.to_string())
            }
        }
    }

    async fn carry(&self, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
        let (mut head, body) = request.into_parts();
        head.uri = self.resource.clone();
        headers::remove_connection(&mut head.headers);
        self.names.translate(&mut head.headers);
        let token = self.tokens.current().await?;
        let proof = self.tokens.prove(head.method.as_str(), &token)?;
        let authorization = HeaderValue::try_from(format!("DPoP {}", token.as_str()))?;
        head.headers.insert(AUTHORIZATION, authorization);
        head.headers.insert(
            HeaderName::from_static("dpop"),
            HeaderValue::try_from(proof)?,
        );
        let mut response = self.client.request(Request::from_parts(head, body)).await?;
        headers::remove_connection(response.headers_mut());
        Ok(response.map(BodyExt::boxed))
    }
}

fn failed(status: StatusCode, why: &str) -> Response<Body> {
    let body = Full::new(bytes::Bytes::from(why.to_owned())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = status;
    response
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
    reason = "whoever started this reads what went wrong"
)]
fn complain(error: &(dyn std::error::Error + 'static)) {
    eprint!("{error}");
    let mut below = error.source();
    while let Some(source) = below {
        eprint!(": {source}");
        below = source.source();
    }
    eprintln!();
}
