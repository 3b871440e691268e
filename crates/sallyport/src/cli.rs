//! The command line as people type it. Each command's arguments stand beside the command itself.

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, Subcommand};

use crate::command::{
    agent, annotate, approvals, audit, blast_radius, canary, check, drill, findings, holds,
    incidents, init, keys, mcp, playbook, rules, serve, server, shell, signals, status, task,
    template, vault,
};
use crate::{confined, connect, demo};

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
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands, in the order in which one meets them.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write a commented configuration to start from
    Init(init::Args),
    /// Report every mistake in configuration, templates and policies
    Check(check::Args),
    /// Run the gateway and its control plane
    Serve(serve::Args),
    /// Carry an MCP client's messages to a protected server, with a proof on each call
    Connect(connect::Invocation),
    /// Register, enrol, stop and retire agents
    Agent(agent::Args),
    /// Open, list and end tasks
    Task(task::Args),
    /// See the kinds of task that there are
    Template(template::Args),
    /// Decide what agents may do only if a person lets them
    Approvals(approvals::Args),
    /// Draft a server's annotations, by which arguments are checked
    Annotate(annotate::Args),
    /// Review the tools of MCP servers, and pin their programs
    Mcp(mcp::Args),
    /// List the rules of the content detectors, and try them
    Rules(rules::Args),
    /// Plant canary tokens, and watch for them
    Canary(canary::Args),
    /// See, disable and enable protected servers
    Server(server::Args),
    /// See and rotate the keys that tokens are signed with
    Keys(keys::Args),
    /// Show how the running Sallyport is
    Status(status::StatusArgs),
    /// Take over changed files now
    Reload(status::ReloadArgs),
    /// See what detectors saw, suppress it, say what was a false alarm
    Findings(findings::Args),
    /// See and close incidents: findings that belong together
    Incidents(incidents::Args),
    /// Run procedures for incidents, and see how far they are
    Playbook(playbook::Args),
    /// Show what an agent or a task touched, and could have reached
    BlastRadius(blast_radius::Args),
    /// See who is told of what happens, and whose word is taken
    Signals(signals::Args),
    /// Rehearse attacks at a twin of the gateway, and see what holds
    Drill(drill::Args),
    /// Cut segments off, and let them go on
    Segment(holds::SegmentArgs),
    /// Disable and enable single tools
    Tool(holds::ToolArgs),
    /// Read, verify and prove the audit log
    Audit(audit::Args),
    /// See and destroy content that is kept for investigation
    Vault(vault::Args),
    /// Print a completion script for a shell
    Completion(shell::CompletionArgs),
    /// Print or write the manual pages
    Man(shell::ManArgs),
    /// Tell the story that `make demo` shows
    #[command(hide = true)]
    Demo(demo::Args),
    /// Restrict itself and become another program
    #[command(hide = true)]
    Confined(confined::Args),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        fn look(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                let path = format!("{path} {}", sub.get_name());
                let after = sub
                    .get_after_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(after.contains("Example"), "{path} has no examples");
                assert!(after.contains("sallyport "), "{path} has no examples");
                look(sub, &path);
            }
        }
        look(&Cli::command(), "sallyport");
    }

    #[test]
    fn the_help_fits_a_terminal() {
        let help = Cli::command().render_help().to_string();
        insta::assert_snapshot!(help);
    }
}
