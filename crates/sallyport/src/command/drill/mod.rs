//! `sallyport drill`: attacks, rehearsed at a twin of the configured gateway.
//!
//! What is attacked is what the configuration says: its templates' tasks, with its annotations, policies, rules,
//! budgets and playbooks. Nothing of the real one is touched: neither its process, nor its data, nor any server
//! that it protects. The twin and the servers behind it are of this process, and end with it.

mod agent;
mod attacks;
mod cast;
mod errand;
mod rehearsal;
mod report;
mod scene;
mod stand_in;
mod twin;
mod written;

use clap::Subcommand;
use model::{ServerName, TemplateName};
use serde::Serialize;

use self::attacks::{DRILLS, Drill};
use self::rehearsal::Wanted;
use super::ConfigArg;
use crate::failure::Failure;
use crate::output::{self, STRONG, paint};
use crate::setup;

/// Arguments of `sallyport drill`.
#[derive(clap::Args)]
#[command(after_help = "\
A drill starts a second Sallyport with the templates, annotations, policies, rules, playbooks and settings of
this configuration in a private folder, puts stand-ins in place of its servers, opens tasks from its templates,
and attacks them. Nothing real is reached.

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
  sallyport drill run --all --template ticket
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
    /// Only tasks of this template; may be repeated
    #[arg(long = "template", value_name = "NAME")]
    templates: Vec<TemplateName>,
    /// Only calls of this server; may be repeated
    #[arg(long = "server", value_name = "NAME")]
    servers: Vec<ServerName>,
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
    let wanted = Wanted {
        drills,
        templates: known(&args.templates, &setup.templates, "template")?,
        servers: known(&args.servers, &setup.config.servers, "server")?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the drill cannot be started: {error}")))?;
    let report = runtime.block_on(rehearsal::all(&setup, &wanted))?;
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

/// Names that are those of something.
fn known<N: Clone + Ord + std::fmt::Display, T>(
    names: &[N],
    all: &std::collections::BTreeMap<N, T>,
    what: &str,
) -> Result<Vec<N>, Failure> {
    match names.iter().find(|name| !all.contains_key(name)) {
        None => Ok(names.to_vec()),
        Some(name) => {
            let known: Vec<String> = all.keys().map(ToString::to_string).collect();
            Err(Failure::usage(format!("there is no {what} `{name}`"))
                .hint(format!("there are: {}", known.join(", "))))
        }
    }
}
