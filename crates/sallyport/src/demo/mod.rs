//! The story that `make demo` tells: one agent, one ticket, and everything that must not work.
//!
//! Nothing in it is staged but the files: a real `sallyport serve`, the agent behind a real
//! `sallyport connect`, a real MCP server. Every outcome is read from the answers, and one that is
//! not as told ends the demonstration with an error.

mod agent;
mod forgery;
mod stage;
mod table;
mod theft;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use model::TaskId;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::{self, CODE, FAINT, GOOD, STRONG, paint};
use crate::rehearsal::own::first_line;
use agent::Agent;
use stage::{Answer, Stage};
use table::{Expected, Outcome, Table};
use theft::Theft;

const AGENT: &str = "support-bot";
const SPONSOR: &str = "ada@company.example";

/// Arguments of the demonstration.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The command of an MCP server that shows the files of a folder; the folder is added to it
    #[arg(last = true, required = true)]
    server_command: Vec<String>,
}

/// Tells the story.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the demonstration cannot be started: {error}")))?;
    runtime.block_on(async {
        let mut stage = Stage::new(&args.server_command)?;
        let told = tokio::select! {
            told = story(&mut stage) => told,
            _ = tokio::signal::ctrl_c() => Err(Failure::new("interrupted")),
        };
        // Whatever happened: nothing is left running.
        let stopped = stage.stop().await;
        told.and(stopped)
    })
}

async fn story(stage: &mut Stage) -> Result<(), Failure> {
    let mut table = Table::default();
    waiting("starting Sallyport");
    let millis = stage.start().await?.as_millis();
    output::line(format_args!(
        "\n{}\n{}",
        paint(
            GOOD.bold(),
            "One agent, one ticket, and everything that must not work"
        ),
        paint(
            FAINT,
            format_args!(
                "a real Sallyport (ready after {millis} ms), a real agent behind `sallyport connect`,\n\
                 and the official MCP filesystem server with tickets/4711, tickets/4712 and payroll"
            )
        )
    ))?;
    let instance = identity(stage, &mut table).await?;
    let (mut agent, task) = work(stage, &mut table, &instance).await?;
    outside(stage, &mut table, &mut agent).await?;
    stolen(stage, &mut table, &instance, task).await?;
    afterwards(stage, &mut table, agent, task).await?;
    evidence(stage, &mut table).await?;
    what_next()
}

/// Says what takes a moment, to a person only.
fn waiting(what: &str) {
    if std::io::stderr().is_terminal() {
        output::note(paint(FAINT, format_args!("{what} …")));
    }
}

/// The agent gets an identity of its own.
async fn identity(stage: &Stage, table: &mut Table) -> Result<PathBuf, Failure> {
    table.part("An identity of its own")?;
    let registered = stage
        .run(
            &["agent", "register", AGENT, "--sponsor", SPONSOR, "--json"],
            &[],
        )
        .await?
        .ok()?;
    let identity = registered["agent"]["spiffe_id"]
        .as_str()
        .unwrap_or_default();
    table.step(
        &format!("{SPONSOR} registers {AGENT}"),
        Expected::Allowed("spiffe://company.example/agent/support-bot"),
        &Outcome::Allowed(identity.to_owned()),
    )?;
    let token = registered["enrolment"]["token"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let first = stage.path("instance");
    let enrolled = enroll(stage, &first, &token).await?;
    let about = std::fs::read_to_string(first.join("instance.json")).unwrap_or_default();
    let about: Value = serde_json::from_str(&about).unwrap_or_default();
    let id = about["id"].as_str().unwrap_or_default();
    table.step(
        "the agent enrols with a one-time token",
        Expected::Allowed("inst_"),
        &if enrolled.code == 0 {
            Outcome::Allowed(format!("{id}, with a key that never leaves it"))
        } else {
            Outcome::refused("enrolment_refused", first_line(&enrolled.said))
        },
    )?;
    let again = enroll(stage, &stage.path("second"), &token).await?;
    table.step(
        "somebody enrols with the same token again",
        Expected::Refused("enrolment_refused"),
        &if again.code == 0 {
            Outcome::Allowed("enrolled".to_owned())
        } else {
            Outcome::refused(
                "enrolment_refused",
                first_line(&again.said)
                    .rsplit("): ")
                    .next()
                    .unwrap_or_default(),
            )
        },
    )?;
    Ok(first)
}

async fn enroll(stage: &Stage, folder: &Path, token: &str) -> Result<Answer, Failure> {
    let folder = folder.to_string_lossy();
    let arguments = [
        "agent",
        "enroll",
        "--control",
        &stage.control,
        "--instance",
        &folder,
    ];
    stage
        .run(&arguments, &[("SALLYPORT_ENROLMENT_TOKEN", token)])
        .await
}

/// The agent does the work of one ticket.
async fn work(
    stage: &Stage,
    table: &mut Table,
    instance: &Path,
) -> Result<(Agent, TaskId), Failure> {
    table.part("A task for one ticket: what the work needs")?;
    waiting("starting the MCP server");
    let folder = instance.to_string_lossy();
    let connector = stage.command(&[
        "connect",
        "files",
        "--instance",
        &folder,
        "--template",
        "ticket",
        "--param",
        "ticket=4711",
        "--purpose",
        "Answer Bo's question",
    ]);
    let (mut agent, server) = Agent::connect(connector).await?;
    let tasks = stage
        .run(&["task", "list", "--agent", AGENT, "--json"], &[])
        .await?
        .ok()?;
    let id = tasks[0]["id"].as_str().unwrap_or_default();
    let task = TaskId::parse(id).map_err(|error| Failure::new(error.to_string()))?;
    let until = tasks[0]["expires_at"]
        .as_str()
        .and_then(|until| until.parse().ok());
    let until = until.map(output::instant).unwrap_or_default();
    table.step(
        "opens a task: template `ticket`, ticket=4711",
        Expected::Allowed("task_"),
        &Outcome::Allowed(format!("{task} until {until}")),
    )?;
    let mut tools = agent.tools().await?;
    tools.sort();
    table.step(
        &format!("lists the tools of {server}"),
        Expected::Allowed("sees only list_directory, read_text_file"),
        &Outcome::Allowed(format!("sees only {}", tools.join(", "))),
    )?;
    let ticket = stage.company().join("tickets/4711");
    let listed = agent
        .call("list_directory", json!({ "path": ticket }))
        .await?;
    table.step(
        "list_directory tickets/4711",
        Expected::Allowed("ticket.txt"),
        &listed,
    )?;
    let read = agent
        .call(
            "read_text_file",
            json!({ "path": ticket.join("ticket.txt") }),
        )
        .await?;
    table.step(
        "read_text_file tickets/4711/ticket.txt",
        Expected::Allowed("lamp"),
        &read,
    )?;
    Ok((agent, task))
}

/// The same agent, with the same identity, tries what its task does not need.
async fn outside(stage: &Stage, table: &mut Table, agent: &mut Agent) -> Result<(), Failure> {
    table.part("The same agent, talked into more than its task needs")?;
    let company = stage.company();
    for (shown, path) in [
        ("payroll/salaries.csv", company.join("payroll/salaries.csv")),
        (
            "tickets/4711/../../payroll/salaries.csv",
            company.join("tickets/4711/../../payroll/salaries.csv"),
        ),
        (
            "tickets/4712/ticket.txt",
            company.join("tickets/4712/ticket.txt"),
        ),
    ] {
        let refused = agent
            .call("read_text_file", json!({ "path": path }))
            .await?;
        let tried = format!("read_text_file {shown}");
        table.step(&tried, Expected::Refused("argument_refused"), &refused)?;
    }
    let written = company.join("tickets/4711/reply.txt");
    let refused = agent
        .call("write_file", json!({ "path": written, "content": "Yes." }))
        .await?;
    table.step(
        "write_file tickets/4711/reply.txt",
        Expected::Refused("not_granted"),
        &refused,
    )?;
    if written.exists() {
        return Err(Failure::new(
            "the file was written although the call was refused",
        ));
    }
    Ok(())
}

/// Somebody copied the agent's token.
async fn stolen(
    stage: &Stage,
    table: &mut Table,
    instance: &Path,
    task: TaskId,
) -> Result<(), Failure> {
    table.part("A copy of its token, used from elsewhere")?;
    let theft = Theft::new(stage, instance, task).await?;
    let (own, again) = theft.replay().await?;
    let refused = Expected::Refused("unauthenticated");
    table.step(
        "the agent calls, with a proof for this call",
        Expected::Allowed("200"),
        &own,
    )?;
    table.step(
        "the same request again, recorded on the way",
        refused,
        &again,
    )?;
    table.step(
        "the token, with a proof by another key",
        refused,
        &theft.other_key().await?,
    )?;
    table.step("the token alone", refused, &theft.bare().await?)
}

/// The work is done, and so is the access.
async fn afterwards(
    stage: &Stage,
    table: &mut Table,
    mut agent: Agent,
    task: TaskId,
) -> Result<(), Failure> {
    table.part("The work is done, and so is the access")?;
    let id = task.to_string();
    let completed = stage
        .run(&["task", "complete", &id, "--json"], &[])
        .await?
        .ok()?;
    let status = completed["status"].as_str().unwrap_or_default().to_owned();
    table.step(
        "the task is completed",
        Expected::Allowed("completed"),
        &Outcome::Allowed(status),
    )?;
    let path = stage.company().join("tickets/4711/ticket.txt");
    let late = agent
        .call("read_text_file", json!({ "path": path }))
        .await?;
    table.step(
        "read_text_file tickets/4711/ticket.txt, once more",
        Expected::Refused("task_not_open"),
        &late,
    )?;
    agent.leave().await
}

/// Everything is on record, and nobody can change that unnoticed.
async fn evidence(stage: &mut Stage, table: &mut Table) -> Result<(), Failure> {
    table.part("Evidence that nobody can change unnoticed")?;
    // In the log of a stopped process nothing moves any more.
    stage.stop().await?;
    let denied = stage
        .run(
            &[
                "audit", "query", "--agent", AGENT, "--text", "payroll", "--json",
            ],
            &[],
        )
        .await?;
    let record = denied.json["index"].as_u64();
    let verified = stage.run(&["audit", "verify", "--json"], &[]).await?;
    let records = verified.json["records"].as_u64().unwrap_or_default();
    if verified.code != 0 || records == 0 {
        return Err(Failure::new(format!(
            "the log does not verify: {}",
            verified.said
        )));
    }
    table.seen(
        "an auditor verifies the whole log",
        "verified",
        &format!("{records} records, signed checkpoint"),
    )?;
    let file = forgery::change_one_byte(&stage.path("data/log"), "payroll")?;
    let name = file
        .strip_prefix(stage.path("data/log"))
        .unwrap_or(&file)
        .display()
        .to_string();
    table.seen(
        "somebody changes one byte on the disk",
        "changed",
        &format!("in {name}"),
    )?;
    let broken = stage.run(&["audit", "verify", "--json"], &[]).await?;
    let problems = broken.json["problems"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let problem = problems.iter().find(|problem| problem["record"].is_u64());
    let named = problem.and_then(|problem| problem["record"].as_u64());
    if broken.code != 3 || named.is_none() {
        return Err(Failure::new(format!(
            "the change was not noticed: {}",
            broken.said
        )));
    }
    if named != record {
        return Err(Failure::new(format!(
            "record {record:?} was changed, but {named:?} is named"
        )));
    }
    let what = problem
        .and_then(|problem| problem["problem"].as_str())
        .unwrap_or_default();
    let told = format!("record {}: {what}", named.unwrap_or_default());
    table.seen("the auditor verifies again", "broken", &told)
}

fn what_next() -> Result<(), Failure> {
    output::line(format_args!("\n{}", paint(STRONG, "Try it yourself:")))?;
    for (command, what) in [
        (
            "cargo run -p sallyport -- init my-gateway",
            "a commented configuration to start from",
        ),
        ("cargo run -p sallyport -- --help", "every command"),
        (
            "docs/",
            "what can be configured, and what each decision follows from",
        ),
    ] {
        output::line(format_args!(
            "  {}  {}",
            paint(CODE, format_args!("{command:<42}")),
            paint(FAINT, what)
        ))?;
    }
    Ok(())
}
