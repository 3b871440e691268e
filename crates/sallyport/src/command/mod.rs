//! The commands, one module each.

pub mod check;
pub mod init;
pub mod shell;

use std::process::ExitCode;

use crate::cli::Command;
use crate::failure::Failure;
use crate::output::{self, BAD, paint};

/// Runs a command and says how it ended.
pub fn run(command: Command) -> ExitCode {
    let ended = match command {
        Command::Init(args) => init::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Completion(args) => shell::completion(&args),
        Command::Man(args) => shell::man(&args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            explain(&failure);
            failure.exit_code()
        }
    }
}

fn explain(failure: &Failure) {
    if failure.is_silent() {
        return;
    }
    output::note(format_args!("{} {}", paint(BAD.bold(), "error:"), failure.message()));
    if let Some(hint) = failure.remedy() {
        output::note(format_args!("{} {hint}", paint(output::CODE, " hint:")));
    }
}
