//! Reads the command line, runs it, and returns its exit code.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    gantry::cli::run(gantry::cli::Cli::parse())
}
