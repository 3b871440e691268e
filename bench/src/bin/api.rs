//! An HTTP API that answers as fast as one can, so that what is measured is what stands in front of it:
//! over HTTP/1.1 at one address, and over HTTP/2 at another.

use std::net::SocketAddr;

use bytes::Bytes;
use clap::Parser;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sallyport_bench::{Whole, listen, listen_http2};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What `GET` is answered with.
const CUSTOMER: &str = r#"{"id":"7","name":"Ada Lovelace","street":"12 St James's Square","city":"London","since":"1843-08-01","orders":[{"id":"o-1","amount":12},{"id":"o-2","amount":34}]}"#;
/// What `POST` is answered with.
const MADE: &str = r#"{"id":"o-3","state":"accepted"}"#;

/// An API with customers and orders.
#[derive(Parser)]
struct Args {
    /// Where to listen for HTTP/1.1.
    #[arg(long, default_value = "127.0.0.1:9710")]
    listen: SocketAddr,
    /// Where to listen for HTTP/2 in clear.
    #[arg(long, default_value = "127.0.0.1:9711")]
    listen_http2: SocketAddr,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    tokio::try_join!(
        listen(args.listen, answer),
        listen_http2(args.listen_http2, answer)
    )?;
    Ok(())
}

async fn answer(request: Request<Incoming>) -> Response<Whole> {
    let (status, said) = match *request.method() {
        Method::POST => (StatusCode::CREATED, MADE),
        _ => (StatusCode::OK, CUSTOMER),
    };
    // The body is taken in whole, as an API does that reads it.
    if request.into_body().collect().await.is_err() {
        return Response::default();
    }
    let mut response = Response::new(Whole::new(Bytes::from_static(said.as_bytes())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
