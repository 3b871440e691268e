//! `sallyport audit verify` and `checkpoint`: that the log is as it was written.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use ::audit::{Checkpoint, Problem, Reader, Report, VerifierKey};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{LogArgs, unreadable, verifier};
use crate::failure::Failure;
use crate::output::{self, BAD, FAINT, GOOD, STRONG, WARN, paint};

/// Most problems that are shown to a person; JSON has all.
const SHOWN: usize = 20;

/// Arguments of `sallyport audit verify`.
#[derive(clap::Args)]
#[command(after_help = "\
Recomputes every hash from the records, and compares them with the signed checkpoint. A checkpoint
that was kept elsewhere shows that nothing before it was rewritten or dropped; a verifier key that
was kept elsewhere shows that it is the right log.

Examples:
  sallyport audit verify
  sallyport audit verify --checkpoint checkpoint-2026-11-23
  sallyport audit verify --dir /evidence/log --vkey log.vkey --json
  sallyport audit verify --evidence run_019a-0-0.evidence.json --vkey log.vkey")]
pub(super) struct VerifyArgs {
    /// Verify the records in a file of evidence instead, without the log
    #[arg(long, value_name = "FILE", conflicts_with_all = ["checkpoint", "dir"])]
    evidence: Option<PathBuf>,
    /// A checkpoint of this log that was kept elsewhere
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The log's verifier key, as text or a file; by default the one in the log's own folder
    #[arg(long, value_name = "KEY", value_parser = verifier)]
    vkey: Option<VerifierKey>,
    #[command(flatten)]
    log: LogArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `sallyport audit checkpoint`.
#[derive(clap::Args)]
#[command(after_help = "\
Keep it where whoever runs Sallyport cannot write: a later `audit verify --checkpoint FILE` shows
that nothing before it was rewritten or dropped.

Example:
  sallyport audit checkpoint > checkpoint-$(date +%F)")]
pub(super) struct CheckpointArgs {
    #[command(flatten)]
    log: LogArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Verifies the log.
pub(super) fn verify(args: &VerifyArgs) -> Result<(), Failure> {
    if let Some(file) = &args.evidence {
        return super::bundle::verify(file, args.vkey.as_ref(), args.json);
    }
    let reader = args.log.open(args.vkey.clone())?;
    let kept = args
        .checkpoint
        .as_ref()
        .map(|file| kept(file, &reader))
        .transpose()?;
    let report = {
        let bar = progress(args.json);
        let report = reader.verify(kept.as_ref(), &mut |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        report.map_err(|error| unreadable(&error))?
    };
    if args.json {
        print_json(&report)?;
    } else {
        print(&report, &reader, kept.as_ref())?;
    }
    if report.is_good() {
        return Ok(());
    }
    let count = report.problems.len() as u64 + report.more_problems;
    let (count, verb) = match count {
        1 => ("1 place".to_owned(), "is"),
        many => (format!("{many} places"), "are"),
    };
    Err(Failure::not_verified(format!(
        "the log does not verify: {count} {verb} not as written"
    ))
    .hint("keep this log as evidence, find out who could write to it, and restore it from a copy"))
}

/// A bar on a terminal, when it takes longer than a moment.
fn progress(json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("verifying {bar:30} {human_pos}/{human_len} records  {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(0).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A checkpoint that was kept elsewhere. That it does not fit is a finding, not a wrong command.
fn kept(file: &PathBuf, reader: &Reader) -> Result<Checkpoint, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("{} cannot be read: {error}", file.display())))?;
    Checkpoint::verify(&text, reader.verifier()).map_err(|error| {
        Failure::not_verified(format!(
            "{} is no checkpoint of this log: {error}",
            file.display()
        ))
        .hint("either it is of another log, or this log was replaced by another one")
    })
}

fn print(report: &Report, reader: &Reader, kept: Option<&Checkpoint>) -> Result<(), Failure> {
    for problem in report.problems.iter().take(SHOWN) {
        output::line(in_words(problem))?;
    }
    let more = report.more_problems + report.problems.len().saturating_sub(SHOWN) as u64;
    if more > 0 {
        output::line(paint(
            FAINT,
            format_args!("and {more} more; `--json` has them"),
        ))?;
    }
    if !report.is_good() {
        return Ok(());
    }
    let mut rows = vec![
        (
            "verified",
            paint(
                GOOD.bold(),
                format_args!("{} records, all as they were written", report.size),
            ),
        ),
        ("checkpoint", format!("over {} records", report.covered)),
    ];
    if report.size > report.covered {
        let rest = format!(
            "{} newest records are not covered yet",
            report.size - report.covered
        );
        rows.push(("", paint(WARN, rest)));
    }
    if let Some(root) = report.root {
        rows.push(("root", root.to_string()));
    }
    rows.push(("log", reader.verifier().to_string()));
    if let Some(kept) = kept {
        rows.push((
            "kept",
            format!(
                "nothing was rewritten since the checkpoint over {}",
                kept.size()
            ),
        ));
    }
    output::sheet(&rows)
}

fn in_words(problem: &Problem) -> String {
    let what = match problem.index {
        Some(index) => format!("record {index}"),
        None => "the log".to_owned(),
    };
    format!(
        "{} {}  {}",
        paint(BAD.bold(), format_args!("{what}:")),
        paint(STRONG, output::visible(&problem.what)),
        paint(FAINT, output::visible(&problem.file)),
    )
}

fn print_json(report: &Report) -> Result<(), Failure> {
    let problems: Vec<_> = report
        .problems
        .iter()
        .map(|problem| {
            json!({ "record": problem.index, "file": problem.file, "problem": problem.what })
        })
        .collect();
    output::json(&json!({
        "ok": report.is_good(),
        "records": report.size,
        "covered": report.covered,
        "root": report.root.map(|root| root.to_string()),
        "checkpoint": report.checkpoint.as_ref().map(Checkpoint::note),
        "problems": problems,
        "more_problems": report.more_problems,
    }))
}

/// Prints the present checkpoint.
pub(super) fn checkpoint(args: &CheckpointArgs) -> Result<(), Failure> {
    let reader = args.log.open(None)?;
    let checkpoint = reader.checkpoint().ok_or_else(|| {
        Failure::new("the log has no checkpoint that its key has signed")
            .hint("one is signed a moment after each record; `sallyport audit verify` looks closer")
    })?;
    if args.json {
        return output::json(&json!({
            "origin": checkpoint.origin(),
            "size": checkpoint.size(),
            "root": checkpoint.root().to_string(),
            "note": checkpoint.note(),
            "vkey": reader.verifier().to_string(),
        }));
    }
    output::line(checkpoint.note().trim_end())
}
