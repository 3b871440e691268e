//! The commands, one module each.

pub(crate) mod agent;
pub(crate) mod annotate;
pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod blast_radius;
pub(crate) mod canary;
pub(crate) mod check;
pub(crate) mod drill;
pub(crate) mod enroll;
pub(crate) mod findings;
pub(crate) mod holds;
pub(crate) mod incidents;
pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod mcp;
pub(crate) mod playbook;
pub(crate) mod risk;
pub(crate) mod rules;
pub(crate) mod serve;
pub(crate) mod server;
pub(crate) mod shell;
pub(crate) mod signals;
pub(crate) mod status;
pub(crate) mod svid;
pub(crate) mod task;
pub(crate) mod template;
pub(crate) mod vault;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::Command;
use crate::failure::Failure;
use crate::output::{self, BAD, WARN, paint};
use crate::{confined, connect, demo};

/// Which configuration file.
#[derive(clap::Args)]
pub(crate) struct ConfigArg {
    /// The configuration file
    #[arg(
        long,
        value_name = "FILE",
        env = "SALLYPORT_CONFIG",
        default_value = "sallyport.toml"
    )]
    pub config: PathBuf,
}

/// Runs a command and says how it ended.
pub(crate) fn run(command: Command) -> ExitCode {
    let ended = match command {
        Command::Init(args) => init::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Connect(args) => connect::run(&args),
        Command::Agent(args) => agent::run(&args),
        Command::Task(args) => task::run(&args),
        Command::Template(args) => template::run(&args),
        Command::Approvals(args) => approvals::run(&args),
        Command::Annotate(args) => annotate::run(&args),
        Command::Mcp(args) => mcp::run(&args),
        Command::Rules(args) => rules::run(&args),
        Command::Canary(args) => canary::run(&args),
        Command::Server(args) => server::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Status(args) => status::status(&args),
        Command::Reload(args) => status::reload(&args),
        Command::Findings(args) => findings::run(&args),
        Command::Incidents(args) => incidents::run(&args),
        Command::Playbook(args) => playbook::run(&args),
        Command::BlastRadius(args) => blast_radius::run(&args),
        Command::Signals(args) => signals::run(&args),
        Command::Drill(args) => drill::run(&args),
        Command::Segment(args) => holds::segment(&args),
        Command::Tool(args) => holds::tool(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Vault(args) => vault::run(&args),
        Command::Completion(args) => shell::completion(&args),
        Command::Man(args) => shell::man(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Confined(args) => confined::run(&args).map(|never| match never {}),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            explain(&failure);
            failure.exit_code()
        }
    }
}

fn explain(failure: &Failure) {
    if failure.is_silent() {
        return;
    }
    output::note(format_args!(
        "{} {}",
        paint(BAD.bold(), "error:"),
        failure.message()
    ));
    if let Some(hint) = failure.remedy() {
        output::note(format_args!("{} {hint}", paint(output::CODE, " hint:")));
    }
}

/// Says what is still owed of a restriction that holds already.
fn warn(warnings: &[String]) {
    for warning in warnings {
        output::note(format_args!("{} {warning}", paint(WARN.bold(), "warning:")));
    }
}

/// How fast somebody may call, and how often that was not kept to.
fn pace(pace: &control::api::Pace) -> String {
    let rate = pace
        .rate
        .map_or_else(|| "not limited".to_owned(), |rate| rate.to_string());
    match pace.refused {
        0 => rate,
        1 => format!("{rate}; 1 call was too fast"),
        refused => format!("{rate}; {refused} calls were too fast"),
    }
}

/// Reads a duration such as `15m` or `1h 30m`, of at least a second.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|span| Duration::try_from(span).ok())
        .filter(|span| span.as_secs() > 0)
        .ok_or_else(|| "write it like `90s`, `15m` or `1h 30m`".to_owned())
}
