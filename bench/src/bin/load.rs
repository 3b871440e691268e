//! The load generator: keeps a number of connections busy with one call each, and tells how many
//! calls were answered and how long they took. With an instance it gets tokens from the STS; with
//! `--dpop` it signs a new proof for every single call (RFC 9449).

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, Uri};
use http_body_util::BodyExt;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use identity::InstanceKey;
use jiff::Timestamp;
use sallyport_bench::wire::{Answer, Wire};
use sallyport_bench::{REVISION, Whole, call};
use serde_json::{Value, json};
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Calls a tool over and over, and prints what was measured as one line of JSON.
#[derive(Parser)]
struct Args {
    /// The MCP endpoint.
    #[arg(long)]
    url: Uri,
    /// Connections, each with one call at a time.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Seconds to measure, after one second that is not.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// An instance's folder; its key authenticates at the STS.
    #[arg(long, requires = "task")]
    instance: Option<PathBuf>,
    /// The task to act in.
    #[arg(long)]
    task: Option<String>,
    /// What the token is made for, when that is not the endpoint.
    #[arg(long, requires = "instance")]
    resource: Option<String>,
    /// Bind the token to the instance's key and prove possession on every call.
    #[arg(long, requires = "instance")]
    dpop: bool,
    /// A ready bearer token, for gateways with another STS.
    #[arg(long, conflicts_with = "instance")]
    bearer: Option<String>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What every connection needs.
struct Load {
    url: String,
    address: String,
    /// The request up to where a proof belongs.
    head: Vec<u8>,
    body: Bytes,
    token: Option<Token>,
    unique: Unique,
}

struct Token {
    text: String,
    scheme: &'static str,
    /// The key to prove with, when the token is bound to it.
    key: Option<InstanceKey>,
}

/// Ids that nobody used before: what is random comes first, then a number.
struct Unique {
    random: u64,
    next: AtomicU64,
}

/// What one connection saw.
#[derive(Default)]
struct Seen {
    micros: Vec<u32>,
    failed: u64,
    first_failure: Option<String>,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(measured) => {
            print(&measured);
            ExitCode::SUCCESS
        }
        Err(error) => {
            print(&json!({ "error": error.to_string() }));
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::print_stdout,
    reason = "the one line of output is what the program is for"
)]
fn print(line: &Value) {
    println!("{line}");
}

async fn run(args: Args) -> Result<Value, Failure> {
    let authority = args
        .url
        .authority()
        .ok_or("the URL names no host")?
        .to_string();
    let token = match (&args.instance, &args.task, &args.bearer) {
        (Some(folder), Some(task), _) => Some(fetch_token(folder, task, &args).await?),
        (_, _, Some(bearer)) => Some(Token {
            scheme: "Bearer",
            text: bearer.clone(),
            key: None,
        }),
        _ => None,
    };
    let body = call();
    let load = Arc::new(Load {
        head: head(&args.url, &authority, token.as_ref(), body.len()),
        body,
        address: authority,
        url: args.url.to_string(),
        token,
        unique: Unique::new()?,
    });
    let begin = Instant::now() + Duration::from_secs(1);
    let end = begin + Duration::from_secs(args.seconds);
    let connections: Vec<_> = (0..args.connections)
        .map(|_| tokio::spawn(keep_busy(Arc::clone(&load), begin, end)))
        .collect();
    let mut all = Seen::default();
    for connection in connections {
        let seen = connection.await??;
        all.micros.extend(seen.micros);
        all.failed += seen.failed;
        all.first_failure = all.first_failure.or(seen.first_failure);
    }
    all.micros.sort_unstable();
    let at = |share: f64| {
        let index = (all.micros.len() as f64 * share) as usize;
        all.micros
            .get(index.min(all.micros.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0)
    };
    Ok(json!({
        "connections": args.connections,
        "calls": all.micros.len(),
        "failed": all.failed,
        "first_failure": all.first_failure,
        "per_second": all.micros.len() as f64 / args.seconds as f64,
        "median_micros": at(0.5),
        "p99_micros": at(0.99),
    }))
}

async fn keep_busy(load: Arc<Load>, begin: Instant, end: Instant) -> Result<Seen, Failure> {
    let mut wire = Wire::connect(&load.address).await?;
    let mut request = Vec::with_capacity(4 << 10);
    let mut seen = Seen::default();
    loop {
        let started = Instant::now();
        if started >= end {
            return Ok(seen);
        }
        load.write(&mut request)?;
        let Answer { status, body } = wire.exchange(&request).await?;
        if started < begin {
            continue;
        }
        if status == 200 && body.windows(9).any(|w| w == b"\"content\"") {
            seen.micros
                .push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
        } else {
            seen.failed += 1;
            seen.first_failure.get_or_insert_with(|| {
                format!(
                    "{status}: {}",
                    String::from_utf8_lossy(&body[..body.len().min(300)])
                )
            });
        }
    }
}

async fn connect(address: &str) -> Result<SendRequest<Whole>, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

impl Load {
    /// Writes a whole request, with a new proof if the token is bound to a key.
    fn write(&self, request: &mut Vec<u8>) -> Result<(), Failure> {
        request.clear();
        request.extend_from_slice(&self.head);
        if let Some(token) = &self.token
            && let Some(key) = &token.key
        {
            let (now, jti) = (Timestamp::now(), self.unique.next());
            let proof = key.sign_dpop("POST", &self.url, Some(&token.text), None, now, &jti)?;
            request.extend_from_slice(b"dpop: ");
            request.extend_from_slice(proof.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(&self.body);
        Ok(())
    }
}

/// What is the same in the head of every request.
fn head(url: &Uri, authority: &str, token: Option<&Token>, length: usize) -> Vec<u8> {
    let mut head = format!(
        "POST {} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\nmcp-protocol-version: {REVISION}\r\n\
         mcp-method: tools/call\r\nmcp-name: echo\r\ncontent-length: {length}\r\n",
        url.path()
    );
    if let Some(Token { scheme, text, .. }) = token {
        head.push_str(&format!("authorization: {scheme} {text}\r\n"));
    }
    head.into_bytes()
}

impl Unique {
    fn new() -> Result<Self, Failure> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)?;
        Ok(Self {
            random: u64::from_ne_bytes(random),
            next: AtomicU64::new(0),
        })
    }

    fn next(&self) -> String {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}{next:016x}", self.random)
    }
}

/// Gets a token at the STS with the instance's key (RFC 7523), for the task and the endpoint.
async fn fetch_token(folder: &std::path::Path, task: &str, args: &Args) -> Result<Token, Failure> {
    let about: Value = serde_json::from_slice(&std::fs::read(folder.join("instance.json"))?)?;
    let key = InstanceKey::load_pem(&folder.join("key.pem"))?;
    let text = |name: &str| {
        about[name]
            .as_str()
            .map(str::to_owned)
            .ok_or("not an instance")
    };
    let (issuer, client) = (text("control")?, text("id")?);
    let endpoint: Uri = format!("{issuer}/oauth/token").parse()?;
    let (now, unique) = (Timestamp::now(), Unique::new()?);
    let assertion = key.sign_assertion(&client, &issuer, now, &unique.next())?;
    let details = json!([{ "type": "sallyport_task", "task": task }]).to_string();
    let form = [
        ("grant_type", "client_credentials".to_owned()),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned(),
        ),
        ("client_assertion", assertion),
        ("scope", "mcp".to_owned()),
        (
            "resource",
            args.resource
                .clone()
                .unwrap_or_else(|| args.url.to_string()),
        ),
        ("authorization_details", details),
    ];
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let authority = endpoint
        .authority()
        .ok_or("the issuer names no host")?
        .as_str();
    let mut request = Request::post("/oauth/token")
        .header(HOST, authority)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if args.dpop {
        let url = endpoint.to_string();
        request = request.header(
            "dpop",
            key.sign_dpop("POST", &url, None, None, now, &unique.next())?,
        );
    }
    let mut connection = connect(authority).await?;
    let response = connection
        .send_request(request.body(Whole::new(Bytes::from(form)))?)
        .await?;
    let body = response.into_body().collect().await?.to_bytes();
    let answer: Value = serde_json::from_slice(&body)?;
    let token = answer["access_token"]
        .as_str()
        .ok_or_else(|| format!("no token: {answer}"))?;
    Ok(Token {
        scheme: if args.dpop { "DPoP" } else { "Bearer" },
        text: token.to_owned(),
        key: args.dpop.then_some(key),
    })
}
