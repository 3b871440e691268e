//! `sallyport task`: pieces of work, and what each may do.

use std::collections::BTreeMap;

use clap::Subcommand;
use control::api::{Changed, EndTask, OpenTask, Task};
use model::grant::{Constraint, Permission, PermissionKind};
use model::{AgentName, TaskId, TemplateName};

use crate::client::{Client, ControlArgs};
use crate::failure::Failure;
use crate::output::{self, FAINT, instant, paint, state};

/// Arguments of `sallyport task`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport task open --agent triage --template ticket --param ticket=4711
  sallyport task list --status open
  sallyport task revoke task_0190b6a0000070008000000000000000")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Open a task for an agent
    Open(Open),
    /// List tasks, the latest first
    List(List),
    /// Show a task and what it may do
    Show(One),
    /// End a task because its work is done
    Complete(End),
    /// End a task because it must stop
    Revoke(End),
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport task open --agent triage --template ticket --param ticket=4711 --purpose 'Reply to Bo'
  sallyport task open --agent triage --template read-files --ttl 10m --json | jq -r .id
  sallyport task open --agent desk --template refund --parent task_0190b6a0000070008000000000000000")]
struct Open {
    /// The agent whose work it is
    #[arg(long)]
    agent: AgentName,
    /// The kind of task
    #[arg(long)]
    template: TemplateName,
    /// The task that it is a part of: it may do no more than that one, and ends with it
    #[arg(long, value_name = "TASK")]
    parent: Option<TaskId>,
    /// The value of a parameter of the template; may be repeated
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// What the task is for, in words
    #[arg(long, default_value = "")]
    purpose: String,
    /// How long it lives, if less than the template says
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    ttl: Option<std::time::Duration>,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  sallyport task list --agent triage --status open\n  sallyport task list --template ticket --limit 500 --json"
)]
struct List {
    /// Tasks of this agent
    #[arg(long)]
    agent: Option<AgentName>,
    /// Tasks in this state
    #[arg(long, value_parser = ["open", "completed", "expired", "revoked"])]
    status: Option<String>,
    /// Tasks opened from this template
    #[arg(long)]
    template: Option<TemplateName>,
    /// Tasks that are a part of this one
    #[arg(long, value_name = "TASK")]
    parent: Option<TaskId>,
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
#[command(after_help = "Example:\n  sallyport task show task_0190b6a0000070008000000000000000")]
struct One {
    /// The task
    id: TaskId,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  sallyport task revoke task_0190b6a0000070008000000000000000 --because 'wrong customer'"
)]
struct End {
    /// The task
    id: TaskId,
    /// Why, in words
    #[arg(long)]
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
        Command::Open(args) => open(args),
        Command::List(args) => list(args),
        Command::Show(args) => show(args),
        Command::Complete(args) => end(args, "complete"),
        Command::Revoke(args) => end(args, "revoke"),
    }
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it like `ticket=4711`")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn open(args: &Open) -> Result<(), Failure> {
    let mut parameters = BTreeMap::new();
    for (name, value) in &args.parameters {
        if parameters.insert(name.clone(), value.clone()).is_some() {
            return Err(Failure::usage(format!(
                "the parameter `{name}` is given twice"
            )));
        }
    }
    let client = Client::new(&args.control)?;
    let request = OpenTask {
        template: args.template.clone(),
        parameters,
        purpose: args.purpose.clone(),
        agent: Some(args.agent.clone()),
        parent: args.parent,
        instance: None,
        ttl_seconds: args.ttl.map(|ttl| ttl.as_secs()),
    };
    let task: Task = client.post("/v1/tasks", &request)?;
    if args.json {
        output::json(&task)
    } else {
        sheet(&task)
    }
}

fn list(args: &List) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let filters = [
        ("agent", args.agent.as_ref().map(ToString::to_string)),
        ("status", args.status.clone()),
        ("template", args.template.as_ref().map(ToString::to_string)),
        ("parent", args.parent.as_ref().map(ToString::to_string)),
    ];
    let tasks: Vec<Task> = client.list("/v1/tasks", &filters, args.limit)?;
    if args.json {
        return output::json(&tasks);
    }
    let rows = tasks.iter().map(|task| {
        vec![
            task.id.to_string(),
            state(task.status.as_str()),
            task.agent.to_string(),
            task.template.to_string(),
            assignments(&task.parameters),
            instant(task.opened_at),
            task.calls
                .map(|calls| format!("{calls}/{}", task.grant.budget.calls))
                .unwrap_or_default(),
        ]
    });
    let filtered = filters.iter().any(|(_, value)| value.is_some());
    output::table(
        &[
            "task",
            "state",
            "agent",
            "template",
            "parameters",
            "opened",
            "calls",
        ],
        rows.collect(),
        if filtered {
            "no such tasks"
        } else {
            "no tasks yet; `sallyport task open --agent NAME --template NAME` opens one"
        },
    )
}

fn show(args: &One) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let task: Task = client.get(&format!("/v1/tasks/{}", args.id))?;
    if args.json {
        output::json(&task)
    } else {
        sheet(&task)
    }
}

fn end(args: &End, verb: &str) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let request = EndTask {
        because: args.because.clone(),
    };
    let changed: Changed<Task> = client.post(&format!("/v1/tasks/{}/{verb}", args.id), &request)?;
    if args.json {
        return output::json(&changed);
    }
    output::line(format_args!(
        "{} is {}",
        changed.now.id,
        state(changed.now.status.as_str())
    ))?;
    super::warn(&changed.warnings);
    Ok(())
}

fn sheet(task: &Task) -> Result<(), Failure> {
    let mut rows = vec![
        ("task", paint(output::STRONG, task.id)),
        ("state", state(task.status.as_str())),
        ("agent", task.agent.to_string()),
        ("template", task.template.to_string()),
    ];
    if let Some(instance) = task.instance {
        rows.push(("instance", instance.to_string()));
    }
    if let Some(parent) = task.parent {
        rows.push(("part of", parent.to_string()));
    }
    if !task.parts.is_empty() {
        let parts: Vec<String> = task.parts.iter().map(ToString::to_string).collect();
        rows.push(("parts", parts.join("\n")));
    }
    if !task.parameters.is_empty() {
        rows.push(("parameters", assignments(&task.parameters)));
    }
    if !task.purpose.is_empty() {
        rows.push(("purpose", output::visible(&task.purpose)));
    }
    rows.push(("opened", instant(task.opened_at)));
    match task.ended_at {
        Some(at) => {
            let because = task.ended_because.as_deref().unwrap_or_default();
            rows.push((
                "ended",
                format!("{}  {}", instant(at), output::visible(because)),
            ));
        }
        None => rows.push(("until", instant(task.expires_at))),
    }
    let used = task
        .calls
        .map_or_else(String::new, |calls| format!("{calls} of "));
    rows.push(("calls", format!("{used}{}", task.grant.budget.calls)));
    if let Some(pace) = &task.pace {
        rows.push(("rate", super::pace(pace)));
    } else if let Some(rate) = task.grant.rate {
        rows.push(("rate", rate.to_string()));
    }
    rows.push(("proof", task.grant.proof.as_str().to_owned()));
    let may: Vec<String> = task.grant.permissions.iter().flat_map(permission).collect();
    rows.push((
        "may",
        if may.is_empty() {
            "nothing".to_owned()
        } else {
            may.join("\n")
        },
    ));
    let urls: Vec<&str> = task.urls.values().map(String::as_str).collect();
    rows.push(("urls", urls.join("\n")));
    let databases: Vec<&str> = task.databases.values().map(String::as_str).collect();
    if !databases.is_empty() {
        rows.push(("databases", databases.join("\n")));
    }
    if let Some(proxy) = &task.proxy {
        rows.push(("proxy", proxy.clone()));
    }
    output::sheet(&rows)
}

/// What one permission allows, a line for each thing.
fn permission(permission: &Permission) -> Vec<String> {
    let server = &permission.server;
    let mut lines = Vec::new();
    for tool in permission.calls() {
        let verb = match permission.kind {
            PermissionKind::Http => "request",
            PermissionKind::Llm => "use",
            PermissionKind::A2a => "ask for",
            PermissionKind::Mcp | PermissionKind::Postgres => "call",
        };
        let mut line = format!("{server}: {verb} {}", tool.name);
        for (argument, constraint) in &tool.arguments {
            line.push_str(&format!(
                " {}",
                paint(FAINT, format_args!("{argument}{}", constrained(constraint)))
            ));
        }
        if let Some(most) = tool.max_calls {
            line.push_str(&format!(
                " {}",
                paint(FAINT, format_args!("at most {most} times"))
            ));
        }
        lines.push(line);
    }
    if permission.connect {
        lines.push(format!("{server}: open tunnels that nobody looks into"));
    }
    for table in &permission.tables {
        let ways: Vec<&str> = table.operations.iter().map(|way| way.as_str()).collect();
        let mut line = format!("{server}: {} {}", ways.join(", "), table.name);
        if let Some(columns) = &table.columns {
            let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            line.push_str(&format!(" ({})", columns.join(", ")));
        }
        if let Some(rows) = &table.rows {
            line.push_str(&format!(" {}", paint(FAINT, format_args!("where {rows}"))));
        }
        lines.push(line);
    }
    for (verb, patterns) in [
        ("read", &permission.resources),
        ("fetch prompt", &permission.prompts),
    ] {
        lines.extend(
            patterns
                .iter()
                .map(|pattern| format!("{server}: {verb} {pattern}")),
        );
    }
    for request in &permission.server_requests {
        lines.push(format!(
            "{server}: may ask for {}",
            format!("{request:?}").to_lowercase()
        ));
    }
    lines
}

fn constrained(constraint: &Constraint) -> String {
    let mut parts = Vec::new();
    if let Some(value) = &constraint.equals {
        parts.push(format!("={value}"));
    }
    if let Some(values) = &constraint.one_of {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        parts.push(format!("={}", values.join("|")));
    }
    if let Some(prefix) = &constraint.prefix {
        parts.push(format!("={prefix}…"));
    }
    if let Some(below) = &constraint.below {
        parts.push(format!(" below {below}"));
    }
    if let Some(regex) = &constraint.regex {
        parts.push(format!("~{regex}"));
    }
    if let Some(min) = &constraint.min {
        parts.push(format!("≥{min}"));
    }
    if let Some(max) = &constraint.max {
        parts.push(format!("≤{max}"));
    }
    if constraint.optional {
        parts.push("?".to_owned());
    }
    parts.concat()
}

fn assignments(parameters: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = parameters
        .iter()
        .map(|(name, value)| output::visible(&format!("{name}={value}")))
        .collect();
    pairs.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_grant_allows_is_readable() {
        let granted: Permission = serde_json::from_value(serde_json::json!({
            "type": "sallyport_mcp", "server": "files",
            "tools": [{ "name": "read_*", "arguments": {
                "path": { "below": "/srv/4711" }, "head": { "min": 1, "max": 9, "optional": true }
            }, "max_calls": 3 }],
            "resources": ["file:///srv/*"], "server_requests": ["roots"],
        }))
        .unwrap();
        let text = permission(&granted).join("\n");
        insta::assert_snapshot!(anstream::adapter::strip_str(&text).to_string(), @r"
        files: call read_* head≥1≤9? path below /srv/4711 at most 3 times
        files: read file:///srv/*
        files: may ask for roots
        ");
    }

    #[test]
    fn parameters_are_pairs() {
        assert_eq!(parameter("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(parameter("a").is_err());
    }
}
