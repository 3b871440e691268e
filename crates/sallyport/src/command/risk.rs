//! `sallyport agent risk`: how bad an agent looks, and what an operator says about it.

use control::api::{Because, Changed, Risk, SetRisk};
use model::AgentName;

use super::findings::days;
use crate::client::{Client, ControlArgs};
use crate::failure::Failure;
use crate::output::{self, BAD, FAINT, GOOD, STRONG, WARN, instant, paint, visible};

/// Arguments of `sallyport agent risk`.
#[derive(clap::Args)]
#[command(after_help = "\
Policies see the score as `context.risk`, from 0 to 100. What is set is the least: findings may raise it.

Examples:
  sallyport agent risk triage
  sallyport agent risk triage --set 80 --for 12h --because 'seen in another system'
  sallyport agent risk triage --clear --because 'looked into, was a test'")]
#[command(group(clap::ArgGroup::new("what").args(["set", "clear"])))]
pub(crate) struct Args {
    /// The agent
    name: AgentName,
    /// Set its least score, 0 to 100, for the very next decision
    #[arg(long, value_name = "SCORE", value_parser = clap::value_parser!(u8).range(0..=100))]
    set: Option<u8>,
    /// For how long; until it is cleared when this is not given
    #[arg(long = "for", value_name = "DURATION", value_parser = days, requires = "set")]
    time: Option<std::time::Duration>,
    /// Forget what it and its tasks did, as far as the score goes, and what was set
    #[arg(long)]
    clear: bool,
    /// Why, in words; it stands in the record
    #[arg(long, requires = "what")]
    because: Option<String>,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let path = format!("/v1/agents/{}/risk", args.name);
    let mut warnings = Vec::new();
    let risk: Risk = match (args.set, args.clear) {
        (Some(score), _) => {
            let request = SetRisk {
                score,
                ttl_seconds: args.time.map(|time| time.as_secs()),
                because: args.because.clone().unwrap_or_default(),
            };
            let changed: Changed<Risk> = client.post(&path, &request)?;
            warnings = changed.warnings;
            changed.now
        }
        (None, true) => {
            let request = Because {
                because: args.because.clone(),
            };
            client.post(&format!("{path}/clear"), &request)?
        }
        (None, false) => client.get(&path)?,
    };
    if args.json {
        output::json(&risk)?;
    } else {
        sheet(&risk)?;
    }
    super::warn(&warnings);
    Ok(())
}

/// A score in the colour of its meaning.
pub(super) fn score(score: u8) -> String {
    let style = match score {
        0..20 => GOOD,
        20..60 => WARN,
        _ => BAD,
    };
    paint(style, score)
}

fn sheet(risk: &Risk) -> Result<(), Failure> {
    let mut rows = vec![
        ("agent", paint(STRONG, &risk.agent)),
        ("risk", format!("{} of 100", score(risk.score))),
    ];
    if let Some(floor) = &risk.floor {
        let until = floor
            .until
            .map_or_else(|| "it is cleared".to_owned(), instant);
        rows.push((
            "set",
            format!(
                "at least {} by {} until {until}  {}",
                floor.score,
                floor.by,
                paint(FAINT, visible(&floor.reason))
            ),
        ));
    }
    let tasks: Vec<String> = risk
        .tasks
        .iter()
        .map(|task| format!("{}  {}", task.task, score(task.score)))
        .collect();
    if !tasks.is_empty() {
        rows.push(("tasks", tasks.join("\n")));
    }
    output::sheet(&rows)
}
