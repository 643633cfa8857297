//! The program: parse, run, print the error, exit code.

use std::io::{ErrorKind, Write, stderr};
use std::process::ExitCode;

use clap::Parser;
use tl::cli::Cli;
use tl::commands::{self, Outcome};
use tl::device;

fn main() -> ExitCode {
    device::spin_briefly();
    match run() {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::SomeFailed) => ExitCode::from(1),
        // `tl predict … | head`: whoever reads has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Not `eprintln!`, which panics if standard error has gone away too.
            let _ = writeln!(stderr(), "error: {error}");
            ExitCode::from(error.downcast_ref::<tl::Error>().map_or(1, tl::Error::exit_code))
        }
    }
}

fn run() -> anyhow::Result<Outcome> {
    Ok(commands::run(&Cli::parse())?)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(tl::Error::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe)
}
