//! `sallyport vault`: content that is kept for investigation.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use control::api::{Because, KeptPayload, KeptTask, OpenedPayload, Page, ShowKept};
use model::{DecisionId, TaskId};
use zeroize::Zeroizing;

use crate::client::{Client, ControlArgs};
use crate::failure::Failure;
use crate::output::{self, FAINT, STRONG, instant, paint, state};

/// Arguments of `sallyport vault`.
#[derive(clap::Args)]
#[command(after_help = "\
Servers with `record_content = \"sealed\"` have what passes kept, each task's under a key of its own.
Whoever looks is on record; destroying a task's key destroys what is kept of it, while the log still
verifies.

Examples:
  sallyport vault list
  sallyport vault show dec_0190b6a0000070008000000000000000
  sallyport vault destroy task_0190b6a0000070008000000000000000 --because 'request for erasure 17'")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the tasks of which content is kept, or what is kept of one
    List(List),
    /// Show what is kept of one decision; that you looked is on record
    Show(Show),
    /// Destroy everything that is kept of a task, for good
    Destroy(Destroy),
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport vault list --limit 500
  sallyport vault list task_0190b6a0000070008000000000000000 --json")]
struct List {
    /// The task whose content is listed
    task: Option<TaskId>,
    /// At most this many tasks
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Agents and servers chose what is shown: control characters are replaced, unless it is written to a file.

Examples:
  sallyport vault show dec_0190b6a0000070008000000000000000
  sallyport vault show dec_0190b6a0000070008000000000000000 --part answer -o answer.json")]
struct Show {
    /// The decision, as the log names it
    decision: DecisionId,
    /// One part only: `arguments`, `request` or `answer`
    #[arg(long)]
    part: Option<String>,
    /// Write the content of one part into this new file, as it is
    #[arg(short, long, value_name = "FILE", requires = "part")]
    output: Option<PathBuf>,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  sallyport vault destroy task_0190b6a0000070008000000000000000 --because 'request for erasure 17'"
)]
struct Destroy {
    /// The task
    task: TaskId,
    /// Why, in words; it is on record
    #[arg(long)]
    because: String,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::List(args) => match &args.task {
            Some(task) => payloads(args, task),
            None => tasks(args),
        },
        Command::Show(args) => show(args),
        Command::Destroy(args) => destroy(args),
    }
}

fn tasks(args: &List) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let tasks: Vec<KeptTask> = client.list("/v1/vault/tasks", &[], args.limit)?;
    if args.json {
        return output::json(&tasks);
    }
    let rows = tasks.iter().map(|kept| {
        vec![
            kept.task.to_string(),
            kept.agent.to_string(),
            kept.payloads.to_string(),
            output::bytes(kept.bytes),
            condition(kept).to_owned(),
        ]
    });
    output::table(
        &["task", "agent", "payloads", "size", "state"],
        rows.collect(),
        "nothing is kept; a server with `record_content = \"sealed\"` has its content kept",
    )
}

fn condition(kept: &KeptTask) -> &'static str {
    if kept.destroyed { "destroyed" } else { "kept" }
}

fn payloads(args: &List, task: &TaskId) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let page: Page<KeptPayload> = client.get(&format!("/v1/vault/tasks/{task}"))?;
    if args.json {
        return output::json(&page.items);
    }
    let rows = page.items.iter().map(|kept| {
        vec![
            instant(kept.time),
            kept.decision.to_string(),
            output::visible(&kept.part),
            size(kept),
        ]
    });
    output::table(
        &["sealed", "decision", "part", "size"],
        rows.collect(),
        "nothing is kept of this task",
    )
}

fn size(kept: &KeptPayload) -> String {
    if kept.kept < kept.bytes {
        let (kept, whole) = (output::bytes(kept.kept), output::bytes(kept.bytes));
        format!("{kept} of {whole}")
    } else {
        output::bytes(kept.bytes)
    }
}

fn show(args: &Show) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let wanted = ShowKept {
        part: args.part.clone(),
    };
    let path = format!("/v1/vault/decisions/{}/show", args.decision);
    let opened: Vec<OpenedPayload> = client.post(&path, &wanted)?;
    if args.json {
        return output::json(&opened);
    }
    if let Some(file) = &args.output {
        return save(file, &opened);
    }
    for (position, opened) in opened.iter().enumerate() {
        if position > 0 {
            output::line("")?;
        }
        let kept = &opened.payload;
        let about = format!("{}, {}", instant(kept.time), size(kept));
        output::line(format_args!(
            "{} {}",
            paint(STRONG, output::visible(&kept.part)),
            paint(FAINT, about)
        ))?;
        if let Some(hash) = &kept.hash {
            output::line(paint(FAINT, format_args!("hash {}", output::visible(hash))))?;
        }
        match &opened.text {
            Some(text) => text
                .lines()
                .try_for_each(|line| output::line(output::visible(line)))?,
            None => output::line(paint(
                FAINT,
                "not text: `--part` and `-o FILE` write it into a file",
            ))?,
        }
    }
    Ok(())
}

/// Writes what is kept of one part into a new file for the owner only.
fn save(file: &PathBuf, opened: &[OpenedPayload]) -> Result<(), Failure> {
    let mut content = Zeroizing::new(Vec::new());
    for opened in opened {
        match (&opened.text, &opened.base64) {
            (Some(text), _) => content.extend_from_slice(text.as_bytes()),
            (None, base64) => {
                let bytes = STANDARD.decode(base64.as_deref().unwrap_or_default());
                let bytes = bytes.map_err(|error| {
                    Failure::new(format!("the answer cannot be understood: {error}"))
                })?;
                content.extend_from_slice(&bytes);
            }
        }
    }
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| file.write_all(&content));
    written.map_err(|error| {
        Failure::new(format!("{} cannot be written: {error}", file.display()))
            .hint("name a file that does not exist yet")
    })?;
    output::note(format_args!(
        "{} is in {}",
        output::bytes(content.len() as u64),
        file.display()
    ));
    Ok(())
}

fn destroy(args: &Destroy) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let why = Because {
        because: Some(args.because.clone()),
    };
    let path = format!("/v1/vault/tasks/{}/destroy", args.task);
    let kept: KeptTask = client.post(&path, &why)?;
    if args.json {
        return output::json(&kept);
    }
    output::line(format_args!(
        "what was kept of {} is {}: {} payloads",
        kept.task,
        state(condition(&kept)),
        kept.payloads
    ))
}
