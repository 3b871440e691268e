//! `sallyport serve`: the process that stands between agents and what they touch.

use super::ConfigArg;
use crate::failure::Failure;
use crate::serve::{self, LogFormat};

/// Arguments of `sallyport serve`.
#[derive(clap::Args)]
#[command(after_help = "\
Changed files are taken over while it runs: by themselves, on SIGHUP, or with `sallyport reload`. A
mistake changes nothing: what ran before goes on. SIGTERM ends it in order.

Under systemd use `Type=notify`. SALLYPORT_LOG chooses levels by part: `warn,gateway=debug`.

Examples:
  sallyport serve
  sallyport serve --config /etc/sallyport/sallyport.toml --log-format json")]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// The form of log lines, on standard error
    #[arg(long, value_enum, default_value = "text", env = "SALLYPORT_LOG_FORMAT")]
    log_format: LogFormat,
    /// Say more; twice: everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// Serves until it is told to end.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    serve::run(&args.config.config, args.log_format, args.verbose)
}
