//! `sallyport drill`: attacks, rehearsed at a twin of the configured gateway.
//!
//! Nothing of the real one is touched: neither its process, nor its data, nor any server that it protects.
//! The twin and the servers behind it are of this process, and end with it.

mod agent;
mod attacks;
mod report;
mod scene;
mod stand_in;
mod twin;
mod written;

use std::io::IsTerminal;

use clap::Subcommand;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use self::attacks::{DRILLS, Drill};
use self::report::{Outcome, Report, Verdict};
use self::scene::{Scene, Stop};
use self::stand_in::StandIn;
use self::twin::Twin;
use self::written::Plan;
use super::ConfigArg;
use crate::failure::Failure;
use crate::output::{self, FAINT, STRONG, paint};
use crate::setup::{self, Setup};

/// The rule of a denial when no policy names the drill's agent and servers.
const UNNAMED: &str = "no_policy_permits";

/// Arguments of `sallyport drill`.
#[derive(clap::Args)]
#[command(after_help = "\
A drill starts a second Sallyport with the policies, rules, playbooks and settings of this configuration in a
private folder, puts stand-ins in place of its servers, and attacks it. Nothing real is reached.

Examples:
  sallyport drill list
  sallyport drill run --all")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the attacks that can be rehearsed
    List(List),
    /// Rehearse attacks, and say what was contained and detected
    Run(Run),
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport drill list --json | jq -r '.[].name'")]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Ends with 1 when something was not contained, or could not be rehearsed.

Examples:
  sallyport drill run injection
  sallyport drill run --all --json | jq '.drills[] | select(.missed != []) | {drill, missed}'")]
struct Run {
    /// The attacks
    #[arg(
        value_name = "NAME",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    names: Vec<String>,
    /// All of them
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::List(args) => list(args),
        Command::Run(args) => rehearse(args),
    }
}

fn list(args: &List) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Shown {
        name: &'static str,
        about: &'static str,
        expected: &'static [&'static str],
    }
    if args.json {
        let shown: Vec<Shown> = DRILLS
            .iter()
            .map(|drill| Shown {
                name: drill.name,
                about: drill.about,
                expected: drill.expected,
            })
            .collect();
        return output::json(&shown);
    }
    let rows = DRILLS
        .iter()
        .map(|drill| vec![paint(STRONG, drill.name), drill.about.to_owned()]);
    output::table(&["drill", "what happens"], rows.collect(), "no drills")
}

fn rehearse(args: &Run) -> Result<(), Failure> {
    let drills = chosen(args)?;
    let file = &args.config.config;
    let setup = setup::read(file).setup.ok_or_else(|| {
        Failure::new(format!(
            "{} has mistakes, and would not be served",
            file.display()
        ))
        .hint(format!(
            "`sallyport check --config {}` shows them",
            file.display()
        ))
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the drill cannot be started: {error}")))?;
    let report = runtime.block_on(all(&setup, &drills))?;
    if args.json {
        output::json(&report)?;
    } else {
        report.print()?;
    }
    if report.is_contained() {
        Ok(())
    } else {
        Err(Failure::reported())
    }
}

fn chosen(args: &Run) -> Result<Vec<&'static Drill>, Failure> {
    if args.all {
        return Ok(DRILLS.iter().collect());
    }
    let find = |name: &String| {
        let found = DRILLS.iter().find(|drill| drill.name == name);
        found.ok_or_else(|| {
            Failure::usage(format!("there is no drill `{}`", name.escape_debug()))
                .hint("`sallyport drill list` lists them")
        })
    };
    args.names.iter().map(find).collect()
}

async fn all(setup: &Setup, drills: &[&'static Drill]) -> Result<Report, Failure> {
    let mut plan = Plan::of(setup);
    let mut with_permit = false;
    let mut outcomes = Vec::new();
    for drill in drills {
        if std::io::stderr().is_terminal() {
            output::note(paint(FAINT, format_args!("rehearsing {} …", drill.name)));
        }
        let mut outcome = one(setup, &plan, with_permit, drill).await?;
        let unnamed = |outcome: &Outcome| {
            let refused = outcome.contained_by.iter().any(|rule| rule == UNNAMED);
            outcome.verdict == Verdict::NotRehearsed && refused
        };
        if !with_permit && unnamed(&outcome) {
            with_permit = true;
            plan.notes.push(
                "no policy permits what the drill's agent and servers do: the twin has a policy more, \
                 zz-drill.cedar, that permits it; what policies forbid is still forbidden"
                    .to_owned(),
            );
            outcome = one(setup, &plan, with_permit, drill).await?;
        }
        outcomes.push(outcome);
    }
    Ok(Report {
        configuration: setup.file.display().to_string(),
        notes: plan.notes,
        drills: outcomes,
    })
}

/// Rehearses one attack at a twin of its own, so that what is done about one does not hide another.
async fn one(
    setup: &Setup,
    plan: &Plan,
    with_permit: bool,
    drill: &'static Drill,
) -> Result<Outcome, Failure> {
    let ended = |error: std::io::Error| Failure::new(format!("signals cannot be seen: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(ended)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(ended)?;
    let stand_in = StandIn::start().await?;
    let mut twin = Twin::new(&setup.file, plan, with_permit, |name| stand_in.url(name))?;
    let outcome = tokio::select! {
        outcome = at(&mut twin, &stand_in, setup, plan, drill) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::new("interrupted")),
        _ = terminate.recv() => Err(Failure::new("ended")),
        _ = hang_up.recv() => Err(Failure::new("ended")),
    };
    // Whatever happened: nothing is left running.
    let stopped = twin.stop().await;
    let outcome = outcome?;
    stopped.map(|()| outcome)
}

async fn at(
    twin: &mut Twin,
    stand_in: &StandIn,
    setup: &Setup,
    plan: &Plan,
    drill: &'static Drill,
) -> Result<Outcome, Failure> {
    twin.start().await?;
    let monitor = &setup.config.monitor;
    let pressure = (monitor.refusals, monitor.denials);
    let mut scene = Scene::set(twin, stand_in, plan, pressure).await?;
    match drill.carry_out(&mut scene).await {
        Ok(()) => scene.outcome(drill).await,
        Err(Stop::Failed(failure)) => Err(failure),
        Err(Stop::Refused(rule, reason)) => Ok(Outcome::not_rehearsed(drill.name, rule, &reason)),
    }
}
