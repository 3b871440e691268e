//! `sallyport playbook`: procedures for incidents, and their runs.

use std::path::PathBuf;

use clap::Subcommand;
use control::api::{AnswerStep, BeginRun, Playbook, PlaybookText, Run};
use model::{AgentName, SegmentName, ServerName, TaskId};
use response::Modes;
use response::playbook::procedure;
use response::run::{About, Answer};
use serde_json::json;

use crate::client::{Client, ControlArgs};
use crate::failure::Failure;
use crate::output::{self, BAD, FAINT, GOOD, STRONG, instant, paint, state};
use crate::setup;

/// Arguments of `sallyport playbook`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport playbook list
  sallyport playbook show prompt-injection          the procedure, as people read it
  sallyport playbook run prompt-injection --incident 7 --dry-run
  sallyport playbook run credential-theft --agent triage
  sallyport playbook runs --open                    what waits for a person")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the playbooks
    List(List),
    /// Show a playbook as a procedure
    Show(Show),
    /// Run a playbook
    Run(RunArgs),
    /// Check a playbook in a file
    Check(Check),
    /// List runs
    Runs(Runs),
    /// Show a run, step by step
    Status(One),
    /// Let a step be done that waits for approval
    Approve(Say),
    /// Say that a step is not to be done; the run goes on without it
    Reject(Say),
    /// Say that you have done what a step asked you to do
    Done(Say),
    /// Say that what a step asked you to do could not be done
    Failed(Say),
    /// End a run; what was done stays done
    Abort(One),
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport playbook list --json | jq -r '.[].name'")]
struct List {
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport playbook show prompt-injection
  sallyport playbook show prompt-injection --document > playbooks/prompt-injection.json")]
struct Show {
    /// The playbook
    name: String,
    /// Print the document itself (CACAO 2.0)
    #[arg(long, conflicts_with = "json")]
    document: bool,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
What an incident names is filled in from it; what else is known can be said too.

Examples:
  sallyport playbook run prompt-injection --incident 7
  sallyport playbook run scope-violation --agent triage --severity high --dry-run
  sallyport playbook run tool-poisoning --server files --tool read_file")]
struct RunArgs {
    /// The playbook
    name: String,
    /// The incident that it is about
    #[arg(long, value_name = "NUMBER")]
    incident: Option<u64>,
    /// The agent that it is about
    #[arg(long)]
    agent: Option<AgentName>,
    /// The task that it is about
    #[arg(long)]
    task: Option<TaskId>,
    /// The server that it is about
    #[arg(long)]
    server: Option<ServerName>,
    /// The tool, endpoint, model or skill that it is about
    #[arg(long)]
    tool: Option<String>,
    /// The segment that it is about
    #[arg(long)]
    segment: Option<SegmentName>,
    /// How bad it is: info, low, medium, high or critical
    #[arg(long, value_parser = ["info", "low", "medium", "high", "critical"])]
    severity: Option<String>,
    /// What happened, in words
    #[arg(long)]
    summary: Option<String>,
    /// Do nothing, and show what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Ends with 1 when the playbook is not one that can be run here.

Example:
  sallyport playbook check playbooks/leaver.json")]
struct Check {
    /// The file
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport playbook runs --open")]
struct Runs {
    /// Only those that are not over
    #[arg(long)]
    open: bool,
    /// Show at most this many
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport playbook status run_019abc12d3e4f5061728394a")]
struct One {
    /// The run
    run: String,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport playbook approve run_019abc12d3e4f5061728394a 3 --by ada
  sallyport playbook done run_019abc12d3e4f5061728394a 6 --note 'the mail was deleted'")]
struct Say {
    /// The run
    run: String,
    /// The step, by its number in the run
    step: usize,
    /// Who says so; it stands in the record
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Why, or what came of it; it stands in the record
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
        Command::Run(args) => begin(args),
        Command::Check(args) => check(args),
        Command::Runs(args) => runs(args),
        Command::Status(args) => status(args),
        Command::Approve(args) => say(args, Answer::Approve),
        Command::Reject(args) => say(args, Answer::Reject),
        Command::Done(args) => say(args, Answer::Done),
        Command::Failed(args) => say(args, Answer::Failed),
        Command::Abort(args) => abort(args),
    }
}

fn list(args: &List) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let playbooks: Vec<Playbook> = client.list("/v1/playbooks", &[], usize::MAX)?;
    if args.json {
        return output::json(&playbooks);
    }
    let rows = playbooks.iter().map(|playbook| {
        vec![
            playbook.name.clone(),
            output::visible(&playbook.title),
            if playbook.bundled { "bundled" } else { "yours" }.to_owned(),
            playbook.acts.join(", "),
        ]
    });
    output::table(
        &["playbook", "title", "from", "what it can do"],
        rows.collect(),
        "no playbooks",
    )
}

fn show(args: &Show) -> Result<(), Failure> {
    let text = match Client::new(&args.control) {
        Ok(client) => client.get::<PlaybookText>(&format!("/v1/playbooks/{}", args.name)),
        Err(failure) => Err(failure),
    };
    let text = match (text, bundled(&args.name)) {
        (Ok(text), _) => text,
        // A procedure is worth most when nothing works any more.
        (Err(_), Some(text)) => text,
        (Err(failure), None) => return Err(failure),
    };
    if args.document {
        return output::json(&text.document);
    }
    if args.json {
        return output::json(&text);
    }
    output::line(text.procedure.trim_end())
}

/// A playbook that comes with the program, without asking anybody.
fn bundled(name: &str) -> Option<PlaybookText> {
    let all = setup::bundled_playbooks();
    let known = all.get(name)?;
    let playbook = &known.playbook;
    Some(PlaybookText {
        playbook: Playbook {
            name: name.to_owned(),
            title: playbook.name.clone(),
            description: playbook.description.clone(),
            severity: playbook.severity,
            labels: playbook.labels.clone(),
            acts: playbook.acts().into_iter().map(str::to_owned).collect(),
            bundled: true,
            hash: playbook.hash.clone(),
        },
        procedure: procedure::of(playbook, name, &Modes::default()),
        document: serde_json::from_str(&known.text).ok()?,
    })
}

fn check(args: &Check) -> Result<(), Failure> {
    let text = std::fs::read_to_string(&args.file).map_err(|error| {
        Failure::new(format!("{} cannot be read: {error}", args.file.display()))
    })?;
    let parsed = response::Playbook::parse(&text);
    if args.json {
        let wrong = parsed.as_ref().err().cloned().unwrap_or_default();
        let wrong: Vec<_> = wrong
            .iter()
            .map(|it| json!({ "place": it.place, "what": it.what }))
            .collect();
        output::json(&json!({ "ok": wrong.is_empty(), "mistakes": wrong }))?;
    }
    match parsed {
        Ok(playbook) => {
            if args.json {
                return Ok(());
            }
            let name = args.file.file_stem().unwrap_or_default().to_string_lossy();
            let steps = playbook.steps.len();
            output::line(format_args!(
                "{} {steps} steps; it can: {}\n",
                paint(GOOD, "sound:"),
                playbook.acts().join(", ")
            ))?;
            output::line(procedure::of(&playbook, &name, &Modes::default()).trim_end())
        }
        Err(wrong) => {
            if !args.json {
                for one in &wrong {
                    let place = paint(BAD.bold(), format_args!("{}:", output::visible(&one.place)));
                    output::line(format_args!("{place} {}", output::visible(&one.what)))?;
                }
            }
            Err(Failure::new(format!(
                "{} mistakes in {}",
                wrong.len(),
                args.file.display()
            ))
            .hint("docs/response.md says which part of CACAO 2.0 is carried out"))
        }
    }
}

fn begin(args: &RunArgs) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let wanted = BeginRun {
        about: About {
            incident: args.incident.map(|id| id.to_string()),
            agent: args.agent.clone(),
            task: args.task,
            server: args.server.clone(),
            tool: args.tool.clone(),
            segment: args.segment.clone(),
            severity: args.severity.clone(),
            summary: args.summary.clone(),
        },
        dry: args.dry_run,
    };
    let begun: Run = client.post(&format!("/v1/playbooks/{}/run", args.name), &wanted)?;
    // It goes on by itself; what can be done at once is done in a moment.
    let mut run = begun;
    for _ in 0..50 {
        if run.dry || run.state != response::run::State::Running {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        run = client.get(&format!("/v1/runs/{}", run.id))?;
    }
    print(&run, args.json)
}

fn runs(args: &Runs) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let open = args.open.then(|| "true".to_owned());
    let runs: Vec<Run> = client.list("/v1/runs", &[("open", open)], args.limit)?;
    if args.json {
        return output::json(&runs);
    }
    let rows = runs.iter().map(|run| {
        let waits = run.visits.iter().position(|visit| {
            use response::run::Progress;
            matches!(
                visit.state,
                Progress::AwaitsApproval | Progress::AwaitsPerson
            )
        });
        vec![
            run.id.clone(),
            run.playbook.clone(),
            state(run.state.as_str()),
            waits.map(|step| format!("step {step}")).unwrap_or_default(),
            about(run),
            instant(run.started_at),
        ]
    });
    output::table(
        &["run", "playbook", "state", "waits at", "about", "begun"],
        rows.collect(),
        "no runs; `sallyport playbook run NAME --incident NUMBER` begins one",
    )
}

fn about(run: &Run) -> String {
    let about = &run.about;
    let mut words = Vec::new();
    words.extend(about.incident.as_ref().map(|id| format!("incident {id}")));
    words.extend(about.agent.as_ref().map(ToString::to_string));
    words.extend(about.task.as_ref().map(ToString::to_string));
    words.extend(about.server.as_ref().map(ToString::to_string));
    words.join(", ")
}

fn status(args: &One) -> Result<(), Failure> {
    let run: Run = Client::new(&args.control)?.get(&format!("/v1/runs/{}", args.run))?;
    print(&run, args.json)
}

fn say(args: &Say, answer: Answer) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let said = AnswerStep {
        answer,
        by: args.by.clone(),
        note: args.note.clone(),
    };
    let run: Run = client.post(&format!("/v1/runs/{}/steps/{}", args.run, args.step), &said)?;
    print(&run, args.json)
}

fn abort(args: &One) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let run: Run = client.post(&format!("/v1/runs/{}/abort", args.run), &json!({}))?;
    print(&run, args.json)
}

fn print(run: &Run, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return output::json(run);
    }
    let dry = if run.dry { "  (nothing was done)" } else { "" };
    output::line(format_args!(
        "{}  {}  {}{dry}",
        paint(STRONG, &run.playbook),
        state(run.state.as_str()),
        paint(FAINT, &run.id),
    ))?;
    let about = about(run);
    if !about.is_empty() {
        output::line(paint(FAINT, about))?;
    }
    for (number, visit) in run.visits.iter().enumerate() {
        output::line(format_args!(
            "\n{number:>3}  {}  {}",
            paint(STRONG, output::visible(&visit.name)),
            state(visit.state.as_str())
        ))?;
        for act in &visit.acts {
            output::line(format_args!("     - {}", output::visible(&act.in_words())))?;
        }
        for item in &visit.checklist {
            output::line(format_args!("     [ ] {}", output::visible(item)))?;
        }
        if !visit.note.is_empty() {
            output::line(paint(
                FAINT,
                format_args!("     {}", output::visible(&visit.note)),
            ))?;
        }
        use response::run::Progress;
        let words = match visit.state {
            Progress::AwaitsApproval if !run.dry => Some("approve"),
            Progress::AwaitsPerson if !run.dry => Some("done"),
            _ => None,
        };
        if let Some(word) = words {
            let command = format!("sallyport playbook {word} {} {number}", run.id);
            output::line(format_args!("     {}", paint(output::CODE, command)))?;
        }
    }
    Ok(())
}
