//! What `bin/tl` is in a wheel: finds the program and the PyTorch that were installed beside it, and becomes the
//! program. Where PyTorch is missing or another version, it says so in one line; the system's loader, which comes
//! before the program, would name a library that the user has never heard of.
//!
//! Python is not started, and no environment variable is needed.

#![allow(clippy::disallowed_methods, reason = "a message of its own paths; nothing here may come from tl")]

mod advice;
mod places;
mod pytorch;

use std::env;
use std::ffi::OsString;
use std::io::{Write, stderr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use places::{Machine, Place};
use pytorch::Found;

/// The program, and the PyTorch that it is to run on.
#[derive(Debug, PartialEq)]
struct Start {
    program: PathBuf,
    /// The folder of libtorch, unless it is where the program's own DT_RPATH leads.
    elsewhere: Option<PathBuf>,
}

fn main() {
    let machine = Machine { root: "/".into(), home: env::home_dir() };
    // Links, as `uv tool` and `pipx` make them, are followed.
    let start = env::current_exe()
        .map_err(|error| format!("cannot find out where tl is installed: {error}"))
        .and_then(|tl| find(&tl, &machine));
    let problem = match start {
        Ok(start) => start.run(),
        Err(problem) => problem,
    };
    // Not `eprintln!`, which panics if standard error is closed.
    let _ = writeln!(stderr(), "error: {problem}");
    exit(1);
}

/// Decides what to start for the launcher `tl`; an error is a message for the user.
fn find(tl: &Path, machine: &Machine) -> Result<Start, String> {
    let places = places::with_program(tl);
    let Some(first) = places.first() else {
        return Err(format!(
            "the program that belongs to {} is not there (transferkit/tl among the packages): install transferkit again",
            tl.display()
        ));
    };
    // The packages of several Pythons may share a prefix: the first that is whole will do.
    let whole = places.iter().find_map(|place| match place.pytorch(machine) {
        (folder, Found::Fits) => Some(place.start(folder)),
        _ => None,
    });
    whole.ok_or_else(|| match first.pytorch(machine) {
        (folder, Found::Other(version)) => format!(
            "tl needs PyTorch {}, and {} is {version}: {}",
            pytorch::SERIES,
            folder.display(),
            advice::install(first)
        ),
        _ => format!(
            "tl needs PyTorch {}, and there is none in {}: {}",
            pytorch::SERIES,
            first.packages.display(),
            advice::install(first)
        ),
    })
}

impl Place {
    fn start(&self, pytorch: PathBuf) -> Start {
        let beside = pytorch == self.packages.join("torch");
        Start { program: self.program(), elsewhere: (!beside).then(|| pytorch.join("lib")) }
    }
}

impl Start {
    /// Returns only if the program could not be started.
    fn run(self) -> String {
        let mut arguments = env::args_os();
        let mut command = Command::new(&self.program);
        // The help shows this name.
        command.arg0(arguments.next().unwrap_or_else(|| "tl".into())).args(arguments);
        if let Some(folder) = self.elsewhere {
            let mut folders = OsString::from(folder);
            if let Some(others) = env::var_os("LD_LIBRARY_PATH") {
                folders.push(":");
                folders.push(others);
            }
            command.env("LD_LIBRARY_PATH", folders);
        }
        let error = command.exec();
        format!("cannot start {}: {error}", self.program.display())
    }
}

#[cfg(test)]
mod tests;
