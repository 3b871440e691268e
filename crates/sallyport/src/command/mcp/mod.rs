//! `sallyport mcp`: what MCP servers may be trusted with: the definitions of their tools, and the programs
//! that they are.

mod pin;
mod review;

use clap::Subcommand;

use crate::failure::Failure;

/// Arguments of `sallyport mcp`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport mcp review                   what waits for somebody to look at it
  sallyport mcp pin files                pin the program of server `files` to what it is now")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Look at tools that are new or have changed, and accept or reject them
    Review(review::Args),
    /// Pin the programs of servers to what they are now
    Pin(pin::Args),
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Review(args) => review::run(args),
        Command::Pin(args) => pin::run(args),
    }
}
