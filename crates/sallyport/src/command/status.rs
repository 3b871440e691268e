//! `sallyport status` and `sallyport reload`: the process that runs.

use control::api::{Reloaded, Status};
use serde_json::json;

use crate::client::{Client, ControlArgs};
use crate::failure::Failure;
use crate::output::{self, BAD, GOOD, WARN, instant, paint};

/// Arguments of `sallyport status`.
#[derive(clap::Args)]
#[command(after_help = "\
Ends with 1 when something does not work.

Examples:
  sallyport status
  sallyport status --json | jq .log_size")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `sallyport reload`.
#[derive(clap::Args)]
#[command(after_help = "\
Changed files are taken over by themselves; this does it now, and says what came of it. A mistake
changes nothing: what ran before goes on.

Example:
  sallyport reload")]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows how it is.
pub(crate) fn status(args: &StatusArgs) -> Result<(), Failure> {
    let status: Status = Client::new(&args.control)?.get("/v1/status")?;
    if args.json {
        output::json(&status)?;
    } else {
        show(&status)?;
    }
    if status.ready {
        Ok(())
    } else {
        Err(Failure::reported())
    }
}

fn show(status: &Status) -> Result<(), Failure> {
    let mut rows = vec![(
        "state",
        output::state(if status.ready { "ready" } else { "degraded" }),
    )];
    if !status.problems.is_empty() {
        let problems: Vec<String> = status
            .problems
            .iter()
            .map(|problem| paint(BAD, output::visible(problem)))
            .collect();
        rows.push(("problems", problems.join("\n")));
    }
    let agents: Vec<String> = status
        .agents
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let servers = match status.servers.disabled {
        0 => status.servers.total.to_string(),
        disabled => format!(
            "{}, {}",
            status.servers.total,
            paint(WARN, format_args!("{disabled} disabled"))
        ),
    };
    if let Some(problem) = &status.setup_problem {
        rows.push(("changed files", paint(WARN, output::visible(problem))));
    }
    if let Some(lacks) = &status.confinement_lacks {
        rows.push(("confinement", paint(WARN, output::visible(lacks))));
    }
    rows.extend([
        ("version", status.version.clone()),
        ("running since", instant(status.started_at)),
        ("trust domain", status.trust_domain.clone()),
        ("control", status.control.clone()),
        ("gateway", status.gateway.clone()),
        ("servers", servers),
        ("templates", status.templates.to_string()),
        (
            "policies",
            format!("{} (version {})", status.policies, status.policy_version),
        ),
        (
            "agents",
            if agents.is_empty() {
                "none".to_owned()
            } else {
                agents.join(", ")
            },
        ),
        ("open tasks", status.open_tasks.to_string()),
        ("log records", status.log_size.to_string()),
    ]);
    if status.owed > 0 {
        let owed = format!("{} restrictions are not in the log yet", status.owed);
        rows.push(("owed", paint(WARN, owed)));
    }
    output::sheet(&rows)
}

/// Takes over what was changed in the files.
pub(crate) fn reload(args: &ReloadArgs) -> Result<(), Failure> {
    let reloaded: Reloaded = Client::new(&args.control)?.post("/v1/reload", &json!({}))?;
    if args.json {
        return output::json(&reloaded);
    }
    output::line(format_args!(
        "{} {} servers, {} templates, {} policies (version {})",
        paint(GOOD, "in use:"),
        reloaded.servers,
        reloaded.templates,
        reloaded.policies,
        reloaded.policy_version,
    ))?;
    if reloaded.cut {
        output::note(paint(
            WARN,
            "what was under way was cut, since the policies or a server changed",
        ));
    }
    Ok(())
}
