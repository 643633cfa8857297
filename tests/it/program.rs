//! `tl` as a program: arguments in; exit code, standard output and standard error out.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Result of a call of `tl`.
#[derive(Debug)]
pub struct Run {
    /// The exit code; `None` if a signal killed the process.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// This run, if it ended with `code`; else the test fails and shows the program's output.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// This run, if standard error contains each of `parts`.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "expected {part:?} in\n{}", self.stderr);
        }
        self
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Run {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A call of `tl` under construction.
///
/// It does not inherit variables that would change it: weight caches, mirrors, libtorch's thread
/// counts.
pub struct Tl {
    command: Command,
}

impl Tl {
    /// `tl ARGS`, in the current folder.
    pub fn new(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tl"));
        for name in ["TL_WEIGHTS_URL", "TORCH_HOME", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RUST_BACKTRACE"] {
            command.env_remove(name);
        }
        // `tl` sets this by restarting itself, which takes as long as most of the tests' calls.
        command.env("GOMP_SPINCOUNT", "1000");
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Tl { command }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets the working directory.
    pub fn cwd(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Run {
        self.command.output().expect("the program starts").into()
    }

    /// Starts it, for tests that send signals. End it with `wait_with_output` on the child, and
    /// [`Run::from`].
    pub fn spawn(mut self) -> Child {
        self.command.spawn().expect("the program starts")
    }

    /// The command itself, for tests that need other streams.
    pub fn into_command(self) -> Command {
        self.command
    }
}

/// `tl ARGS`, run to its end in the current folder.
pub fn tl(args: &[&str]) -> Run {
    Tl::new(args).run()
}

/// A path below the repository's root.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
