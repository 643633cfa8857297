//! The program: parse, run, print the error, exit code.

use std::io::{ErrorKind, Write, stderr, stdout};

use clap::Parser;
use transferkit::commands::{self, Cli, Outcome};
use transferkit::device::{self, memory};

fn main() {
    if std::env::args_os().len() < 2 {
        let _ = write!(stderr(), "{}", commands::START);
        leave(2);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // `--help` and `--version` come here too. If both streams are closed, stay silent.
        Err(message) => {
            let _ = message.print();
            leave(message.exit_code());
        }
    };
    if commands::all_cores_on_one_operation(&cli) {
        device::spin_briefly();
    }
    if commands::trains(&cli) {
        // SAFETY: this is the only thread so far.
        unsafe { memory::keep_freed() }
    }
    match run(&cli) {
        Ok(Outcome::Done) => leave(0),
        Ok(Outcome::SomeFailed) => leave(1),
        // `tl predict … | head`: the reader has closed the pipe.
        Err(error) if is_broken_pipe(&error) => leave(0),
        Err(error) => {
            // Not `eprintln!`, which panics if standard error has gone away too.
            let _ = writeln!(stderr(), "error: {error}");
            leave(error.downcast_ref::<transferkit::Error>().map_or(1, |error| error.exit_code().into()))
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<Outcome> {
    Ok(commands::run(cli)?)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(transferkit::Error::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe)
}

/// Ends the process without destructors: tearing down libtorch's operator tables, as returning from
/// `main` does, takes longer than classifying an image. Every writer has been dropped by now.
fn leave(code: i32) -> ! {
    let _ = stdout().flush();
    let _ = stderr().flush();
    // SAFETY: ends the process; any exit code is valid.
    unsafe { libc::_exit(code) }
}
