//! `sallyport audit`: the log, read straight from its files, whether Sallyport runs or not.

mod bundle;
mod evidence;
mod proof;
mod read;
mod select;
mod view;

use std::path::PathBuf;

use ::audit::{AuditError, Reader, VerifierKey};
use clap::Subcommand;

use super::ConfigArg;
use crate::failure::Failure;
use crate::{serve, setup};

/// Arguments of `sallyport audit`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport audit tail -f
  sallyport audit query --agent triage --denied --since 2h
  sallyport audit verify
  sallyport audit checkpoint > checkpoint-$(date +%F)     keep it elsewhere")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the last records, and new ones as they come
    Tail(read::TailArgs),
    /// Find records
    Query(read::QueryArgs),
    /// Show everything of one record
    Show(read::ShowArgs),
    /// Verify the whole log; ends with 3 when it is not as it was written
    Verify(evidence::VerifyArgs),
    /// Prove that one record is in the log
    Prove(proof::ProveArgs),
    /// Check a proof, without the log
    CheckProof(proof::CheckArgs),
    /// Print the signed checkpoint, to keep it elsewhere
    Checkpoint(evidence::CheckpointArgs),
}

/// Which log.
#[derive(clap::Args)]
#[command(next_help_heading = "Which log")]
pub(crate) struct LogArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// The folder of the log, such as a copy; by default `log` in the data directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl LogArgs {
    /// Opens the log, with a verifier key from elsewhere if there is one.
    ///
    /// # Errors
    /// [`Failure`] when there is no log, or it cannot be read.
    fn open(&self, key: Option<VerifierKey>) -> Result<Reader, Failure> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => serve::log_dir(&setup::config_alone(&self.config.config)?.data_dir),
        };
        let reader = match key {
            Some(key) => Reader::open_with(&dir, key),
            None => Reader::open(&dir),
        };
        reader.map_err(|error| match &error {
            AuditError::NotALog(_) => Failure::new(error.to_string()).hint(
                "it is begun when Sallyport starts for the first time; `--dir` names another log",
            ),
            AuditError::Io { source, .. }
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                Failure::new(error.to_string()).hint("run this as the user that Sallyport runs as")
            }
            _ => Failure::new(error.to_string()),
        })
    }
}

/// A log that could be opened, but not read to the end.
fn unreadable(error: &AuditError) -> Failure {
    Failure::new(format!("the log cannot be read: {error}"))
        .hint("`sallyport audit verify` says what is wrong with it")
}

/// A verifier key, as text or in a file.
fn verifier(text: &str) -> Result<VerifierKey, String> {
    let text = match std::fs::read_to_string(text) {
        Ok(content) => content,
        Err(_) => text.to_owned(),
    };
    text.trim().parse().map_err(|error: ::audit::NoteError| {
        format!(
            "{error}; give the content of the log's file `log.vkey`, or the name of a copy of it"
        )
    })
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Tail(args) => read::tail(args),
        Command::Query(args) => read::query(args),
        Command::Show(args) => read::show(args),
        Command::Verify(args) => evidence::verify(args),
        Command::Prove(args) => proof::prove(args),
        Command::CheckProof(args) => proof::check(args),
        Command::Checkpoint(args) => evidence::checkpoint(args),
    }
}
