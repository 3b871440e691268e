//! The load generator: keeps a number of connections busy with one call each, and tells how many
//! calls were answered and how long they took. With an instance it gets tokens from the STS; with
//! `--dpop` it signs a new proof for every single call (RFC 9449). With several tasks the calls go over
//! from one to the next, so that no task grows beyond what tasks are.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use clap::Parser;
use http::Uri;
use jiff::Timestamp;
use sallyport_bench::load::{self, Measure};
use sallyport_bench::token::{Errand, Token, Unique, fetch};
use sallyport_bench::{Failure, MARK, call, head};
use serde_json::{Value, json};

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
    /// Measure so many calls from the first on, however long they take.
    #[arg(long, conflicts_with = "seconds")]
    calls: Option<u64>,
    /// Tell also what this process has used of processors meanwhile, and until it rested, in clock ticks.
    #[arg(long, requires = "calls")]
    process: Option<u32>,
    /// An instance's folder; its key authenticates at the STS.
    #[arg(long, requires = "task")]
    instance: Option<PathBuf>,
    /// The task to act in; several times for several tasks, one after the other.
    #[arg(long)]
    task: Vec<String>,
    /// Calls in one task before the next is gone over to; after the last comes the first again.
    #[arg(long, default_value_t = u64::MAX)]
    calls_per_task: u64,
    /// What the token is made for, when that is not the endpoint.
    #[arg(long, requires = "instance")]
    resource: Option<String>,
    /// Bind the token to the instance's key and prove possession on every call.
    #[arg(long, requires = "instance")]
    dpop: bool,
    /// Print the token, and call nothing.
    #[arg(long, requires = "instance")]
    token_only: bool,
    /// A ready bearer token, for gateways with another STS.
    #[arg(long, conflicts_with = "instance")]
    bearer: Option<String>,
}

/// What every connection needs.
struct Load {
    url: String,
    address: String,
    /// One for each task.
    bearers: Vec<Bearer>,
    calls_per_task: u64,
    /// How many requests were written.
    written: AtomicU64,
    body: Bytes,
    unique: Unique,
}

/// Who calls.
struct Bearer {
    /// The request up to where a proof belongs.
    head: Vec<u8>,
    token: Option<Token>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    load::end(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<Value, Failure> {
    let authority = args
        .url
        .authority()
        .ok_or("the URL names no host")?
        .to_string();
    let tokens = tokens(&args).await?;
    if args.token_only {
        let token = tokens.into_iter().flatten().next();
        return Ok(json!({ "token": token.map(|token| token.text) }));
    }
    let body = call("hello");
    let bearers = tokens.into_iter().map(|token| Bearer {
        head: head(&args.url, token.as_ref(), body.len()).into_bytes(),
        token,
    });
    let load = Arc::new(Load {
        bearers: bearers.collect(),
        calls_per_task: args.calls_per_task.max(1),
        written: AtomicU64::new(0),
        body,
        address: authority,
        url: args.url.to_string(),
        unique: Unique::new()?,
    });
    let before = args.process.map(load::ticks).transpose()?;
    let measure = Arc::new(match args.calls {
        Some(calls) => Measure::calls(calls, 200, MARK),
        None => Measure::of(args.seconds, 200, MARK),
    });
    let connections = (0..args.connections).map(|_| {
        let (load, measure) = (Arc::clone(&load), Arc::clone(&measure));
        tokio::spawn(async move {
            load::keep_busy(&load.address, &measure, |request| load.write(request)).await
        })
    });
    let seen = load::all(connections.collect()).await?;
    let mut told = seen.told(args.connections, measure.lasted(Instant::now()));
    if let (Some(process), Some(before)) = (args.process, before) {
        told["ticks"] = json!(load::ticks_at_rest(process).await? - before);
    }
    Ok(told)
}

/// A token for each task; no token at all is one too.
async fn tokens(args: &Args) -> Result<Vec<Option<Token>>, Failure> {
    if let Some(bearer) = &args.bearer {
        return Ok(vec![Some(Token {
            scheme: "Bearer",
            text: bearer.clone(),
            key: None,
        })]);
    }
    let Some(instance) = &args.instance else {
        return Ok(vec![None]);
    };
    let url = args.url.to_string();
    let mut tokens = Vec::with_capacity(args.task.len());
    for task in &args.task {
        let errand = Errand {
            instance,
            task,
            resource: args.resource.as_deref().unwrap_or(&url),
            dpop: args.dpop,
        };
        tokens.push(Some(fetch(&errand).await?));
    }
    Ok(tokens)
}

impl Load {
    /// Writes a whole request, with a new proof if the token is bound to a key.
    fn write(&self, request: &mut Vec<u8>) -> Result<(), Failure> {
        let number = self.written.fetch_add(1, Ordering::Relaxed) / self.calls_per_task;
        let at = usize::try_from(number).unwrap_or_default() % self.bearers.len();
        let Bearer { head, token } = &self.bearers[at];
        request.clear();
        request.extend_from_slice(head);
        if let Some(token) = token
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
