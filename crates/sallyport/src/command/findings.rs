//! `sallyport findings`: what detectors saw, what of it is not to be seen, and what was a false alarm.

use clap::Subcommand;
use control::api::{
    EndSuppression, Ended, Finding, GiveFeedback, LONGEST_WAIT, Page, Suppress, Suppression,
};
use model::inspection::Severity;
use model::{AgentName, ServerName, TaskId};
use serde_json::json;

use crate::client::{Client, ControlArgs};
use crate::failure::Failure;
use crate::output::{self, FAINT, STRONG, instant, paint, visible};

/// Arguments of `sallyport findings`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport findings list --severity high
  sallyport findings list --agent triage --follow
  sallyport findings show 42
  sallyport findings suppress unusual-hour --agent nightly --for 30d --because 'runs at night now'
  sallyport findings feedback 42 --false-alarm --note 'a migration'")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List findings, the latest last
    List(List),
    /// Show one finding
    Show(One),
    /// Let findings of a rule not come in for a time
    Suppress(SuppressArgs),
    /// List what is suppressed
    Suppressed(Suppressed),
    /// Let suppressed findings come in again
    Unsuppress(Unsuppress),
    /// Say whether a finding was right
    Feedback(FeedbackArgs),
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport findings list --severity high
  sallyport findings list --agent triage --follow
  sallyport findings list --json | jq -r '.[].rule' | sort | uniq -c")]
struct List {
    /// About this agent
    #[arg(long)]
    agent: Option<AgentName>,
    /// About this task
    #[arg(long)]
    task: Option<TaskId>,
    /// About this server
    #[arg(long)]
    server: Option<ServerName>,
    /// By this rule
    #[arg(long)]
    rule: Option<String>,
    /// Of at least this severity: info, low, medium, high or critical
    #[arg(long, value_parser = severity)]
    severity: Option<Severity>,
    /// In this incident
    #[arg(long)]
    incident: Option<u64>,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Go on with what comes, until interrupted
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON; with --follow a line for each
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport findings show 42")]
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
Critical findings come in all the same. The suppression is recorded.

Example:
  sallyport findings suppress unusual-hour --agent nightly --for 30d --because 'runs at night now'")]
struct SuppressArgs {
    /// The rule
    rule: String,
    /// Only about this agent
    #[arg(long)]
    agent: Option<AgentName>,
    /// Only about this server
    #[arg(long)]
    server: Option<ServerName>,
    /// For how long, at most 90 days
    #[arg(long = "for", value_name = "DURATION", value_parser = days)]
    time: std::time::Duration,
    /// Why, in words
    #[arg(long)]
    because: String,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport findings suppressed")]
struct Suppressed {
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport findings unsuppress unusual-hour --agent nightly")]
struct Unsuppress {
    /// The rule
    rule: String,
    /// The agent that the suppression names
    #[arg(long)]
    agent: Option<AgentName>,
    /// The server that the suppression names
    #[arg(long)]
    server: Option<ServerName>,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Two false alarms of a rule about one agent at one server lower such findings by one step, four by two.
They never disappear by that; `sallyport findings suppress` hides them for a time.

Examples:
  sallyport findings feedback 42 --false-alarm --note 'a migration'
  sallyport findings feedback 42 --right")]
#[command(group(clap::ArgGroup::new("what").required(true).args(["right", "false_alarm"])))]
struct FeedbackArgs {
    /// Its number
    id: u64,
    /// It was right
    #[arg(long)]
    right: bool,
    /// It was nothing: what it added to the score is taken back
    #[arg(long)]
    false_alarm: bool,
    /// In words
    #[arg(long, default_value = "")]
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
        Command::Suppress(args) => suppress(args),
        Command::Suppressed(args) => suppressed(args),
        Command::Unsuppress(args) => unsuppress(args),
        Command::Feedback(args) => feedback(args),
    }
}

/// Reads a severity.
pub(super) fn severity(text: &str) -> Result<Severity, String> {
    Severity::parse(text)
        .ok_or_else(|| "it is one of info, low, medium, high and critical".to_owned())
}

/// Reads a duration in days or smaller units.
pub(super) fn days(text: &str) -> Result<std::time::Duration, String> {
    let whole = text
        .strip_suffix('d')
        .and_then(|days| days.parse::<u64>().ok());
    match whole.filter(|days| (1..=36_500).contains(days)) {
        Some(days) => Ok(std::time::Duration::from_secs(days * 86_400)),
        None => super::duration(text).map_err(|_| "write it like `30d`, `12h` or `15m`".to_owned()),
    }
}

fn list(args: &List) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let filters = [
        ("agent", args.agent.as_ref().map(ToString::to_string)),
        ("task", args.task.map(|task| task.to_string())),
        ("server", args.server.as_ref().map(ToString::to_string)),
        ("rule", args.rule.clone()),
        (
            "severity",
            args.severity.map(|severity| severity.to_string()),
        ),
        ("incident", args.incident.map(|id| id.to_string())),
    ];
    let mut findings: Vec<Finding> = client.list("/v1/findings", &filters, args.limit)?;
    findings.reverse();
    if args.json && !args.follow {
        return output::json(&findings);
    }
    if args.json {
        for finding in &findings {
            output::json_line(finding)?;
        }
    } else if !findings.is_empty() || !args.follow {
        let filtered = filters.iter().any(|(_, value)| value.is_some());
        output::table(
            &HEADING,
            findings.iter().map(row).collect(),
            if filtered {
                "no such findings"
            } else {
                "no findings: no detector saw anything yet"
            },
        )?;
    }
    if !args.follow {
        return Ok(());
    }
    let mut last = findings.last().map_or(0, |finding| finding.id);
    if last == 0 {
        // The filters may have hidden later ones; those are not to come now.
        let newest: Vec<Finding> = client.list("/v1/findings", &[], 1)?;
        last = newest.first().map_or(0, |finding| finding.id);
    }
    loop {
        let mut asked = filters.to_vec();
        asked.push(("after", Some(last.to_string())));
        asked.push(("wait", Some(LONGEST_WAIT.to_string())));
        let page: Page<Finding> = client.ask_list("/v1/findings", &asked)?;
        for finding in &page.items {
            last = last.max(finding.id);
            if args.json {
                output::json_line(finding)?;
            } else {
                output::line(row(finding).join("  "))?;
            }
        }
    }
}

const HEADING: [&str; 7] = [
    "finding", "time", "severity", "rule", "agent", "incident", "what",
];

fn row(finding: &Finding) -> Vec<String> {
    vec![
        finding.id.to_string(),
        paint(FAINT, instant(finding.at)),
        output::severity(finding.severity),
        finding.rule.clone(),
        finding
            .agent
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        finding
            .incident
            .map(|id| id.to_string())
            .unwrap_or_default(),
        visible(&finding.explanation),
    ]
}

fn show(args: &One) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let finding: Finding = client.get(&format!("/v1/findings/{}", args.id))?;
    if args.json {
        return output::json(&finding);
    }
    sheet(&finding)
}

fn sheet(finding: &Finding) -> Result<(), Failure> {
    let mut rows = vec![
        ("finding", paint(STRONG, finding.id)),
        ("time", instant(finding.at)),
        ("severity", output::severity(finding.severity)),
        ("rule", finding.rule.clone()),
        ("what", visible(&finding.explanation)),
    ];
    let mut add = |name: &'static str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            rows.push((name, visible(&value)));
        }
    };
    add("agent", finding.agent.as_ref().map(ToString::to_string));
    add("task", finding.task.map(|task| task.to_string()));
    add("server", finding.server.as_ref().map(ToString::to_string));
    add("target", finding.target.clone());
    add("seen in", Some(finding.seen_in.clone()));
    add(
        "doing",
        Some(match finding.origin.as_str() {
            "done" => "the agent did it".to_owned(),
            _ => "the agent was given it".to_owned(),
        }),
    );
    if let Some(evidence) = &finding.evidence {
        add("place", Some(evidence.place.clone()));
        add("quote", Some(evidence.quote.clone()));
    }
    add(
        "response",
        finding.response.map(|done| done.as_str().to_owned()),
    );
    add("record", finding.about.map(|index| index.to_string()));
    add("decision", finding.decision.map(|id| id.to_string()));
    let asi = finding
        .asi
        .and_then(|asi| serde_json::to_value(asi).ok())
        .and_then(|value| value.as_str().map(ToOwned::to_owned));
    add("OWASP", asi);
    add(
        "ATLAS",
        finding
            .atlas
            .as_ref()
            .map(|atlas| atlas.as_str().to_owned()),
    );
    add("incident", finding.incident.map(|id| id.to_string()));
    if let Some(said) = &finding.feedback {
        let word = if said.right { "right" } else { "a false alarm" };
        add(
            "feedback",
            Some(format!("{word}, says {} {}", said.by, said.note)),
        );
    }
    output::sheet(&rows)
}

fn suppress(args: &SuppressArgs) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let request = Suppress {
        rule: args.rule.clone(),
        agent: args.agent.clone(),
        server: args.server.clone(),
        ttl_seconds: args.time.as_secs(),
        because: args.because.clone(),
    };
    let done: Suppression = client.post("/v1/suppressions", &request)?;
    if args.json {
        return output::json(&done);
    }
    output::line(format_args!(
        "findings of {} are suppressed until {}; critical ones are not",
        paint(STRONG, visible(&done.rule)),
        instant(done.until)
    ))
}

fn suppressed(args: &Suppressed) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let page: Page<Suppression> = client.get("/v1/suppressions")?;
    if args.json {
        return output::json(&page.items);
    }
    let rows = page.items.iter().map(|one| {
        let name = |name: Option<String>| name.unwrap_or_else(|| "any".to_owned());
        vec![
            visible(&one.rule),
            name(one.agent.as_ref().map(ToString::to_string)),
            name(one.server.as_ref().map(ToString::to_string)),
            instant(one.until),
            one.by.clone(),
            visible(&one.reason),
        ]
    });
    output::table(
        &["rule", "agent", "server", "until", "by", "why"],
        rows.collect(),
        "nothing is suppressed",
    )
}

fn unsuppress(args: &Unsuppress) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let request = EndSuppression {
        rule: args.rule.clone(),
        agent: args.agent.clone(),
        server: args.server.clone(),
    };
    let done: Ended = client.post("/v1/suppressions/end", &request)?;
    if args.json {
        return output::json(&json!({ "ended": done.ended }));
    }
    match done.ended {
        0 => Err(Failure::new("nothing of exactly this is suppressed")
            .hint("`sallyport findings suppressed` lists what is")),
        _ => output::line("they come in again"),
    }
}

fn feedback(args: &FeedbackArgs) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let request = GiveFeedback {
        right: args.right,
        note: args.note.clone(),
    };
    let path = format!("/v1/findings/{}/feedback", args.id);
    let finding: Finding = client.post(&path, &request)?;
    if args.json {
        output::json(&finding)
    } else {
        sheet(&finding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_days() {
        assert_eq!(days("30d").map(|time| time.as_secs()), Ok(30 * 86_400));
        assert_eq!(days("2h").map(|time| time.as_secs()), Ok(7_200));
        for wrong in ["", "d", "0d", "-1d", "1x", "99999999d"] {
            assert!(days(wrong).is_err(), "{wrong}");
        }
    }
}
