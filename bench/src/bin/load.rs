//! The load generator: keeps a number of connections busy with one call each, and tells how many
//! calls were answered and how long they took. With an instance it gets tokens from the STS; with
//! `--dpop` it signs a new proof for every single call (RFC 9449).

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use clap::Parser;
use http::Uri;
use jiff::Timestamp;
use sallyport_bench::load::{self, Measure};
use sallyport_bench::token::{Errand, Token, Unique, fetch};
use sallyport_bench::{Failure, REVISION, call};
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
    /// The request up to where a proof belongs.
    head: Vec<u8>,
    body: Bytes,
    token: Option<Token>,
    unique: Unique,
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
    let token = match (&args.instance, &args.task, &args.bearer) {
        (Some(instance), Some(task), _) => {
            let url = args.url.to_string();
            let errand = Errand {
                instance,
                task,
                resource: args.resource.as_deref().unwrap_or(&url),
                dpop: args.dpop,
            };
            Some(fetch(&errand).await?)
        }
        (_, _, Some(bearer)) => Some(Token {
            scheme: "Bearer",
            text: bearer.clone(),
            key: None,
        }),
        _ => None,
    };
    if let (true, Some(token)) = (args.token_only, &token) {
        return Ok(json!({ "token": token.text }));
    }
    let body = call();
    let load = Arc::new(Load {
        head: head(&args.url, &authority, token.as_ref(), body.len()),
        body,
        address: authority,
        url: args.url.to_string(),
        token,
        unique: Unique::new()?,
    });
    let measure = Measure::of(args.seconds, 200, b"\"content\"");
    let connections = (0..args.connections).map(|_| {
        let load = Arc::clone(&load);
        tokio::spawn(async move {
            load::keep_busy(&load.address, &measure, |request| load.write(request)).await
        })
    });
    let seen = load::all(connections.collect()).await?;
    Ok(seen.told(args.connections, args.seconds))
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
