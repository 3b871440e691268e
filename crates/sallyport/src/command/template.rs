//! `sallyport template`: the kinds of task that the running Sallyport knows.

use std::time::Duration;

use clap::Subcommand;
use control::api::Template;
use model::TemplateName;

use crate::client::{Client, ControlArgs};
use crate::failure::Failure;
use crate::output::{self, FAINT, paint};

/// Arguments of `sallyport template`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  sallyport template list\n  sallyport template show ticket")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the templates
    List(List),
    /// Show one template and its parameters
    Show(One),
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport template list --json | jq -r '.[].name'")]
struct List {
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport template show read-files")]
struct One {
    /// The template
    name: TemplateName,
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
        Command::Show(args) => show(args),
    }
}

fn all(control: &ControlArgs) -> Result<Vec<Template>, Failure> {
    Client::new(control)?.list("/v1/templates", &[], usize::MAX)
}

fn list(args: &List) -> Result<(), Failure> {
    let templates = all(&args.control)?;
    if args.json {
        return output::json(&templates);
    }
    let rows = templates.iter().map(|template| {
        vec![
            template.name.to_string(),
            join(&template.servers),
            who(template),
            lifetime(template),
            template.calls.to_string(),
            output::visible(&template.description),
        ]
    });
    output::table(
        &[
            "template",
            "servers",
            "for",
            "lives",
            "calls",
            "description",
        ],
        rows.collect(),
        "no templates yet; write `templates/NAME.toml` beside the configuration",
    )
}

fn show(args: &One) -> Result<(), Failure> {
    let found = all(&args.control)?
        .into_iter()
        .find(|template| template.name == args.name);
    let template = found.ok_or_else(|| {
        Failure::new(format!("there is no template `{}`", args.name))
            .hint("`sallyport template list` shows what there is")
    })?;
    if args.json {
        return output::json(&template);
    }
    let parameters: Vec<String> = template
        .parameters
        .iter()
        .map(|(name, parameter)| {
            let default = parameter
                .default
                .as_ref()
                .map_or_else(String::new, |value| format!(", by default {value}"));
            format!(
                "{name}  {} {}",
                output::visible(&parameter.description),
                paint(FAINT, format_args!("({}{default})", parameter.pattern))
            )
        })
        .collect();
    output::sheet(&[
        ("template", paint(output::STRONG, &template.name)),
        ("description", output::visible(&template.description)),
        ("for", who(&template)),
        ("lives", lifetime(&template)),
        ("calls", template.calls.to_string()),
        (
            "rate",
            template.rate.map_or_else(
                || "as the configuration says".to_owned(),
                |rate| rate.to_string(),
            ),
        ),
        ("proof", template.proof.as_str().to_owned()),
        ("servers", join(&template.servers)),
        (
            "parameters",
            if parameters.is_empty() {
                "none".to_owned()
            } else {
                parameters.join("\n")
            },
        ),
    ])
}

fn who(template: &Template) -> String {
    let agents = template.agents.iter().map(ToString::to_string);
    let segments = template
        .segments
        .iter()
        .map(|segment| format!("segment {segment}"));
    let all: Vec<String> = agents.chain(segments).collect();
    if all.is_empty() {
        "nobody".to_owned()
    } else {
        all.join(", ")
    }
}

fn lifetime(template: &Template) -> String {
    output::span(Duration::from_secs(template.ttl_seconds))
}

fn join(names: &[impl ToString]) -> String {
    names
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
