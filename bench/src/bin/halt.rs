//! How fast an agent is stopped. In one process, and so with one clock, are the upstream, an agent with many
//! connections that obeys nobody, and the operator who quarantines it: told is when the last call reached the upstream
//! and when the last byte of a stream reached the agent, counted from the operator's order and from its answer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Either};
use hyper::body::Incoming;
use parking_lot::Mutex;
use sallyport_bench::echo::Message;
use sallyport_bench::feed::Feed;
use sallyport_bench::operator::Operator;
use sallyport_bench::token::{Errand, Token, fetch};
use sallyport_bench::wire::Wire;
use sallyport_bench::{Failure, MARK, Whole, call, head, listen, load};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How far apart the events of a stream are.
const APART: Duration = Duration::from_millis(1);
/// How long the agent acts before it is stopped, and how long it tries to go on afterwards.
const BEFORE: Duration = Duration::from_millis(250);
const AFTER: Duration = Duration::from_millis(150);
/// How long anything may take that ought to happen at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Quarantines an agent that is at work, over and over, and prints what was measured as one line of JSON.
#[derive(Parser)]
struct Args {
    /// Where the upstream of the servers `echo` (MCP, at /mcp) and `feed` (HTTP, at /) listens.
    #[arg(long)]
    listen: SocketAddr,
    /// The gateway.
    #[arg(long)]
    gateway: Uri,
    /// The control listener.
    #[arg(long)]
    control: Uri,
    /// The operator's token.
    #[arg(long)]
    operator: PathBuf,
    /// The folder of the agent's instance.
    #[arg(long)]
    instance: PathBuf,
    /// The agent.
    #[arg(long)]
    agent: String,
    /// Its task.
    #[arg(long)]
    task: String,
    /// Connections, each with one call at a time.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Streams that are open.
    #[arg(long, default_value_t = 16)]
    streams: usize,
    /// How often.
    #[arg(long, default_value_t = 20)]
    trials: usize,
    /// Who gives the order.
    #[arg(long, value_enum, default_value = "api")]
    by: By,
    /// The program `sallyport`, started where its configuration is, for orders by command line.
    #[arg(long, default_value = "sallyport")]
    sallyport: PathBuf,
}

/// Who gives the order.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// A request to the management API.
    Api,
    /// The command line.
    Cli,
}

/// What the upstream and the agent see, in nanoseconds since the beginning.
struct Scene {
    begun: Instant,
    /// When each call of this trial was sent by the agent, and when it reached the upstream.
    forwarded: Mutex<Vec<(u64, u64)>>,
    answered: AtomicU64,
    refused: AtomicU64,
    last_byte: AtomicU64,
    streaming: AtomicUsize,
    over: AtomicBool,
}

impl Scene {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What the agent calls with.
struct Agent {
    gateway: String,
    /// Where calls go, and with which token.
    url: Uri,
    token: Token,
    /// The request of a stream.
    stream: String,
}

fn main() -> ExitCode {
    load::end(run(&Args::parse()))
}

/// A thread of its own with a runtime, so that nobody's work keeps another from seeing what time it is.
fn runtime(name: &str) -> Result<Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder
        .worker_threads(1)
        .thread_name(name)
        .enable_all()
        .build()?)
}

fn run(args: &Args) -> Result<Value, Failure> {
    let scene = Arc::new(Scene {
        begun: Instant::now(),
        forwarded: Mutex::default(),
        answered: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        last_byte: AtomicU64::new(0),
        streaming: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    });
    let (upstream, agents, operators) = (
        runtime("upstream")?,
        runtime("agent")?,
        runtime("operator")?,
    );
    let seeing = Arc::clone(&scene);
    let serving = upstream.spawn(listen(args.listen, move |request| {
        answer(Arc::clone(&seeing), request)
    }));
    let authority = |url: &Uri| {
        url.authority()
            .map(ToString::to_string)
            .ok_or("a URL names no host")
    };
    let agent = Arc::new(agents.block_on(agent(args, authority(&args.gateway)?))?);
    let operator = Operator::new(&authority(&args.control)?, &args.operator)?;
    for _ in 0..args.connections {
        agents.spawn(insist(Arc::clone(&scene), Arc::clone(&agent)));
    }
    let mut trials = Vec::with_capacity(args.trials);
    for _ in 0..args.trials {
        if serving.is_finished() {
            return Err(format!("nothing can listen at {}", args.listen).into());
        }
        trials.push(trial(args, &scene, &agent, &agents, &operators, &operator)?);
    }
    scene.over.store(true, Ordering::Relaxed);
    for runtime in [agents, upstream, operators] {
        runtime.shutdown_background();
    }
    Ok(json!({ "trials": trials }))
}

/// The upstream: notes when calls arrive, and streams without end.
async fn answer(scene: Arc<Scene>, request: Request<Incoming>) -> Response<Either<Whole, Feed>> {
    if *request.method() == Method::GET {
        return Feed::answer(APART).map(Either::Right);
    }
    let body = request
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes());
    let body = body.unwrap_or_default();
    let message = Message::read(&body);
    if let Some(text) = message.called_with() {
        let sent = text.trim_matches('"').parse().unwrap_or_default();
        scene.forwarded.lock().push((sent, scene.now()));
    }
    message.answer(None).map(Either::Left)
}

async fn agent(args: &Args, gateway: String) -> Result<Agent, Failure> {
    let base = args.gateway.to_string();
    let base = base.trim_end_matches('/');
    let mut tokens = Vec::new();
    for resource in ["mcp/echo", "http/feed"] {
        let errand = Errand {
            instance: &args.instance,
            task: &args.task,
            resource: &format!("{base}/{resource}"),
            dpop: false,
        };
        tokens.push(fetch(&errand).await?);
    }
    let of_streams = tokens.pop().ok_or("there is no token")?;
    Ok(Agent {
        url: format!("{base}/mcp/echo").parse()?,
        token: tokens.pop().ok_or("there is no token")?,
        stream: format!(
            "GET /http/feed/feed HTTP/1.1\r\nhost: {gateway}\r\naccept: text/event-stream\r\n\
             authorization: Bearer {}\r\n\r\n",
            of_streams.text
        ),
        gateway,
    })
}

/// Calls, whatever the answer is, until everything is over.
async fn insist(scene: Arc<Scene>, agent: Arc<Agent>) {
    while !scene.over.load(Ordering::Relaxed) {
        let Ok(mut wire) = Wire::connect(&agent.gateway).await else {
            tokio::time::sleep(APART).await;
            continue;
        };
        while !scene.over.load(Ordering::Relaxed) {
            // Each call says when it was sent, so that the upstream can tell.
            let body = call(&format!("{}", scene.now()));
            let head = head(&agent.url, Some(&agent.token), body.len());
            let answer = wire
                .exchange(&[head.as_bytes(), b"\r\n", &body].concat())
                .await;
            let count = match answer {
                Ok(answer) if is_good(answer.body) => &scene.answered,
                Ok(_) => &scene.refused,
                Err(_) => break,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether a call was answered, and not refused: refusals of MCP may have the same status.
fn is_good(body: &[u8]) -> bool {
    body.windows(MARK.len()).any(|part| part == MARK)
}

/// Reads a stream to its end.
async fn follow(scene: Arc<Scene>, agent: Arc<Agent>) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(&agent.gateway).await?;
    stream.write_all(agent.stream.as_bytes()).await?;
    let mut piece = vec![0; 16 << 10];
    let mut begun = false;
    loop {
        let read = stream.read(&mut piece).await.unwrap_or_default();
        if read == 0 {
            break;
        }
        let now = scene.now();
        if !std::mem::replace(&mut begun, true) {
            let got = &piece[..read];
            if !got.starts_with(b"HTTP/1.1 200") {
                return Err(String::from_utf8_lossy(got).into_owned().into());
            }
            scene.streaming.fetch_add(1, Ordering::Relaxed);
        }
        scene.last_byte.fetch_max(now, Ordering::Relaxed);
    }
    if begun {
        scene.streaming.fetch_sub(1, Ordering::Relaxed);
    }
    Ok(())
}

fn wait(what: &str, done: impl Fn() -> bool) -> Result<(), Failure> {
    let until = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() > until {
            return Err(format!("{what} took more than {} seconds", PATIENCE.as_secs()).into());
        }
        std::thread::sleep(APART);
    }
    Ok(())
}

fn trial(
    args: &Args,
    scene: &Arc<Scene>,
    agent: &Arc<Agent>,
    agents: &Runtime,
    operators: &Runtime,
    operator: &Operator,
) -> Result<Value, Failure> {
    let answered = || scene.answered.load(Ordering::Relaxed);
    let before = answered();
    wait("the first call", || answered() > before)?;
    let streams: Vec<_> = (0..args.streams)
        .map(|_| agents.spawn(follow(Arc::clone(scene), Arc::clone(agent))))
        .collect();
    let streaming = || scene.streaming.load(Ordering::Relaxed);
    let refused = || streams.iter().any(tokio::task::JoinHandle::is_finished);
    wait("to begin all streams", || {
        streaming() == args.streams || refused()
    })?;
    std::thread::sleep(BEFORE);
    scene.forwarded.lock().clear();
    let (calls, denied) = (answered(), scene.refused.load(Ordering::Relaxed));
    let (ordered, obeyed) = quarantine(args, scene, operators, operator)?;
    std::thread::sleep(AFTER);
    let left = streaming();
    let forwarded = scene.forwarded.lock().clone();
    let last_byte = scene.last_byte.load(Ordering::Relaxed);
    let last = forwarded.iter().map(|(_, arrived)| *arrived).max();
    let late = forwarded.iter().filter(|(_, arrived)| *arrived > obeyed);
    let sent_late = forwarded.iter().filter(|(sent, _)| *sent > obeyed);
    let signed = |at: u64, from: u64| {
        i64::try_from(at).unwrap_or(i64::MAX) - i64::try_from(from).unwrap_or(0)
    };
    let micros = |at: u64, from: u64| signed(at, from) / 1_000;
    let told = json!({
        "calls_meanwhile": answered() - calls,
        "refused": scene.refused.load(Ordering::Relaxed) - denied,
        "answer_micros": micros(obeyed, ordered),
        "last_call_micros": last.map_or(0, |last| micros(last, ordered).max(0)),
        "last_byte_micros": micros(last_byte, ordered).max(0),
        "last_call_after_answer_micros": last.map_or(0, |last| micros(last, obeyed)),
        "last_byte_after_answer_micros": micros(last_byte, obeyed),
        "arrived_after_answer": late.count(),
        "sent_after_answer_and_forwarded": sent_late.count(),
        "streams_left": left,
    });
    let release = format!("/v1/agents/{}/release", args.agent);
    operators.block_on(operator.ask(Method::POST, &release, Some(json!({}))))?;
    for stream in streams {
        stream.abort();
        match agents.block_on(stream) {
            Ok(ended) => ended?,
            Err(error) if error.is_cancelled() => {}
            Err(error) => return Err(error.into()),
        }
    }
    scene.streaming.store(0, Ordering::Relaxed);
    Ok(told)
}

/// Gives the order; when it was given, and when it was answered.
fn quarantine(
    args: &Args,
    scene: &Scene,
    operators: &Runtime,
    operator: &Operator,
) -> Result<(u64, u64), Failure> {
    match args.by {
        By::Api => operators.block_on(async {
            let path = format!("/v1/agents/{}/quarantine", args.agent);
            let mut line = operator.line().await?;
            let ordered = scene.now();
            line.ask(Method::POST, &path, Some(json!({}))).await?;
            Ok((ordered, scene.now()))
        }),
        By::Cli => {
            let ordered = scene.now();
            let status = command(&args.sallyport, &args.agent).status()?;
            let obeyed = scene.now();
            match status.success() {
                true => Ok((ordered, obeyed)),
                false => Err(format!("`sallyport agent quarantine` ends with {status}").into()),
            }
        }
    }
}

fn command(sallyport: &Path, agent: &str) -> Command {
    let mut command = Command::new(sallyport);
    command
        .args(["agent", "quarantine", agent])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}
