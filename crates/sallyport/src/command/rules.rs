//! `sallyport rules`: the rules of the content detectors.

use std::io::Read;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use monitor::content::{Canaries, Place, Policy};
use monitor::{Finding, Severity};
use serde::Serialize;

use super::ConfigArg;
use crate::failure::Failure;
use crate::output::{self, BAD, FAINT, GOOD, STRONG, paint, severity};
use crate::setup;

/// Longest text that is read, in bytes.
const TEXT_BYTES: u64 = 64 << 20;
/// Longest example that is shown, in characters.
const EXAMPLE: usize = 100;

/// Arguments of `sallyport rules`.
#[derive(clap::Args)]
#[command(after_help = "\
Rules come with the program; `rules/*.toml` beside the configuration adds to them, or replaces those of the
same id. They are taken over like every other changed file.

Examples:
  sallyport rules list
  sallyport rules test                   every rule finds what it says it finds
  sallyport rules test answer.txt        what would be seen in a text")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the rules in use
    List(List),
    /// Try the rules on their own examples, or on a text
    Test(Test),
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  sallyport rules list --json | jq '.[] | select(.severity == \"high\").id'"
)]
struct List {
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Ends with 1 when an example does not come out as its rule says, or when something is seen in a text.

Examples:
  sallyport rules test
  curl -s https://example.org | sallyport rules test -
  sallyport rules test --place tool description.txt")]
struct Test {
    /// A text to look at; `-` reads standard input
    file: Option<PathBuf>,
    /// What the text is
    #[arg(long, value_enum, default_value_t = Kind::Result)]
    place: Kind,
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The definition of a tool
    Tool,
    /// The result of a tool, or an answer of an API
    Result,
    /// A prompt
    Prompt,
    /// A resource
    Resource,
    /// What goes to or comes from a model
    Model,
    /// What an agent asks for
    Arguments,
}

impl Kind {
    fn place(self) -> Place {
        match self {
            Self::Tool => Place::Tool,
            Self::Result => Place::Result,
            Self::Prompt => Place::Prompt,
            Self::Resource => Place::Resource,
            Self::Model => Place::Model,
            Self::Arguments => Place::Arguments,
        }
    }
}

/// A rule, for machines.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    severity: Severity,
    applies: Vec<&'static str>,
    explanation: &'a str,
    examples: usize,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::List(args) => list(args),
        Command::Test(args) => test(args),
    }
}

fn scanner(config: &ConfigArg) -> Result<std::sync::Arc<monitor::content::Scanner>, Failure> {
    if !config.config.exists() {
        return Ok(monitor::content::Scanner::shared());
    }
    setup::rules_alone(&config.config)
}

fn list(args: &List) -> Result<(), Failure> {
    let scanner = scanner(&args.config)?;
    let mut rules: Vec<Shown<'_>> = scanner
        .rules()
        .iter()
        .map(|rule| Shown {
            id: &rule.id,
            severity: rule.severity,
            applies: rule.applies.iter().map(|place| place.as_str()).collect(),
            explanation: &rule.explanation,
            examples: rule.matches.len() + rule.ignores.len(),
        })
        .collect();
    rules.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.id.cmp(b.id)));
    if args.json {
        return output::json(&rules);
    }
    let rows = rules.iter().map(|rule| {
        vec![
            rule.id.to_owned(),
            severity(rule.severity),
            rule.applies.join(" "),
            output::visible(rule.explanation),
        ]
    });
    output::table(
        &["rule", "severity", "looks at", "meaning"],
        rows.collect(),
        "no rules",
    )
}

fn test(args: &Test) -> Result<(), Failure> {
    let scanner = scanner(&args.config)?;
    let Some(file) = &args.file else {
        return examples(args, &scanner);
    };
    let text = text(file)?;
    let policy = Policy::default();
    let scan = scanner.scan(&text, args.place.place(), &Canaries::default(), &policy);
    if args.json {
        output::json(&scan.findings)?;
    } else if scan.findings.is_empty() {
        output::line(paint(GOOD, "nothing is seen in it"))?;
    } else {
        for finding in &scan.findings {
            show(finding)?;
        }
    }
    if scan.findings.is_empty() {
        Ok(())
    } else {
        Err(Failure::reported())
    }
}

fn examples(args: &Test, scanner: &monitor::content::Scanner) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Broken<'a> {
        rule: &'a str,
        text: &'a str,
        found: bool,
    }
    let broken = scanner.broken_examples();
    let count: usize = scanner
        .rules()
        .iter()
        .map(|rule| rule.matches.len() + rule.ignores.len())
        .sum();
    if args.json {
        let broken: Vec<Broken<'_>> = broken
            .iter()
            .map(|one| Broken {
                rule: one.rule,
                text: one.text,
                found: one.found,
            })
            .collect();
        output::json(&broken)?;
    } else {
        for one in &broken {
            let says = if one.found {
                "is found in"
            } else {
                "is not found in"
            };
            output::line(format_args!(
                "{} {says} {}",
                paint(STRONG, one.rule),
                monitor::text::escaped(one.text, EXAMPLE)
            ))?;
        }
        let rules = scanner.rules().len();
        output::line(match broken.len() {
            0 => paint(
                GOOD,
                format_args!("{rules} rules, {count} examples, all as they should be"),
            ),
            wrong => paint(
                BAD,
                format_args!("{wrong} of {count} examples come out otherwise"),
            ),
        })?;
    }
    if broken.is_empty() {
        Ok(())
    } else {
        Err(Failure::reported())
    }
}

fn text(file: &PathBuf) -> Result<String, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(format!("{} cannot be read: {error}", file.display()));
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin()
            .take(TEXT_BYTES)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    } else {
        let file = std::fs::File::open(file).map_err(failed)?;
        file.take(TEXT_BYTES)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn show(finding: &Finding) -> Result<(), Failure> {
    output::line(format_args!(
        "{} {}: {}",
        severity(finding.severity),
        paint(STRONG, &finding.rule),
        output::visible(&finding.explanation)
    ))?;
    if let Some(evidence) = &finding.evidence {
        output::line(format_args!(
            "  {} {}..{}: {}",
            output::visible(&evidence.place),
            evidence.start,
            evidence.end,
            paint(FAINT, output::visible(&evidence.quote))
        ))?;
    }
    Ok(())
}
