//! `sallyport audit prove` and `check-proof`: evidence of one record, for somebody without the log.

use std::path::PathBuf;

use ::audit::{InclusionProof, Proven, VerifierKey, check_proof};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::record::Record;
use serde_json::{Value, json};

use super::view::sheet;
use super::{LogArgs, unreadable, verifier};
use crate::failure::Failure;
use crate::output::{self, CODE, FAINT, GOOD, paint};

/// In front of the record: the format has a line for what belongs to a proof (C2SP tlog-proof).
const EXTRA: &str = "extra ";

/// Arguments of `sallyport audit prove`.
#[derive(clap::Args)]
#[command(after_help = "\
The proof has the record in it, and can be checked with nothing but the log's verifier key: with
`sallyport audit check-proof`, or any other program that knows C2SP tlog-proof.

Examples:
  sallyport audit prove 4711 -o incident-4711.proof
  sallyport audit prove 4711 | ssh auditor tee 4711.proof")]
pub(super) struct ProveArgs {
    /// The record's position in the log
    index: u64,
    /// Write it into this file; nothing is overwritten
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

/// Arguments of `sallyport audit check-proof`.
#[derive(clap::Args)]
#[command(after_help = "\
Ends with 3 when the proof does not hold.

Examples:
  sallyport audit check-proof incident-4711.proof --vkey log.vkey
  sallyport audit check-proof incident-4711.proof --vkey 'example.org/sallyport+7c…' --json")]
pub(super) struct CheckArgs {
    /// The proof
    file: PathBuf,
    /// The log's verifier key, as text or a file; have it from somebody you trust
    #[arg(long, value_name = "KEY", value_parser = verifier)]
    vkey: VerifierKey,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Makes a proof.
pub(super) fn prove(args: &ProveArgs) -> Result<(), Failure> {
    let reader = args.log.open(None)?;
    let proof = reader
        .prove(args.index)
        .map_err(|error| Failure::new(error.to_string()))?;
    let entry = reader
        .entries(args.index..args.index.saturating_add(1))
        .next();
    let (_, record) = entry
        .transpose()
        .map_err(|error| unreadable(&error))?
        .ok_or_else(|| Failure::new(format!("there is no record {}", args.index)))?;
    let text = with_record(&proof, &record);
    let Some(file) = &args.output else {
        return output::line(text.trim_end());
    };
    std::fs::File::create_new(file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|error| Failure::new(format!("{} cannot be written: {error}", file.display())))?;
    let command = format!("sallyport audit check-proof {} --vkey KEY", file.display());
    output::line(format_args!(
        "{} {}",
        paint(GOOD, "written to"),
        file.display()
    ))?;
    output::line(format_args!(
        "{}  {}",
        paint(FAINT, "check it with"),
        paint(CODE, command)
    ))?;
    output::line(format_args!(
        "{}  {}",
        paint(FAINT, "this log's key"),
        reader.verifier()
    ))
}

/// The text of a proof with the record in its extra line.
fn with_record(proof: &InclusionProof, record: &[u8]) -> String {
    let text = proof.to_string();
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    format!("{first}\n{EXTRA}{}\n{rest}", STANDARD.encode(record))
}

/// The record in a proof's extra line. It is believed only because the proof holds for it.
fn record_in(text: &str) -> Option<Vec<u8>> {
    let line = text.lines().nth(1)?.strip_prefix(EXTRA)?;
    STANDARD.decode(line).ok()
}

/// Checks a proof.
pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let text = std::fs::read_to_string(&args.file).map_err(|error| {
        Failure::new(format!("{} cannot be read: {error}", args.file.display()))
    })?;
    let record = record_in(&text).ok_or_else(|| {
        Failure::not_verified(format!("{} has no record in it", args.file.display()))
            .hint("make it with `sallyport audit prove INDEX -o FILE`")
    })?;
    let proven = check_proof(&text, &record, &args.vkey).map_err(|error| {
        Failure::not_verified(format!("{} does not hold: {error}", args.file.display()))
            .hint("do not rely on the record; see that it is the key of the right log")
    })?;
    print(&proven, &record, args.json)
}

fn print(proven: &Proven, record: &[u8], as_json: bool) -> Result<(), Failure> {
    let checkpoint = &proven.checkpoint;
    if as_json {
        let record: Value = serde_json::from_slice(record)
            .unwrap_or_else(|_| String::from_utf8_lossy(record).into_owned().into());
        return output::json(&json!({
            "ok": true,
            "index": proven.index,
            "origin": checkpoint.origin(),
            "size": checkpoint.size(),
            "root": checkpoint.root().to_string(),
            "record": record,
        }));
    }
    output::line(format_args!(
        "{} record {} is in the log {}\n",
        paint(GOOD.bold(), "proved:"),
        proven.index,
        checkpoint.origin()
    ))?;
    match serde_json::from_slice::<Record>(record) {
        Ok(record) => output::sheet(&sheet(proven.index, &record)),
        Err(_) => output::line(output::visible(&String::from_utf8_lossy(record))),
    }
}
