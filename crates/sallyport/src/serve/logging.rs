//! What the process says about itself, on standard error.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// The environment variable that chooses levels by part of the program.
const VARIABLE: &str = "SALLYPORT_LOG";

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object on each line.
    Json,
}

/// Starts logging, and logs panics from now on.
///
/// # Errors
/// [`Failure`] when `SALLYPORT_LOG` cannot be understood.
pub(super) fn start(format: LogFormat, verbose: u8) -> Result<(), Failure> {
    let filter = match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).map_err(|error| {
            Failure::usage(format!("{VARIABLE} cannot be understood: {error}"))
                .hint("write it like `info` or `warn,gateway=debug`")
        })?,
        _ => EnvFilter::new(level(verbose)),
    };
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours);
    let started = match format {
        LogFormat::Text => builder.with_target(verbose > 0).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::new(format!("logging cannot be started: {error}")))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("unknown");
        tracing::error!(
            place,
            what,
            "a part of the process panicked; this is a defect in Sallyport"
        );
    }));
    Ok(())
}

fn level(verbose: u8) -> &'static str {
    match verbose {
        0 => "info",
        1 => {
            "info,sallyport=debug,gateway=debug,control=debug,audit=debug,identity=debug,store=debug"
        }
        _ => "debug",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_understood() {
        for verbose in 0..4 {
            EnvFilter::try_new(level(verbose)).unwrap();
        }
    }
}
