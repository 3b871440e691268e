//! `sallyport server`: the protected servers.

use clap::Subcommand;
use control::api::{Changed, Server};
use model::ServerName;
use serde_json::json;

use crate::client::{Client, ControlArgs};
use crate::failure::Failure;
use crate::output::{self, paint, state};

/// Arguments of `sallyport server`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport server list
  sallyport server disable files      nothing reaches it any more, at once")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the servers
    List(List),
    /// Let agents use a server again
    Enable(One),
    /// Cut a server off: nothing reaches it any more, whatever tasks grant
    Disable(One),
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport server list --json | jq -r '.[].url'")]
struct List {
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport server disable files")]
struct One {
    /// The server
    name: ServerName,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::List(args) => list(args),
        Command::Enable(args) => change(args, "enable"),
        Command::Disable(args) => change(args, "disable"),
    }
}

fn list(args: &List) -> Result<(), Failure> {
    let servers: Vec<Server> = Client::new(&args.control)?.list("/v1/servers", &[], usize::MAX)?;
    if args.json {
        return output::json(&servers);
    }
    let rows = servers.iter().map(|server| {
        vec![
            server.name.to_string(),
            state(word(server)),
            server.kind.as_str().to_owned(),
            server.transport.clone(),
            server
                .segment
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            server.url.clone(),
            output::visible(&server.description),
        ]
    });
    output::table(
        &[
            "server",
            "state",
            "kind",
            "transport",
            "segment",
            "url",
            "description",
        ],
        rows.collect(),
        "no servers yet; add `[servers.NAME]` to sallyport.toml",
    )
}

fn change(args: &One, verb: &str) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let changed: Changed<Server> =
        client.post(&format!("/v1/servers/{}/{verb}", args.name), &json!({}))?;
    if args.json {
        return output::json(&changed);
    }
    let name = paint(output::STRONG, &changed.now.name);
    output::line(format_args!("{name} is {}", state(word(&changed.now))))?;
    super::warn(&changed.warnings);
    Ok(())
}

fn word(server: &Server) -> &'static str {
    if server.enabled {
        "enabled"
    } else {
        "disabled"
    }
}
