//! The command line as people type it. Each command's arguments stand beside the command itself.

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, Subcommand};

use crate::command::{check, init, shell};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Cyan.on_default().dimmed());

const AFTER: &str = "\
First steps:
  sallyport init my-gateway && cd my-gateway   write a commented configuration
  sallyport check                              find every mistake in it
  sallyport serve                              run it

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 evidence does not verify.";

/// Zero Trust for AI agents: every action of an agent is authenticated, checked against its task
/// and recorded before it reaches a tool.
#[derive(Parser)]
#[command(name = "sallyport", version, styles = STYLES, after_help = AFTER, max_term_width = 100)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands, in the order in which one meets them.
#[derive(Subcommand)]
pub enum Command {
    /// Write a commented configuration to start from
    Init(init::Args),
    /// Report every mistake in configuration, templates and policies
    Check(check::Args),
    /// Print a completion script for a shell
    Completion(shell::CompletionArgs),
    /// Print or write the manual pages
    Man(shell::ManArgs),
}
