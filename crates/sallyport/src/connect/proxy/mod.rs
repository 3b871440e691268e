//! `sallyport connect proxy`: the forward proxy of a task, on this machine, for programs that know of
//! nothing but `HTTPS_PROXY`. Every tunnel and every request in the clear goes on with a token and a proof
//! made for it alone.
//!
//! `environment` is what programs are told, `authority` the file with the certificate that they need,
//! `local` the listener, and `onward` the way to the gateway's proxy.

mod authority;
mod environment;
mod local;
mod onward;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;

use model::{TaskId, TemplateName};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal as listen};
use tokio_util::sync::CancellationToken;

use super::authority::{Authority, Opened, Wanted};
use super::channel::Channel;
use super::http::{self, Http};
use super::instance::InstanceFolder;
use super::local::OPTIONS;
use super::{at, farewell, open_wanted, parameter, runtime, signal};
use crate::failure::Failure;
use authority::Certificates;
use environment::Environment;
use local::Local;
use onward::Onward;

/// Arguments of `sallyport connect proxy`.
#[derive(clap::Args)]
#[command(after_help = "\
A command is run with the environment that makes its HTTP go through the proxy; its exit code is
this one's. Without one, the environment is printed, and the proxy serves until it is told to end.

Examples:
  sallyport connect proxy --template refund --param invoice=4711 -- python agent.py
  sallyport connect proxy --template refund --param invoice=4711
  sallyport connect proxy --task task_0190b6a0000070008000000000000000 --json")]
pub(crate) struct Args {
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
    /// Listen here; port 0 is any
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Print the environment as JSON
    #[arg(long, conflicts_with = "command")]
    json: bool,
    /// The instance's folder, by default ~/.sallyport/instance
    #[arg(long, value_name = "DIR", env = "SALLYPORT_INSTANCE")]
    instance: Option<PathBuf>,
    /// Trust the certification authorities in this PEM file, instead of the public ones
    #[arg(long, value_name = "FILE", env = "SALLYPORT_CA_FILE")]
    ca: Option<PathBuf>,
    /// Run this command with the environment
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs it, until the command ends or a signal comes.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if !args.listen.ip().is_loopback() {
        return Err(Failure::usage(format!(
            "{} can be reached from elsewhere: whoever reaches it could act as the agent",
            args.listen
        ))
        .hint("listen on 127.0.0.1"));
    }
    let (about, key) = InstanceFolder::open_named(args.instance.as_deref())?;
    http::check_url("the control listener", &about.control)?;
    let http = Http::new(args.ca.as_deref())?;
    let authority = Authority::new(http.clone(), about, key);
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let opened = tokio::select! {
            opened = open(args, &authority) => opened?,
            () = signal()? => return Ok(()),
        };
        serve(args, http, authority, opened).await
    });
    runtime.shutdown_background();
    ended
}

/// The task: opened here, unless one was named.
async fn open(args: &Args, authority: &Authority) -> Result<Opened, Failure> {
    let Some(template) = &args.template else {
        let task = args
            .task
            .ok_or_else(|| Failure::usage("name a template or a task"))?;
        return Ok(authority.show(task).await?);
    };
    let program = args.command.first().map(|name| name.to_string_lossy());
    let purpose = args.purpose.clone();
    let wanted = Wanted {
        template: template.to_string(),
        parameters: args.parameters.iter().cloned().collect(),
        purpose: purpose.unwrap_or_else(|| match program {
            Some(program) => format!("HTTP of {program}"),
            None => "HTTP through the proxy".to_owned(),
        }),
    };
    open_wanted(authority, &wanted).await
}

/// Serves, and completes the task at the end if it was opened here.
async fn serve(
    args: &Args,
    http: Http,
    authority: Authority,
    opened: Opened,
) -> Result<(), Failure> {
    let (task, ends_at) = (opened.id, Some(opened.expires_at));
    let complete = args.task.is_none();
    let Some(url) = opened.proxy else {
        if complete {
            farewell("the task", authority.complete(task)).await;
        }
        return Err(
            Failure::new("the gateway has no forward proxy, or the task grants no HTTP API").hint(
                "an operator adds `[proxy]` to sallyport.toml; a template allows `endpoints` of servers \
                 of the kind `http`",
            ),
        );
    };
    let authority = authority.proving(opened.grant.proof, args.ca.as_deref());
    let channel = Channel::new(http, authority, url.clone(), task, ends_at);
    let local = Local::new(channel, Onward::new(&url, args.ca.as_deref())?)?;
    let local = Arc::new(local);
    let served = carry(args, &local).await;
    if complete {
        farewell("the task", local.channel().complete_task()).await;
    }
    served
}

async fn carry(args: &Args, local: &Arc<Local>) -> Result<(), Failure> {
    let (listener, bound) = at::bind(args.listen).await?;
    let certificates = Certificates::fetch(local.channel()).await?;
    let environment = Environment::new(&local.url(bound), certificates.as_ref());
    let stop = CancellationToken::new();
    let serving = gateway::serve::serve(listener, Arc::clone(local), OPTIONS, stop.clone());
    let serving = tokio::spawn(serving);
    let ended = match args.command.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).envs(environment.pairs());
            let child = command.kill_on_drop(true).spawn().map_err(|error| {
                Failure::new(format!(
                    "`{}` cannot be started: {error}",
                    program.to_string_lossy()
                ))
            });
            match child {
                Ok(child) => program_ended(wait(child).await?),
                Err(failure) => Err(failure),
            }
        }
        None => {
            environment.print(args.json)?;
            signal()?.await;
            Ok(())
        }
    };
    stop.cancel();
    let _ = serving.await;
    local.end();
    ended
}

/// Waits for a program, and passes on a request to end.
async fn wait(mut child: Child) -> Result<ExitStatus, Failure> {
    let failed = |error| Failure::new(format!("the program cannot be waited for: {error}"));
    // A terminal interrupts both; what that means is the program's business.
    let mut interrupt = listen(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = listen(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = listen(SignalKind::hangup()).map_err(failed)?;
    loop {
        tokio::select! {
            status = child.wait() => return status.map_err(failed),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => break,
            _ = hangup.recv() => break,
        }
    }
    if let Some(id) = child
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
    {
        // It fails when the program has ended by itself meanwhile.
        let _ = kill_process(id, Signal::TERM);
    }
    child.wait().await.map_err(failed)
}

/// The program's exit code is this one's.
fn program_ended(status: ExitStatus) -> Result<(), Failure> {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Failure::of_program(u8::try_from(code).unwrap_or(1))),
        // As shells have it.
        (None, signal) => {
            let code = signal.and_then(|signal| u8::try_from(signal).ok());
            Err(Failure::of_program(
                code.map_or(1, |signal| signal.saturating_add(128)),
            ))
        }
    }
}
