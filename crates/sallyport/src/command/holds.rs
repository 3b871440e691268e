//! `sallyport segment` and `sallyport tool`: the kill switch for segments and single tools.

use clap::Subcommand;
use control::api::{ChangeHold, Changed, Hold, Holding};
use model::{SegmentName, ServerName};

use crate::client::{Client, ControlArgs};
use crate::failure::Failure;
use crate::output::{self, instant, paint, state};

/// How a restriction, or the end of one, is ordered.
#[derive(clap::Args)]
pub(super) struct Order {
    /// Why, in words; it stands in the record
    #[arg(long)]
    pub(super) because: Option<String>,
    #[command(flatten)]
    pub(super) control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `sallyport segment`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport segment isolate customer-service --because 'incident 7'
  sallyport segment list
  sallyport segment release customer-service")]
pub(crate) struct SegmentArgs {
    #[command(subcommand)]
    command: SegmentCommand,
}

#[derive(Subcommand)]
enum SegmentCommand {
    /// Cut a segment off: its agents may do nothing, and nobody reaches its servers
    Isolate(Segment),
    /// Let a segment go on
    Release(Segment),
    /// List the segments that are cut off
    List(List),
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport segment isolate customer-service --because 'incident 7'
  sallyport segment release customer-service")]
struct Segment {
    /// The segment
    name: SegmentName,
    #[command(flatten)]
    order: Order,
}

/// Arguments of `sallyport tool`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport tool disable files write_file      nobody calls it any more, at once
  sallyport tool disable crm public.orders     a table of a database
  sallyport tool list
  sallyport tool enable files write_file")]
pub(crate) struct ToolArgs {
    #[command(subcommand)]
    command: ToolCommand,
}

#[derive(Subcommand)]
enum ToolCommand {
    /// Let nobody use a tool, endpoint, model, skill, resource, prompt, table or tunnel
    Disable(Tool),
    /// Let it be used again
    Enable(Tool),
    /// List what is disabled
    List(List),
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport tool disable files write_file --because 'incident 7'
  sallyport tool disable orders 'DELETE /orders/{id}'
  sallyport tool disable crm public.orders           a table; without a schema, in every one
  sallyport tool disable partner api.example.org     tunnels there that nobody looks into, at every port
  sallyport tool enable files write_file")]
struct Tool {
    /// The server
    server: ServerName,
    /// Its name, as the server lists it or the template writes it; a table, or the host that a tunnel leads to
    tool: String,
    #[command(flatten)]
    order: Order,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport segment list
  sallyport tool list --json")]
struct List {
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `sallyport segment`.
pub(crate) fn segment(args: &SegmentArgs) -> Result<(), Failure> {
    let what = |args: &Segment| Hold::Segment {
        segment: args.name.clone(),
    };
    match &args.command {
        SegmentCommand::Isolate(it) => hold(&it.order, what(it)),
        SegmentCommand::Release(it) => release(&it.order, what(it)),
        SegmentCommand::List(it) => list(it, |what| matches!(what, Hold::Segment { .. })),
    }
}

/// Runs `sallyport tool`.
pub(crate) fn tool(args: &ToolArgs) -> Result<(), Failure> {
    let what = |args: &Tool| Hold::Tool {
        server: args.server.clone(),
        tool: args.tool.clone(),
    };
    match &args.command {
        ToolCommand::Disable(it) => hold(&it.order, what(it)),
        ToolCommand::Enable(it) => release(&it.order, what(it)),
        ToolCommand::List(it) => list(it, |what| matches!(what, Hold::Tool { .. })),
    }
}

/// Holds something back.
///
/// # Errors
/// [`Failure`] with the reason that the answer gives.
pub(super) fn hold(order: &Order, what: Hold) -> Result<(), Failure> {
    let because = order.because.clone();
    let wanted = ChangeHold { what, because };
    let changed: Changed<Holding> = Client::new(&order.control)?.post("/v1/holds", &wanted)?;
    if order.json {
        return output::json(&changed);
    }
    output::line(format_args!(
        "{} {}",
        in_words(&changed.now.what),
        state(held(&changed.now.what))
    ))?;
    super::warn(&changed.warnings);
    Ok(())
}

/// Lets something go on.
///
/// # Errors
/// [`Failure`] with the reason that the answer gives.
pub(super) fn release(order: &Order, what: Hold) -> Result<(), Failure> {
    let because = order.because.clone();
    let wanted = ChangeHold { what, because };
    let released: Holding = Client::new(&order.control)?.post("/v1/holds/release", &wanted)?;
    if order.json {
        return output::json(&released);
    }
    output::line(format_args!("{} released", in_words(&released.what)))
}

fn list(args: &List, wanted: impl Fn(&Hold) -> bool) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let mut held: Vec<Holding> = client.list("/v1/holds", &[], usize::MAX)?;
    held.retain(|it| wanted(&it.what) || it.what == Hold::All);
    if args.json {
        return output::json(&held);
    }
    let rows = held.iter().map(|it| {
        vec![
            in_words(&it.what),
            it.since.map(instant).unwrap_or_default(),
            output::visible(&it.because),
        ]
    });
    output::table(
        &["held back", "since", "because"],
        rows.collect(),
        "nothing is held back",
    )
}

fn held(what: &Hold) -> &'static str {
    match what {
        Hold::All => "stopped",
        Hold::Segment { .. } => "isolated",
        Hold::Tool { .. } => "disabled",
    }
}

fn in_words(what: &Hold) -> String {
    match what {
        Hold::All => "all agents".to_owned(),
        Hold::Segment { segment } => paint(output::STRONG, segment),
        Hold::Tool { server, tool } => format!(
            "{} of {server}",
            paint(output::STRONG, output::visible(tool))
        ),
    }
}
