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

    /// All of standard error, for a snapshot.
    pub fn told(&self) -> String {
        clean(&self.stderr)
    }

    /// Notes, and the error to its end, for a snapshot of a run that also shows its plan or progress.
    pub fn notes(&self) -> String {
        let (mut kept, mut failed) = (String::new(), false);
        for line in self.told().lines() {
            failed |= line.starts_with("error: ");
            if failed || line.starts_with("note: ") {
                kept += &format!("{line}\n");
            }
        }
        kept
    }

    /// The one message with `part`, a line and the indented ones below it: for a snapshot of a run
    /// whose other lines depend on the machine.
    #[track_caller]
    pub fn message(&self, part: &str) -> String {
        let told = self.told();
        let lines = told.lines().skip_while(|line| !line.contains(part)).enumerate();
        let lines = lines.take_while(|(number, line)| *number == 0 || line.starts_with(' '));
        let message: Vec<&str> = lines.map(|(_, line)| line).collect();
        let message = message.join("\n");
        let (count, all) = (message.matches(part).count(), told.matches(part).count());
        assert!(count > 0 && count == all, "one message with {part:?} in\n{told}");
        message
    }

    /// This run, if standard error contains each of `parts`: for words beside numbers that depend on
    /// the machine. Other messages are snapshots.
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

/// What `run` says to each of `calls`, below its arguments: one text for a snapshot.
pub fn answers<'a>(calls: &[impl AsRef<[&'a str]>], run: impl Fn(&[&str]) -> Run) -> String {
    let calls = calls.iter().map(AsRef::as_ref);
    calls.map(|args| answer("$", &args.join(" "), &run(args).told())).collect()
}

/// What is said to something, below it: a part of a snapshot.
pub fn answer(sign: &str, to: &str, told: &str) -> String {
    format!("{}\n{}\n\n", format!("{sign} {to}").trim_end(), told.trim_end())
}

/// Words of the notes on the machine, which come with any call.
const ON_THE_MACHINE: [&str; 2] =
    [" threads were asked for, and ", "note: there is an NVIDIA driver, and yet "];

/// `text` with placeholders for folders, ports and process ids, and without notes on the machine.
pub fn clean(text: &str) -> String {
    let kept = |line: &&str| !ON_THE_MACHINE.iter().any(|words| line.contains(words));
    let text: Vec<&str> = text.lines().filter(kept).collect();
    let text = text.join("\n").replace(env!("CARGO_MANIFEST_DIR"), "[REPO]");
    let temporary = std::env::temp_dir().join(".tmp").display().to_string();
    let text = masked(&text, &temporary, "[TMP]", |c| c.is_ascii_alphanumeric());
    let text = masked(&text, "127.0.0.1:", "127.0.0.1:[PORT]", |c| c.is_ascii_digit());
    masked(&text, "(pid ", "(pid [PID]", |c| c.is_ascii_digit())
}

/// `text` with `placeholder` for each `start` and what follows it of characters that are `more`.
fn masked(text: &str, start: &str, placeholder: &str, more: fn(char) -> bool) -> String {
    let mut parts = text.split(start);
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |text, part| text + placeholder + part.trim_start_matches(more))
}

/// A path below the repository's root.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
