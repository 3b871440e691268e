//! The load generator for HTTP APIs: keeps a number of connections busy with a number of requests at once,
//! over HTTP/1.1 or HTTP/2, and tells how many were answered and how long they took.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use clap::Parser;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sallyport_bench::load::{self, Measure};
use sallyport_bench::seen::Seen;
use sallyport_bench::token::{Errand, fetch};
use sallyport_bench::{Failure, Whole};
use serde_json::{Value, json};
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Every answer of the API has this in it.
const MARK: &[u8] = b"\"id\"";

/// Sends one request over and over, and prints what was measured as one line of JSON.
#[derive(Parser)]
struct Args {
    /// What is requested.
    #[arg(long)]
    url: Uri,
    /// Post JSON of so many bytes, instead of getting.
    #[arg(long)]
    post: Option<usize>,
    /// Speak HTTP/2 in clear.
    #[arg(long)]
    http2: bool,
    /// Connections.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Requests at once on each connection; more than one only over HTTP/2.
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Seconds to measure, after one second that is not.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// An instance's folder; its key authenticates at the token service.
    #[arg(long, requires_all = ["task", "resource"])]
    instance: Option<PathBuf>,
    /// The task to act in.
    #[arg(long)]
    task: Option<String>,
    /// The URL of the API at the gateway, which the token is made for.
    #[arg(long)]
    resource: Option<String>,
}

/// The request, and what is measured of it.
struct Load {
    url: Uri,
    authority: String,
    method: Method,
    body: Bytes,
    authorization: Option<String>,
    measure: Measure,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    load::end(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<Value, Failure> {
    if args.streams > 1 && !args.http2 {
        return Err("over HTTP/1.1 there is one request at a time on each connection".into());
    }
    let authorization = match (&args.instance, &args.task, &args.resource) {
        (Some(instance), Some(task), Some(resource)) => {
            let errand = Errand {
                instance,
                task,
                resource,
                dpop: false,
            };
            let token = fetch(&errand).await?;
            Some(format!("{} {}", token.scheme, token.text))
        }
        _ => None,
    };
    let authority = args.url.authority().ok_or("the URL names no host")?;
    let expected = args.post.map_or(StatusCode::OK, |_| StatusCode::CREATED);
    let load = Arc::new(Load {
        authority: authority.to_string(),
        url: args.url.clone(),
        method: args.post.map_or(Method::GET, |_| Method::POST),
        body: args.post.map_or_else(Bytes::new, order),
        authorization,
        measure: Measure::of(args.seconds, expected.as_u16(), MARK),
    });
    let mut busy = Vec::new();
    for _ in 0..args.connections {
        if args.http2 {
            let sender = connect(&load.authority).await?;
            for _ in 0..args.streams {
                busy.push(tokio::spawn(over_two(Arc::clone(&load), sender.clone())));
            }
        } else {
            busy.push(tokio::spawn(over_one(Arc::clone(&load))));
        }
    }
    let seen = load::all(busy).await?;
    let lasted = load.measure.lasted(Instant::now());
    Ok(seen.told(args.connections * args.streams, lasted))
}

/// An order in JSON, of so many bytes.
fn order(length: usize) -> Bytes {
    let fixed = json!({ "customer": "7", "amount": 12, "note": "" }).to_string();
    let note = "lorem ipsum ".repeat(length / 12 + 1);
    let note = &note[..length.saturating_sub(fixed.len())];
    Bytes::from(json!({ "customer": "7", "amount": 12, "note": note }).to_string())
}

async fn connect(address: &str) -> Result<SendRequest<Whole>, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(connection);
    Ok(sender)
}

impl Load {
    /// The request as it goes over HTTP/1.1, whole.
    fn written(&self) -> Vec<u8> {
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let mut head = format!(
            "{} {path} HTTP/1.1\r\nhost: {}\r\naccept: application/json\r\n",
            self.method, self.authority
        );
        if let Some(value) = &self.authorization {
            head.push_str(&format!("authorization: {value}\r\n"));
        }
        if self.method == Method::POST {
            let length = self.body.len();
            head.push_str(&format!(
                "content-type: application/json\r\ncontent-length: {length}\r\n"
            ));
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }

    /// The request for HTTP/2.
    fn request(&self) -> Result<Request<Whole>, Failure> {
        let mut request = Request::new(Whole::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.url.clone();
        let headers = request.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(http::header::ACCEPT, json.clone());
        if self.method == Method::POST {
            headers.insert(CONTENT_TYPE, json);
        }
        if let Some(value) = &self.authorization {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value)?);
        }
        Ok(request)
    }
}

async fn over_one(load: Arc<Load>) -> Result<Seen, Failure> {
    let mut written = false;
    load::keep_busy(&load.authority, &load.measure, |request| {
        // It is the same over and over.
        if !std::mem::replace(&mut written, true) {
            *request = load.written();
        }
        Ok(())
    })
    .await
}

async fn over_two(load: Arc<Load>, mut sender: SendRequest<Whole>) -> Result<Seen, Failure> {
    let request = load.request()?;
    let mut seen = Seen::default();
    loop {
        let started = Instant::now();
        if !load.measure.goes_on(started) {
            return Ok(seen);
        }
        sender.ready().await?;
        let answer = sender.send_request(request.clone()).await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await?.to_bytes();
        load.measure.count(&mut seen, started, status, &body);
    }
}
