//! `sallyport signals`: who is told of what happens to agents, and whose word is taken.

use clap::Subcommand;
use control::api::SignalPeers;

use crate::client::{Client, ControlArgs};
use crate::failure::Failure;
use crate::output::{self, FAINT, paint, state};

/// Arguments of `sallyport signals`.
#[derive(clap::Args)]
#[command(after_help = "\
Other security systems are told when a task is revoked, an agent is stopped, its keys or its risk change;
and what they tell ends tasks here. They are configured under `[signals]`.

Example:
  sallyport signals list")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List who is told, how much waits for them, and whose word is taken
    List(List),
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  sallyport signals list --json | jq '.receivers[] | select(.waiting > 0)'"
)]
struct List {
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
    }
}

fn list(args: &List) -> Result<(), Failure> {
    let peers: SignalPeers = Client::new(&args.control)?.get("/v1/signals")?;
    if args.json {
        return output::json(&peers);
    }
    let receivers = peers.receivers.iter().map(|receiver| {
        let stream = receiver.stream.as_ref();
        vec![
            receiver.name.clone(),
            stream.map_or_else(|| paint(FAINT, "no stream yet"), |it| state(&it.status)),
            stream.map_or_else(String::new, |it| it.delivery.clone()),
            receiver.waiting.to_string(),
            output::visible(&receiver.audience),
        ]
    });
    output::table(
        &["told", "stream", "delivery", "waiting", "audience"],
        receivers.collect(),
        "nobody is told; add `[signals.receivers.NAME]` to the configuration",
    )?;
    let transmitters = peers.transmitters.iter().map(|transmitter| {
        let ways = [(transmitter.polled, "poll"), (transmitter.pushes, "push")];
        let ways: Vec<_> = ways
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, way)| *way)
            .collect();
        vec![
            transmitter.name.clone(),
            ways.join(", "),
            transmitter.session_revoked.clone(),
            transmitter.credential_change.clone(),
            transmitter.risk_level_change.clone(),
            output::visible(&transmitter.issuer),
        ]
    });
    output::table(
        &[
            "heard",
            "by",
            "session revoked",
            "credential change",
            "risk high",
            "issuer",
        ],
        transmitters.collect(),
        "nobody's word is taken; add `[signals.transmitters.NAME]` to the configuration",
    )
}
