//! `sallyport blast-radius`: what an agent or a task touched, and could have reached.

use std::time::Duration;

use clap::ValueEnum;
use control::api::BlastRadius;
use model::{AgentName, TaskId};
use response::blast::{Form, Reachable};

use crate::client::{Client, ControlArgs, query};
use crate::failure::Failure;
use crate::output::{self, BAD, FAINT, STRONG, WARN, instant, paint};

/// Arguments of `sallyport blast-radius`.
#[derive(clap::Args)]
#[command(after_help = "\
What was touched comes from the audit log; what could have been reached from the templates, open
tasks, servers and policies as they are now, also through agents that can be asked.

Examples:
  sallyport blast-radius triage
  sallyport blast-radius triage --since 24h
  sallyport blast-radius task_0190b6a0000070008000000000000000
  sallyport blast-radius triage --format dot | dot -Tsvg > triage.svg
  sallyport blast-radius triage --format mermaid")]
pub(crate) struct Args {
    /// The agent, or the task
    #[arg(value_name = "AGENT|TASK")]
    of: String,
    /// What was touched in this time only; by default all that the log has
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    since: Option<Duration>,
    /// How it is printed
    #[arg(long, value_enum, default_value_t = Format::List)]
    format: Format,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON: the same as `--format json`
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables, for people
    List,
    /// A graph for Graphviz
    Dot,
    /// A graph for Mermaid
    Mermaid,
    /// Lists, nodes and edges
    Json,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let since = args.since.map(|since| since.as_secs().to_string());
    let of = match (args.of.parse::<TaskId>(), args.of.parse::<AgentName>()) {
        (Ok(task), _) => ("task", task.to_string()),
        (Err(_), Ok(agent)) => ("agent", agent.to_string()),
        (Err(_), Err(_)) => {
            return Err(Failure::usage(format!(
                "`{}` is neither an agent nor a task",
                output::visible(&args.of)
            ))
            .hint("`sallyport agent list` and `sallyport task list` show those that there are"));
        }
    };
    let parameters = [(of.0, Some(of.1)), ("since", since)];
    let found: BlastRadius =
        client.get(&format!("/v1/blast-radius?{}", query(parameters.iter())))?;
    match args.format {
        _ if args.json => output::json(&found),
        Format::Json => output::json(&found),
        Format::Dot => output::line(found.blast.drawn(Form::Dot).trim_end()),
        Format::Mermaid => output::line(found.blast.drawn(Form::Mermaid).trim_end()),
        Format::List => print(&found),
    }
}

fn print(found: &BlastRadius) -> Result<(), Failure> {
    let blast = &found.blast;
    output::line(paint(STRONG, "Touched"))?;
    let rows = blast.touched.iter().map(|it| {
        let refused = match it.refused {
            0 => String::new(),
            refused => paint(WARN, refused),
        };
        vec![
            it.agent.to_string(),
            it.server.to_string(),
            output::visible(if it.target.is_empty() {
                "-"
            } else {
                &it.target
            }),
            it.calls.to_string(),
            refused,
            output::bytes(it.bytes),
            instant(it.last),
        ]
    });
    output::table(
        &[
            "agent", "server", "what", "calls", "refused", "answers", "last",
        ],
        rows.collect(),
        "nothing",
    )?;
    output::line(paint(STRONG, "\nCould have reached"))?;
    let rows = blast.reachable.iter().map(|it| {
        vec![
            way(it),
            it.server.to_string(),
            it.segment
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            it.what.clone(),
            output::visible(&it.target),
            match it.permitted {
                Some(true) => "yes".to_owned(),
                Some(false) => paint(BAD, "a policy forbids it"),
                None => paint(FAINT, "as policies say"),
            },
            output::visible(&it.by),
        ]
    });
    output::table(
        &[
            "agent",
            "server",
            "segment",
            "kind",
            "what",
            "permitted",
            "by",
        ],
        rows.collect(),
        "nothing: no template is for it, or its servers are disabled",
    )?;
    if blast.cut {
        output::note(paint(
            WARN,
            "there is more than is shown: narrow it with --since",
        ));
    }
    Ok(())
}

fn way(reachable: &Reachable) -> String {
    match &reachable.through[..] {
        [] => reachable.agent.to_string(),
        through => {
            let through: Vec<String> = through.iter().map(ToString::to_string).collect();
            format!("via {}", through.join(" › "))
        }
    }
}
