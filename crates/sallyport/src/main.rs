//! The binary: command line, configuration, and the wiring of everything below.

mod cli;
mod client;
mod command;
mod confined;
mod connect;
mod demo;
mod failure;
mod output;
mod rehearsal;
mod report;
mod serve;
mod setup;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    command::run(cli::Cli::parse().command)
}
