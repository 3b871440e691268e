//! `sallyport canary`: tokens that nobody has a reason to use.

use clap::{Subcommand, ValueEnum};
use control::api::{Canary, CreateCanary, RemoveCanary, Shape};

use crate::client::{Client, ControlArgs};
use crate::failure::Failure;
use crate::output::{self, FAINT, STRONG, paint};

/// Arguments of `sallyport canary`.
#[derive(clap::Args)]
#[command(after_help = "\
Plant a token where an intruder would look: in a document, a table, an environment. When it turns up in
what an agent asks for, or in what a tool or a model answers, that is a critical finding.

Examples:
  sallyport canary create 'row 17 of crm.customers'
  sallyport canary create --shape aws-key 'fake key in the wiki'
  sallyport canary list")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a token and watch for it
    Create(Create),
    /// List the tokens that are watched for
    List(List),
    /// Do not watch for a token any more
    Remove(Remove),
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport canary create 'row 17 of crm.customers'")]
struct Create {
    /// Where it will be planted, and why
    label: String,
    /// What it looks like
    #[arg(long, value_enum, default_value_t = Looks::Token)]
    shape: Looks,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport canary list --json | jq -r '.[].token'")]
struct List {
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport canary remove bcdfghjkmnpqruvwbcdfghjkm")]
struct Remove {
    /// The token
    token: String,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a token looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Looks {
    /// An opaque token
    Token,
    /// An access key of AWS
    AwsKey,
    /// An address at example.com
    Email,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Create(args) => create(args),
        Command::List(args) => list(args),
        Command::Remove(args) => remove(args),
    }
}

fn create(args: &Create) -> Result<(), Failure> {
    let body = CreateCanary {
        label: args.label.clone(),
        shape: match args.shape {
            Looks::Token => Shape::Token,
            Looks::AwsKey => Shape::AwsKey,
            Looks::Email => Shape::Email,
        },
    };
    let made: Canary = Client::new(&args.control)?.post("/v1/canaries", &body)?;
    if args.json {
        return output::json(&made);
    }
    output::line(paint(STRONG, &made.token))?;
    output::note("plant it; from now on it is watched for in everything that passes");
    Ok(())
}

fn list(args: &List) -> Result<(), Failure> {
    let canaries: Vec<Canary> =
        Client::new(&args.control)?.list("/v1/canaries", &[], usize::MAX)?;
    if args.json {
        return output::json(&canaries);
    }
    let rows = canaries.iter().map(|canary| {
        vec![
            canary.token.clone(),
            paint(FAINT, output::instant(canary.created_at)),
            output::visible(&canary.label),
        ]
    });
    output::table(
        &["token", "since", "planted"],
        rows.collect(),
        "no canary tokens yet; `sallyport canary create 'where it is planted'` makes one",
    )
}

fn remove(args: &Remove) -> Result<(), Failure> {
    let body = RemoveCanary {
        token: args.token.clone(),
    };
    let gone: Canary = Client::new(&args.control)?.post("/v1/canaries/remove", &body)?;
    if args.json {
        return output::json(&gone);
    }
    output::line(format_args!(
        "not watched for any more: {}",
        output::visible(&gone.label)
    ))
}
