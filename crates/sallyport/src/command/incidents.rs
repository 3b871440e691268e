//! `sallyport incidents`: findings that belong together, and what was done about them.

use clap::Subcommand;
use control::api::{CloseIncident, Incident, IncidentStatus, LONGEST_WAIT, Page, WriteNote};
use model::AgentName;
use model::inspection::Severity;

use super::findings::severity;
use crate::client::{Client, ControlArgs};
use crate::failure::Failure;
use crate::output::{self, FAINT, STRONG, instant, paint, state, visible};

/// Most things of a kind that are named in one cell.
const NAMED: usize = 3;

/// Arguments of `sallyport incidents`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport incidents list
  sallyport incidents list --all --severity high --follow
  sallyport incidents show 7
  sallyport incidents close 7 --note 'credentials rotated'
  sallyport incidents close 8 --false-alarm")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List incidents, the latest last
    List(List),
    /// Show one incident with its findings
    Show(One),
    /// Close an incident
    Close(Close),
    /// Write a note on an incident
    Note(Note),
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport incidents list
  sallyport incidents list --all --agent triage
  sallyport incidents list --severity high --follow --json")]
struct List {
    /// About this agent
    #[arg(long)]
    agent: Option<AgentName>,
    /// Of at least this severity: info, low, medium, high or critical
    #[arg(long, value_parser = severity)]
    severity: Option<Severity>,
    /// Those that were dealt with too
    #[arg(long)]
    all: bool,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Go on with what changes, until interrupted
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON; with --follow a line for each
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport incidents show 7")]
struct One {
    /// Its number
    id: u64,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport incidents close 7 --note 'credentials rotated'
  sallyport incidents close 8 --false-alarm --note 'a load test'")]
struct Close {
    /// Its number
    id: u64,
    /// It was nothing: what it added to scores is taken back, and such findings count for less
    #[arg(long)]
    false_alarm: bool,
    /// What was done or found out, in words
    #[arg(long, default_value = "")]
    note: String,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport incidents note 7 'Ada looks at it'")]
struct Note {
    /// Its number
    id: u64,
    /// In words
    note: String,
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
        Command::Close(args) => {
            let request = CloseIncident {
                false_alarm: args.false_alarm,
                note: args.note.clone(),
            };
            let client = Client::new(&args.control)?;
            let path = format!("/v1/incidents/{}/close", args.id);
            changed(&client.post(&path, &request)?, args.json)
        }
        Command::Note(args) => {
            let request = WriteNote {
                note: args.note.clone(),
            };
            let client = Client::new(&args.control)?;
            let path = format!("/v1/incidents/{}/note", args.id);
            changed(&client.post(&path, &request)?, args.json)
        }
    }
}

fn changed(incident: &Incident, json: bool) -> Result<(), Failure> {
    if json {
        output::json(incident)
    } else {
        sheet(incident)
    }
}

fn list(args: &List) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let status = (!args.all).then(|| IncidentStatus::Open.as_str().to_owned());
    let filters = [
        ("agent", args.agent.as_ref().map(ToString::to_string)),
        (
            "severity",
            args.severity.map(|severity| severity.to_string()),
        ),
        ("status", status),
    ];
    let mut incidents: Vec<Incident> = client.list("/v1/incidents", &filters, args.limit)?;
    incidents.reverse();
    if args.json && !args.follow {
        return output::json(&incidents);
    }
    if args.json {
        for incident in &incidents {
            output::json_line(incident)?;
        }
    } else if !incidents.is_empty() || !args.follow {
        let filtered = args.agent.is_some() || args.severity.is_some();
        output::table(
            &HEADING,
            incidents.iter().map(row).collect(),
            match (filtered, args.all) {
                (true, _) => "no such incidents",
                (false, true) => "no incidents yet",
                (false, false) => "no open incidents; `--all` lists those that were dealt with too",
            },
        )?;
    }
    if !args.follow {
        return Ok(());
    }
    // From the newest change on, whichever incidents are shown.
    let newest: Vec<Incident> = client.list("/v1/incidents", &[], 200)?;
    let seen = incidents.iter().chain(&newest);
    let mut last = seen.map(|incident| incident.revision).max().unwrap_or(0);
    loop {
        let asked = [
            filters[0].clone(),
            filters[1].clone(),
            ("after", Some(last.to_string())),
            ("wait", Some(LONGEST_WAIT.to_string())),
        ];
        let page: Page<Incident> = client.ask_list("/v1/incidents", &asked)?;
        for incident in &page.items {
            last = last.max(incident.revision);
            if args.json {
                output::json_line(incident)?;
            } else {
                output::line(row(incident).join("  "))?;
            }
        }
    }
}

const HEADING: [&str; 8] = [
    "incident", "state", "severity", "agents", "findings", "first", "last", "rules",
];

fn row(incident: &Incident) -> Vec<String> {
    vec![
        incident.id.to_string(),
        state(incident.status.as_str()),
        output::severity(incident.severity),
        some(incident.agents.iter()),
        incident.count().to_string(),
        instant(incident.first),
        instant(incident.last),
        paint(FAINT, some(incident.rules.iter())),
    ]
}

/// The first names of several, and how many more there are.
fn some<T: std::fmt::Display>(all: impl ExactSizeIterator<Item = T>) -> String {
    let more = all.len().saturating_sub(NAMED);
    let mut text = all
        .take(NAMED)
        .map(|one| visible(&one.to_string()))
        .collect::<Vec<_>>()
        .join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn show(args: &One) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let incident: Incident = client.get(&format!("/v1/incidents/{}", args.id))?;
    if args.json {
        return output::json(&incident);
    }
    sheet(&incident)?;
    output::line("")?;
    let rows = incident.findings.iter().map(|seen| {
        let finding = &seen.finding;
        vec![
            output::severity(finding.severity),
            visible(&finding.rule),
            seen.count.to_string(),
            instant(seen.last),
            visible(&finding.explanation),
        ]
    });
    output::table(
        &["severity", "rule", "times", "last", "what"],
        rows.collect(),
        "no findings are kept",
    )
}

fn sheet(incident: &Incident) -> Result<(), Failure> {
    let all = |names: Vec<String>| names.join("\n");
    let mut rows = vec![
        ("incident", paint(STRONG, incident.id)),
        ("state", state(incident.status.as_str())),
        ("severity", output::severity(incident.severity)),
        (
            "agents",
            all(incident.agents.iter().map(ToString::to_string).collect()),
        ),
        (
            "tasks",
            all(incident.tasks.iter().map(ToString::to_string).collect()),
        ),
        (
            "servers",
            all(incident.servers.iter().map(ToString::to_string).collect()),
        ),
        ("first", instant(incident.first)),
        ("last", instant(incident.last)),
        ("findings", incident.count().to_string()),
    ];
    if let Some(ended) = incident.ended {
        rows.push(("closed", instant(ended)));
    }
    if !incident.note.is_empty() {
        let lines: Vec<String> = incident.note.lines().map(visible).collect();
        rows.push(("notes", lines.join("\n")));
    }
    rows.retain(|(_, value)| !value.is_empty());
    output::sheet(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_counted() {
        assert_eq!(some(["a", "b"].iter()), "a, b");
        assert_eq!(some(["a", "b", "c", "d", "e"].iter()), "a, b, c and 2 more");
        assert_eq!(some([""; 0].iter()), "");
    }
}
