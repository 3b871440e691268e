//! The binary: command line, configuration, and the wiring of everything below.

mod cli;
mod command;
mod failure;
mod output;
mod report;
mod setup;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    command::run(cli::Cli::parse().command)
}
