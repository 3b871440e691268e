//! The upstream of the benchmark: an MCP server that answers as fast as one can, so that what is measured is what
//! stands in front of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sallyport_bench::contents::Kind;
use sallyport_bench::echo::Message;
use sallyport_bench::{Whole, listen};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many contents there are before they come again.
const CONTENTS: u64 = 512;

/// An MCP server with one tool, `echo`.
#[derive(Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9700")]
    listen: SocketAddr,
    /// Answer with texts of so many bytes, instead of the text that was sent; one after another.
    #[arg(long)]
    bytes: Option<usize>,
    /// What the texts are.
    #[arg(long, value_enum, default_value = "prose")]
    contents: Kind,
}

/// What the tool answers with, in turn; nothing when it gives back what it was sent.
struct Contents {
    /// Each in JSON.
    texts: Vec<String>,
    next: AtomicUsize,
}

impl Contents {
    fn new(args: &Args) -> Self {
        let text = |bytes| (0..CONTENTS).map(move |number| args.contents.text(number, bytes));
        let texts = args.bytes.into_iter().flat_map(text);
        Self {
            texts: texts
                .map(|text| serde_json::Value::from(text).to_string())
                .collect(),
            next: AtomicUsize::new(0),
        }
    }

    fn next(&self) -> Option<&str> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let at = next.checked_rem(self.texts.len())?;
        self.texts.get(at).map(String::as_str)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let contents = Arc::new(Contents::new(&args));
    listen(args.listen, move |request| {
        answer(Arc::clone(&contents), request)
    })
    .await
}

async fn answer(contents: Arc<Contents>, request: Request<Incoming>) -> Response<Whole> {
    match request.into_body().collect().await {
        Ok(body) => Message::read(&body.to_bytes()).answer(contents.next()),
        Err(_) => Response::default(),
    }
}
