//! `sallyport approvals`: what agents may do only if a person lets them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Subcommand;
use control::api::{Approval, Approve, Changed, Deny, RaisedLevel, SetApprovalLevel};
use model::approval::{Allowance, Covers, ValueSet};
use model::provenance::{Asked, Origin, Reason};
use model::{AgentName, ApprovalId, ApprovalLevel, ApprovalStatus, Constraint, TaskId};
use serde_json::{Number, Value};

use crate::client::{Client, ControlArgs};
use crate::failure::Failure;
use crate::output::{self, FAINT, WARN, instant, paint, state};

/// Arguments of `sallyport approvals`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport approvals list
  sallyport approvals show apr_0190b6a0000070008000000000000000
  sallyport approvals approve apr_0190b6a0000070008000000000000000 --because 'checked with Bo'")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List what waits for a person, the latest first
    List(List),
    /// Show what is asked, and where its values come from
    Show(One),
    /// Let it through: this very call once, unless you say more
    Approve(ApproveArgs),
    /// Refuse it, or take back what was approved
    Deny(DenyArgs),
    /// Wait until somebody has decided; fails unless it is approved
    Wait(WaitArgs),
    /// See or set how much of what agents and tasks do needs a person
    Level(LevelArgs),
}

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  sallyport approvals list\n  sallyport approvals list --all --agent triage --json"
)]
struct List {
    /// Also what has been decided, has expired or ended with its task
    #[arg(long, conflicts_with = "status")]
    all: bool,
    /// Those in this state
    #[arg(long, value_parser = ["pending", "approved", "denied", "expired", "cancelled"])]
    status: Option<String>,
    /// Those of this agent's tasks
    #[arg(long)]
    agent: Option<AgentName>,
    /// Those of this task
    #[arg(long)]
    task: Option<TaskId>,
    /// At most this many
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport approvals show apr_0190b6a0000070008000000000000000")]
struct One {
    /// The request
    id: ApprovalId,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport approvals approve apr_0190b6a0000070008000000000000000
  sallyport approvals approve apr_0190b6a0000070008000000000000000 --domain recipients=corp.example --uses 5
  sallyport approvals approve apr_0190b6a0000070008000000000000000 --one-of to=ann@corp.example --one-of to=bo@corp.example
  sallyport approvals approve apr_0190b6a0000070008000000000000000 --below path=/srv/4711 --max amount=100 --for 1h")]
struct ApproveArgs {
    /// The request
    id: ApprovalId,
    /// How often it may be used
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    uses: u32,
    /// For how long; never beyond the end of the task
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration)]
    valid: Option<Duration>,
    #[command(flatten)]
    sets: Sets,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which further calls it covers.
#[derive(clap::Args)]
#[command(next_help_heading = "Further calls of the same tool, in the same task")]
struct Sets {
    /// Calls in which the argument is this value; may be repeated
    #[arg(long, value_name = "ARGUMENT=VALUE", value_parser = pair)]
    one_of: Vec<(String, String)>,
    /// Calls in which the argument is a mail address, or a URL over HTTPS, of exactly this domain
    #[arg(long, value_name = "ARGUMENT=DOMAIN", value_parser = pair)]
    domain: Vec<(String, String)>,
    /// Calls in which the argument is a path or URL at or below this one
    #[arg(long, value_name = "ARGUMENT=FOLDER", value_parser = pair)]
    below: Vec<(String, String)>,
    /// Calls in which the argument begins with this; not for paths and URLs
    #[arg(long, value_name = "ARGUMENT=TEXT", value_parser = pair)]
    prefix: Vec<(String, String)>,
    /// Calls in which the argument is a number up to this
    #[arg(long, value_name = "ARGUMENT=NUMBER", value_parser = number)]
    max: Vec<(String, Number)>,
    /// Calls whatever they say, as long as nothing in them is from untrusted content
    #[arg(long, conflicts_with_all = ["one_of", "domain", "below", "prefix", "max"])]
    any_call: bool,
}

/// Who decides, and why.
#[derive(clap::Args)]
struct Who {
    /// Who decides, for the record
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true)]
    by: Option<String>,
    /// Why, in words
    #[arg(long)]
    because: Option<String>,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  sallyport approvals deny apr_0190b6a0000070008000000000000000 --because 'nobody there is ours'"
)]
struct DenyArgs {
    /// The request
    id: ApprovalId,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  sallyport approvals wait apr_0190b6a0000070008000000000000000 --timeout 10m && echo go"
)]
struct WaitArgs {
    /// The request
    id: ApprovalId,
    /// For how long at most; by default until it expires
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport approvals level
  sallyport approvals level changes --agent triage --for 2h --because 'odd mails'
  sallyport approvals level usual --agent triage")]
struct LevelArgs {
    /// `usual`; `changes`: everything that changes something; `all`: everything
    #[arg(requires = "of")]
    level: Option<ApprovalLevel>,
    /// In all tasks of this agent
    #[arg(long, group = "of", requires = "level")]
    agent: Option<AgentName>,
    /// In this task and its parts
    #[arg(long, group = "of", requires = "level")]
    task: Option<TaskId>,
    /// For how long; by default until it is set again
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration, requires = "level")]
    lasts: Option<Duration>,
    /// Why, in words
    #[arg(long, requires = "level")]
    because: Option<String>,
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
        Command::Approve(args) => approve(args),
        Command::Deny(args) => deny(args),
        Command::Wait(args) => wait(args),
        Command::Level(args) => level(args),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("write it like `to=ann@corp.example`".to_owned()),
    }
}

fn number(text: &str) -> Result<(String, Number), String> {
    let (name, value) = pair(text)?;
    let number = value.parse().map_err(|_| "write it like `amount=100`")?;
    Ok((name, number))
}

fn list(args: &List) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let status = match (&args.status, args.all) {
        (Some(status), _) => Some(status.clone()),
        (None, true) => None,
        (None, false) => Some(ApprovalStatus::Pending.as_str().to_owned()),
    };
    let filters = [
        ("status", status),
        ("agent", args.agent.as_ref().map(ToString::to_string)),
        ("task", args.task.as_ref().map(ToString::to_string)),
    ];
    let found: Vec<Approval> = client.list("/v1/approvals", &filters, args.limit)?;
    if args.json {
        return output::json(&found);
    }
    let rows = found.iter().map(|it| {
        let it = &it.approval;
        vec![
            it.id.to_string(),
            state(it.status.as_str()),
            it.agent.to_string(),
            output::visible(&format!("{}/{}", it.server, it.target)),
            short(&asked_in_short(&it.asked)),
            instant(it.asked_at),
        ]
    });
    output::table(
        &["approval", "state", "agent", "call", "asked", "since"],
        rows.collect(),
        if args.all {
            "nobody was asked for anything yet"
        } else {
            "nothing waits for a person"
        },
    )
}

fn asked_in_short(asked: &[Asked]) -> String {
    let named = asked.iter().map(|one| {
        let argument = one.argument.trim_start_matches('/');
        format!("{argument}={}", one.value)
    });
    match asked.is_empty() {
        true => "the call itself".to_owned(),
        false => named.collect::<Vec<_>>().join(" "),
    }
}

fn short(text: &str) -> String {
    const MOST: usize = 60;
    let text = output::visible(text);
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn show(args: &One) -> Result<(), Failure> {
    let found: Approval = Client::new(&args.control)?.get(&format!("/v1/approvals/{}", args.id))?;
    if args.json {
        output::json(&found)
    } else {
        sheet(&found)
    }
}

impl Sets {
    /// What is covered; `None` for the very call alone.
    fn covers(&self) -> Option<Covers> {
        let mut sets: BTreeMap<String, ValueSet> = BTreeMap::new();
        for (argument, value) in &self.one_of {
            let set = sets.entry(argument.clone()).or_default();
            let values = set.is.one_of.get_or_insert_with(Vec::new);
            values.push(Value::String(value.clone()));
            // What looks like a number may be passed as one.
            values.extend(value.parse::<Number>().ok().map(Value::Number));
        }
        for (argument, domain) in &self.domain {
            sets.entry(argument.clone()).or_default().domain = Some(domain.clone());
        }
        let mut constrain = |argument: &String, set: &dyn Fn(&mut Constraint)| {
            set(&mut sets.entry(argument.clone()).or_default().is);
        };
        for (argument, folder) in &self.below {
            constrain(argument, &|is| is.below = Some(folder.clone()));
        }
        for (argument, prefix) in &self.prefix {
            constrain(argument, &|is| is.prefix = Some(prefix.clone()));
        }
        for (argument, max) in &self.max {
            constrain(argument, &|is| is.max = Some(max.clone()));
        }
        (self.any_call || !sets.is_empty()).then_some(Covers::Values(sets))
    }
}

fn approve(args: &ApproveArgs) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let request = Approve {
        covers: args.sets.covers(),
        uses: Some(args.uses),
        valid_seconds: args.valid.map(|valid| valid.as_secs()),
        by: args.who.by.clone(),
        because: args.who.because.clone(),
    };
    let approved: Approval =
        client.post(&format!("/v1/approvals/{}/approve", args.id), &request)?;
    if args.json {
        return output::json(&approved);
    }
    sheet(&approved)
}

fn deny(args: &DenyArgs) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let request = Deny {
        by: args.who.by.clone(),
        because: args.who.because.clone(),
    };
    let denied: Changed<Approval> =
        client.post(&format!("/v1/approvals/{}/deny", args.id), &request)?;
    if args.json {
        return output::json(&denied);
    }
    let approval = &denied.now.approval;
    output::line(format_args!(
        "{} is {}",
        paint(output::STRONG, approval.id),
        state(approval.status.as_str())
    ))?;
    super::warn(&denied.warnings);
    Ok(())
}

fn wait(args: &WaitArgs) -> Result<(), Failure> {
    /// How long one request waits: below the limit on requests.
    const AT_ONCE: u64 = 20;
    let client = Client::new(&args.control)?;
    let end = args.timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()).as_secs());
        let seconds = left.unwrap_or(AT_ONCE).min(AT_ONCE);
        let found: Approval = client.get(&format!("/v1/approvals/{}?wait={seconds}", args.id))?;
        let status = found.approval.status;
        let over = end.is_some_and(|end| Instant::now() + Duration::from_secs(1) > end);
        if status == ApprovalStatus::Pending && !over {
            continue;
        }
        if args.json {
            output::json(&found)?;
        } else {
            output::line(format_args!("{} is {}", args.id, state(status.as_str())))?;
        }
        return match status {
            ApprovalStatus::Approved => Ok(()),
            _ => Err(Failure::reported()),
        };
    }
}

fn level(args: &LevelArgs) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let Some(wanted) = args.level else {
        let raised: Vec<RaisedLevel> = client.get("/v1/approval-levels")?;
        if args.json {
            return output::json(&raised);
        }
        let rows = raised.iter().map(|it| {
            vec![
                of(it),
                it.level.to_string(),
                it.until.map(instant).unwrap_or_default(),
                output::visible(&it.because),
            ]
        });
        return output::table(
            &["of", "needs a person", "until", "because"],
            rows.collect(),
            "nothing is raised: what templates, policies and annotations say counts",
        );
    };
    let path = match (&args.agent, &args.task) {
        (Some(agent), _) => format!("/v1/agents/{agent}/approval-level"),
        (_, Some(task)) => format!("/v1/tasks/{task}/approval-level"),
        (None, None) => return Err(Failure::usage("name `--agent` or `--task`")),
    };
    let request = SetApprovalLevel {
        level: wanted,
        seconds: args.lasts.map(|lasts| lasts.as_secs()),
        because: args.because.clone().unwrap_or_default(),
    };
    let changed: Changed<RaisedLevel> = client.post(&path, &request)?;
    if args.json {
        return output::json(&changed);
    }
    let what = match changed.now.level {
        ApprovalLevel::Usual => {
            "needs a person only where templates, policies and annotations say so"
        }
        ApprovalLevel::Changes => "needs a person for everything that changes something",
        ApprovalLevel::All => "needs a person for everything",
    };
    output::line(format_args!("{} {what}", of(&changed.now)))?;
    super::warn(&changed.warnings);
    Ok(())
}

fn of(raised: &RaisedLevel) -> String {
    match (&raised.agent, &raised.task) {
        (Some(agent), _) => format!("agent {agent}"),
        (_, Some(task)) => task.to_string(),
        (None, None) => String::new(),
    }
}

fn sheet(shown: &Approval) -> Result<(), Failure> {
    let it = &shown.approval;
    let mut rows = vec![
        ("approval", paint(output::STRONG, it.id)),
        (
            "state",
            match it.status {
                ApprovalStatus::Pending => format!(
                    "{}  until {}",
                    state(it.status.as_str()),
                    instant(it.expires_at)
                ),
                status => state(status.as_str()),
            },
        ),
        ("agent", it.agent.to_string()),
        ("task", format!("{}  {}", it.task, it.template)),
    ];
    if !it.purpose.is_empty() {
        rows.push(("purpose", output::visible(&it.purpose)));
    }
    rows.push((
        "call",
        output::visible(&format!("{}: {} {}", it.server, it.kind, it.target)),
    ));
    if !it.arguments.is_null() {
        let text = serde_json::to_string_pretty(&it.arguments).unwrap_or_default();
        rows.push(("arguments", text));
    }
    for one in &it.asked {
        rows.push(("asked", asked(one)));
    }
    rows.push(("why", output::visible(&it.reason)));
    rows.push((
        "refused",
        format!("{}  {}", instant(it.asked_at), it.decision),
    ));
    if let Some(decided) = &it.decided {
        let by = decided
            .by
            .as_deref()
            .map(|by| format!(" ({by})"))
            .unwrap_or_default();
        let because = decided.because.as_deref().unwrap_or_default();
        rows.push((
            "decided",
            output::visible(&format!(
                "{}  {}{by}  {because}",
                instant(decided.at),
                decided.actor
            )),
        ));
        if let Some(allows) = &decided.allows {
            rows.push(("allows", allowed(allows)));
            rows.push(("used", format!("{} of {}", it.used, allows.uses)));
        }
    }
    output::sheet(&rows)
}

/// One value that is asked about, with where it was seen.
fn asked(one: &Asked) -> String {
    let argument = one.argument.trim_start_matches('/');
    let why = match one.reason {
        Reason::OnlyUntrusted => "seen only in untrusted content",
        Reason::Nowhere => "seen nowhere in this task: the agent made it up, or read it elsewhere",
        Reason::NotChosen => "listed, but nothing that the task says chose it",
        Reason::Deceptive => "holds characters that a reader cannot see",
        Reason::TooMany => "one of more values than are checked",
        Reason::Computed => "computed by the statement, or taken from a table that is not trusted",
        Reason::AnyRows => "not chosen by any value that is checked",
    };
    let mut lines = vec![format!(
        "{} = {}",
        output::visible(argument),
        paint(output::STRONG, output::visible(&one.value))
    )];
    lines.push(format!("  {}", paint(WARN, why)));
    for origin in &one.seen {
        let mut line = format!("  untrusted: {}", output::visible(&origin.to_string()));
        if let Origin::Result {
            server,
            at,
            decision,
            ..
        } = origin
        {
            let at = at.map(instant).unwrap_or_default();
            let decision = decision.map(|id| id.to_string()).unwrap_or_default();
            line.push_str(&format!(
                "\n  {}",
                paint(
                    FAINT,
                    format_args!("  at server {}, {at} {decision}", output::visible(server))
                )
            ));
        }
        lines.push(line);
    }
    if one.incomplete {
        lines.push("  the task has read more than is remembered".to_owned());
    }
    lines.join("\n")
}

fn allowed(allows: &Allowance) -> String {
    let what = match &allows.covers {
        Covers::Call => "this very call".to_owned(),
        Covers::Values(sets) if sets.is_empty() => {
            "calls of it in which nothing is from untrusted content".to_owned()
        }
        Covers::Values(sets) => {
            let sets = sets.iter().map(|(argument, set)| {
                let mut parts = Vec::new();
                if let Some(domain) = &set.domain {
                    parts.push(format!("of {domain}"));
                }
                let is = serde_json::to_string(&set.is).unwrap_or_default();
                if is != "{}" {
                    parts.push(is);
                }
                format!("{argument} {}", parts.join(" "))
            });
            format!("calls of it with {}", sets.collect::<Vec<_>>().join(", "))
        }
    };
    output::visible(&format!("{what}, until {}", instant(allows.until)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        sets: Sets,
    }

    fn covers(arguments: &[&str]) -> Option<Covers> {
        let arguments = std::iter::once("x").chain(arguments.iter().copied());
        Only::try_parse_from(arguments).unwrap().sets.covers()
    }

    #[test]
    fn without_more_words_it_is_this_very_call() {
        assert_eq!(covers(&[]), None);
        assert_eq!(
            covers(&["--any-call"]),
            Some(Covers::Values(BTreeMap::new()))
        );
    }

    #[test]
    fn sets_are_put_together_by_argument() {
        let words = [
            "--one-of",
            "to=a@b.example",
            "--one-of",
            "to=7",
            "--domain",
            "cc=b.example",
            "--max",
            "amount=10",
            "--below",
            "path=/srv/a",
        ];
        let covers = serde_json::to_value(covers(&words)).unwrap();
        assert_eq!(
            covers,
            serde_json::json!({ "values": {
                "amount": { "is": { "max": 10 } },
                "cc": { "domain": "b.example" },
                "path": { "is": { "below": "/srv/a" } },
                "to": { "is": { "one_of": ["a@b.example", "7", 7] } },
            }})
        );
        assert!(Only::try_parse_from(["x", "--any-call", "--domain", "a=b.example"]).is_err());
        assert!(Only::try_parse_from(["x", "--max", "a=b"]).is_err());
    }

    #[test]
    fn where_a_value_comes_from_is_told() {
        let one = Asked {
            argument: "/to/0".to_owned(),
            value: "x@evil.example".to_owned(),
            reason: Reason::OnlyUntrusted,
            seen: vec![Origin::Result {
                server: "mail".to_owned(),
                tool: "search".to_owned(),
                call: 3,
                arguments: "{}".to_owned(),
                place: "/0/body".to_owned(),
                at: Some(jiff::Timestamp::UNIX_EPOCH),
                decision: None,
            }],
            incomplete: true,
            exact: Value::Null,
        };
        insta::assert_snapshot!(anstream::adapter::strip_str(&asked(&one)).to_string(), @r"
        to/0 = x@evil.example
          seen only in untrusted content
          untrusted: `/0/body` of the result of search({}), call 3 of the task
            at server mail, 1970-01-01 00:00:00Z 
          the task has read more than is remembered
        ");
    }
}
