//! `sallyport connect`: carries every message of a client that knows nothing of Sallyport to a
//! protected server, with a token and a proof made for that message alone. For MCP clients it is a
//! server over standard input and output; for everything that speaks HTTP it listens on this machine
//! (`local`), and for clients of databases too (`database`); `proxy` is for programs that cannot be told
//! another URL.
//!
//! The path of a message: `stdio` reads a line, `message` says what it is, `in_flight` keeps count,
//! `carrier` sends it over the `channel`, which gets tokens from the `authority`, and writes back
//! what comes. `session` and `listener` are the legacy era's, `mirror` is that of 2026-07-28.

mod at;
pub(crate) mod authority;
mod carrier;
mod certificates;
mod channel;
mod database;
pub(crate) mod http;
mod in_flight;
pub(crate) mod instance;
mod listener;
mod local;
mod message;
mod mirror;
pub(crate) mod nonce;
mod proxy;
mod session;
mod stdio;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod trouble;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway::resource::Route;
use model::config::ServerKind;
use model::{ServerName, TaskId, TemplateName};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use at::At;
use authority::{Authority, Opened, Wanted};
use carrier::Carrier;
use channel::Channel;
use http::Http;
use in_flight::{InFlight, LIMIT, Manner, NotStarted};
use instance::InstanceFolder;
use message::{Kind, Line};
use stdio::Input;
use trouble::Trouble;

use crate::failure::Failure;
use crate::output;

/// How long answers are waited for after the client closed its end.
const PATIENCE: Duration = Duration::from_secs(10);
/// And after a signal to end.
const LITTLE_PATIENCE: Duration = Duration::from_secs(1);
/// How long each of the farewells may take.
const FAREWELL: Duration = Duration::from_secs(3);

/// The command line of `sallyport connect`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Invocation {
    #[command(subcommand)]
    to: Option<To>,
    #[command(flatten)]
    server: Option<Args>,
}

/// What is connected to, if not one server.
#[derive(clap::Subcommand)]
enum To {
    /// All HTTP APIs of a task, for programs that know of nothing but HTTPS_PROXY
    Proxy(proxy::Args),
}

const EXAMPLES: &str = "\
Examples:
  sallyport connect files --template read-notes
  sallyport connect crm --template triage --param customer=c-17 --purpose \"ticket 4711\"
  sallyport connect files --task task_0190b6a0000070008000000000000000
  sallyport connect billing --template invoices --listen 127.0.0.1:9000
  sallyport connect crm-db --template analyst --listen ~/.sallyport/run
  sallyport connect proxy --template refund --param invoice=4711 -- python agent.py

In the configuration of an MCP client:
  { \"mcpServers\": { \"files\": {
      \"command\": \"sallyport\", \"args\": [\"connect\", \"files\", \"--template\", \"read-notes\"] } } }";

/// Arguments for one server.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The protected server's name
    server: ServerName,
    /// Open a task from this template, and complete it at the end
    #[arg(long, value_name = "NAME", required_unless_present = "task")]
    template: Option<TemplateName>,
    /// A parameter of the template; may be given more than once
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter, requires = "template")]
    parameters: Vec<(String, String)>,
    /// What the task is for, in words
    #[arg(long, value_name = "TEXT", requires = "template")]
    purpose: Option<String>,
    /// Work under this open task instead, and leave it open
    #[arg(long, value_name = "TASK", conflicts_with = "template")]
    task: Option<TaskId>,
    /// Listen here for plain HTTP or PostgreSQL clients, and print the URL to give them; port 0 is any
    #[arg(long, value_name = "ADDRESS|DIR", value_parser = At::parse)]
    listen: Option<At>,
    /// Hold an MCP request that a person must approve until that is decided, for so long at most
    #[arg(long, value_name = "DURATION", value_parser = crate::command::duration)]
    wait_for_approval: Option<Duration>,
    /// The instance's folder, by default ~/.sallyport/instance
    #[arg(long, value_name = "DIR", env = "SALLYPORT_INSTANCE")]
    instance: Option<PathBuf>,
    /// Trust the certification authorities in this PEM file, instead of the public ones
    #[arg(long, value_name = "FILE", env = "SALLYPORT_CA_FILE")]
    ca: Option<PathBuf>,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it like `name=value`".to_owned()),
    }
}

/// Runs it, until the client goes away or a signal comes.
pub(crate) fn run(invocation: &Invocation) -> Result<(), Failure> {
    match (&invocation.to, &invocation.server) {
        (Some(To::Proxy(args)), _) => proxy::run(args),
        (None, Some(args)) => to_server(args),
        (None, None) => Err(Failure::usage("name a server, or say `proxy`")),
    }
}

fn to_server(args: &Args) -> Result<(), Failure> {
    let (about, key) = InstanceFolder::open_named(args.instance.as_deref())?;
    http::check_url("the control listener", &about.control)?;
    http::check_url("the gateway", &about.gateway)?;
    let http = Http::new(args.ca.as_deref())?;
    let gateway = about.gateway.clone();
    let authority = Authority::new(http.clone(), about, key);
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let signal = signal()?;
        let Way {
            channel,
            complete,
            kind,
            database,
        } = tokio::select! {
            opened = open(args, http, authority, &gateway) => opened?,
            () = signal => return Ok(()),
        };
        let signal = self::signal()?;
        match (&args.listen, database) {
            (Some(at), Some(url)) => {
                let about = (args.server.clone(), url.as_str());
                let ca = args.ca.as_deref();
                return database::serve(channel, complete, about, at.clone(), ca, signal).await;
            }
            (Some(At::Address(address)), None) => {
                return local::serve(channel, complete, *address, signal).await;
            }
            (Some(At::Folder(_)), None) => {
                if complete {
                    farewell("the task", channel.complete_task()).await;
                }
                let why = format!("`{}` is of the kind `{}`", args.server, kind.as_str());
                return Err(
                    Failure::usage(format!("{why}: only databases have sockets"))
                        .hint("listen on an address, such as 127.0.0.1:0"),
                );
            }
            (None, _) => {}
        }
        let lines = stdio::read_lines(std::io::stdin());
        let (out, out_ended) = stdio::write_lines(std::io::stdout());
        connect(
            channel.holding(args.wait_for_approval),
            complete,
            lines,
            out,
            async { drop(out_ended.await) },
            signal,
        )
        .await;
        Ok(())
    });
    // The thread that reads standard input cannot be called off.
    runtime.shutdown_background();
    ended
}

/// The way to a server.
struct Way {
    channel: Channel,
    /// Whether the task was opened here, and is completed at the end.
    complete: bool,
    /// What the server speaks.
    kind: ServerKind,
    /// Where the gateway has it, if it is a database.
    database: Option<String>,
}

/// Opens a task where none was named.
async fn open(
    args: &Args,
    http: Http,
    authority: Authority,
    gateway: &str,
) -> Result<Way, Failure> {
    let (task, opened) = match (&args.task, &args.template) {
        (Some(task), _) => (*task, authority.show(*task).await?),
        (None, Some(template)) => {
            let client = match args.listen {
                None => "MCP client",
                Some(_) => "client",
            };
            let purpose = args.purpose.clone();
            let wanted = Wanted {
                template: template.to_string(),
                parameters: args.parameters.iter().cloned().collect(),
                purpose: purpose.unwrap_or_else(|| format!("{client} of {}", args.server)),
            };
            let opened = open_wanted(&authority, &wanted).await?;
            (opened.id, opened)
        }
        (None, None) => return Err(Failure::usage("name a template or a task")),
    };
    let complete = args.task.is_none();
    let authority = authority.proving(opened.grant.proof, args.ca.as_deref());
    let kind = match kind_of(args, &opened, gateway) {
        Ok(kind) => kind,
        Err(failure) => {
            if complete {
                farewell("the task", authority.complete(task)).await;
            }
            return Err(failure);
        }
    };
    let route = Route {
        kind,
        server: args.server.clone(),
        task: None,
    };
    let resource = route.resource(gateway);
    let ends_at = Some(opened.expires_at);
    let mut databases = opened.databases;
    let database = databases.remove(&args.server);
    Ok(Way {
        channel: Channel::new(http, authority, resource, task, ends_at),
        complete,
        kind,
        database,
    })
}

/// What the server speaks, as the task's URL for it says.
fn kind_of(args: &Args, opened: &Opened, gateway: &str) -> Result<ServerKind, Failure> {
    let server = &args.server;
    let route = opened
        .urls
        .get(server)
        .and_then(|url| Route::of_resource(gateway, url));
    match (route.map(|route| route.kind), &args.listen) {
        (None, None) => Ok(ServerKind::Mcp),
        (Some(ServerKind::Mcp), _) => Ok(ServerKind::Mcp),
        (Some(ServerKind::Postgres), Some(_)) if !opened.databases.contains_key(server) => {
            Err(Failure::new(format!(
                "`{server}` is a database, and the gateway does not say where its databases are"
            ))
            .hint("update the gateway"))
        }
        (Some(kind), Some(_)) => Ok(kind),
        (Some(kind), None) => Err(Failure::usage(format!(
            "`{server}` is of the kind `{}`: its clients do not speak over standard input",
            kind.as_str()
        ))
        .hint("add `--listen 127.0.0.1:0`, and give the client the URL that is printed")),
        (None, Some(_)) => Err(Failure::new(format!(
            "the task does not grant the server `{server}`"
        ))
        .hint("name a template that allows it")),
    }
}

/// Carries messages until the input ends, nobody reads the output any more, or the signal comes;
/// then takes leave of the server, and completes the task if it was opened here.
async fn connect(
    channel: Channel,
    complete: bool,
    lines: mpsc::Receiver<Input>,
    out: mpsc::Sender<bytes::Bytes>,
    out_ended: impl Future<Output = ()>,
    signal: impl Future<Output = ()>,
) {
    let mut client = Client {
        carrier: Arc::new(Carrier::new(channel, out)),
        in_flight: InFlight::default(),
        listener: None,
    };
    tokio::pin!(out_ended, signal);
    let end = tokio::select! {
        () = client.serve(lines) => End::Input,
        () = &mut signal => End::Signal,
        () = &mut out_ended => End::Output,
    };
    match end {
        End::Input => tokio::select! {
            () = client.in_flight.finish(PATIENCE) => {}
            () = signal => client.in_flight.finish(Duration::ZERO).await,
        },
        End::Signal => client.in_flight.finish(LITTLE_PATIENCE).await,
        End::Output => client.in_flight.finish(Duration::ZERO).await,
    }
    if let Some(listener) = client.listener.take() {
        listener.abort();
        let _ = listener.await;
    }
    farewell("the session", client.carrier.end_session()).await;
    if complete {
        farewell("the task", client.carrier.channel().complete_task()).await;
    }
    // The last sender: what was written goes out before the process ends.
    drop(client);
    if end != End::Output {
        let _ = tokio::time::timeout(FAREWELL, out_ended).await;
    }
}

/// What made the connector end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client closed its end: it may still want its answers.
    Input,
    /// The process was asked to end.
    Signal,
    /// Nobody reads the answers any more.
    Output,
}

/// Opens a task, and says so.
async fn open_wanted(authority: &Authority, wanted: &Wanted) -> Result<Opened, Failure> {
    let opened = authority.open(wanted).await?;
    output::note(format_args!(
        "task {} is open until {}",
        opened.id, opened.expires_at
    ));
    Ok(opened)
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the connector cannot be started: {error}")))
}

/// Serves until the signal comes; then it is told to stop, and ends in order.
async fn until(
    signal: impl Future<Output = ()>,
    stop: &CancellationToken,
    serving: impl Future<Output = ()>,
) {
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => {}
        () = signal => {
            stop.cancel();
            serving.await;
        }
    }
}

async fn farewell(what: &str, said: impl Future<Output = Result<(), Trouble>>) {
    match tokio::time::timeout(FAREWELL, said).await {
        Ok(Ok(())) => {}
        Ok(Err(trouble)) => output::note(format_args!("{what} was not ended: {trouble}")),
        Err(_) => output::note(format_args!(
            "{what} was not ended: no answer; it ends by itself"
        )),
    }
}

/// The client, and what is under way for it.
struct Client {
    carrier: Arc<Carrier>,
    in_flight: InFlight,
    listener: Option<JoinHandle<()>>,
}

impl Client {
    /// Takes lines until there are no more. Requests run side by side; everything else goes out
    /// in the order in which it came, because later messages rely on it.
    async fn serve(&mut self, mut lines: mpsc::Receiver<Input>) {
        while let Some(input) = lines.recv().await {
            let read = match input {
                Input::Line(bytes) => Line::read(bytes),
                Input::TooLong => Err(message::refusal(
                    &Value::Null,
                    -32600,
                    "the message is too long",
                )),
            };
            match read {
                Ok(line) => self.take(line).await,
                Err(refusal) => self.carrier.write(refusal).await,
            }
        }
    }

    async fn take(&mut self, line: Line) {
        match &line.kind {
            // Everything behind it needs the session that it begins.
            Kind::Request { .. } if line.is_initialize() => self.carrier.carry(&line).await,
            Kind::Request {
                id,
                method,
                revision,
            } => {
                let manner = match (revision, method.as_str()) {
                    (None, _) => Manner::Tell,
                    (Some(_), "subscriptions/listen") => Manner::Subscription,
                    (Some(_), _) => Manner::Drop,
                };
                let id = id.clone();
                self.start(vec![id], manner, line).await;
            }
            Kind::Batch(ids) if !ids.is_empty() => {
                let ids = ids.clone();
                self.start(ids, Manner::Tell, line).await;
            }
            Kind::Notification { method, .. } => {
                let cancelled = line.cancels().map(|id| self.in_flight.cancel(id));
                match cancelled {
                    // Nothing to cancel, or it was done by closing the connection.
                    Some(None | Some(Manner::Drop | Manner::Subscription)) => {}
                    Some(Some(Manner::Tell)) | None => self.carrier.notify(&line).await,
                }
                if method == "notifications/initialized" {
                    self.listen();
                }
            }
            Kind::Answer | Kind::Batch(_) => self.carrier.notify(&line).await,
        }
    }

    async fn start(&self, ids: Vec<Value>, manner: Manner, line: Line) {
        let carrier = Arc::clone(&self.carrier);
        let key = match ids.as_slice() {
            [one] => one.clone(),
            many => Value::from(many),
        };
        let work = async move { carrier.carry(&line).await };
        let refusal = match self.in_flight.start(&key, manner, work) {
            Ok(()) => return,
            Err(NotStarted::TooMany) => |id: &Value| Trouble::TooMany(LIMIT).answer(id),
            Err(NotStarted::SameId) => {
                |id: &Value| message::refusal(id, -32600, "a request with this id is under way")
            }
        };
        for id in &ids {
            self.carrier.write(refusal(id)).await;
        }
    }

    fn listen(&mut self) {
        let listener = tokio::spawn(listener::listen(Arc::clone(&self.carrier)));
        if let Some(before) = self.listener.replace(listener) {
            before.abort();
        }
    }
}

/// Resolves when the process is asked to end.
fn signal() -> Result<impl Future<Output = ()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error| Failure::new(format!("signals cannot be received: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}
