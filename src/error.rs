//! The one error type of the library.
//!
//! Every message says where, what was expected, what was found and what to do. `main.rs` turns the
//! variant into the exit code, so a caller chooses a variant by *who can mend it*: the person who
//! typed the command or the recipe ([`Error::Usage`], [`Error::Recipe`]: 2), a signal
//! ([`Error::Interrupted`]: 130 or 143), or anything else (1).

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::text::path_text::path_text;
use crate::text::words::harmless;

/// `Result` with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Failures, by who can mend them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is wrong, or asks for something that this version or machine cannot do.
    Usage(String),

    /// The recipe is wrong: all mistakes that can be found without training, each a whole message.
    Recipe {
        /// The recipe file, as the user typed it.
        path: PathBuf,
        /// One message a mistake, in the order of the file.
        mistakes: Vec<String>,
    },

    /// The operating system refused something: `cannot {action} {path}: {source}`.
    Io {
        /// A verb phrase: `read`, `write`, `create the folder`.
        action: &'static str,
        /// The path it failed on.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },

    /// A file is not what it should be: `{path}: {message}`.
    File {
        /// The file at fault.
        path: PathBuf,
        /// The expected, the found, and the remedy.
        message: String,
    },

    /// libtorch refused an operation.
    Torch {
        /// A verb phrase: what was being computed.
        doing: String,
        /// libtorch's own words.
        source: tch::TchError,
    },

    /// The run cannot go on (a loss that is not finite, no usable image, no connection).
    Run(String),

    /// Training with numbers that are no longer finite.
    Diverged(String),

    /// A signal arrived; what was done so far has been saved.
    Interrupted {
        /// 2 (SIGINT) or 15 (SIGTERM).
        signal: i32,
        /// The saved work, and how to go on.
        message: String,
    },
}

impl Error {
    /// A wrong command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Error::Usage(message.into())
    }

    /// A run that cannot go on.
    pub fn run(message: impl Into<String>) -> Self {
        Error::Run(message.into())
    }

    /// An operating-system error; for `map_err`: `.map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    /// A file that is not what it should be.
    pub fn file(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Error::File { path: path.as_ref().to_path_buf(), message: message.into() }
    }

    /// A libtorch error; for `map_err`: `.map_err(Error::torch("compute the loss"))`.
    pub fn torch(doing: impl Into<String>) -> impl FnOnce(tch::TchError) -> Self {
        let doing = doing.into();
        move |source| Error::Torch { doing, source }
    }

    /// Whether libtorch has found no memory, on a GPU or on the CPU.
    pub fn is_out_of_memory(&self) -> bool {
        // c10's CUDA allocator, the driver, cuBLAS, cuDNN; c10's CPU allocator, operator new,
        // oneDNN (this is all it says if there is no memory for its code or scratch space).
        const WORDS: [&str; 10] = [
            "CUDA out of memory",
            "CUDA error: out of memory",
            "CUBLAS_STATUS_ALLOC_FAILED",
            "CUDNN_STATUS_ALLOC_FAILED",
            "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
            "DefaultCPUAllocator: can't allocate memory",
            "DefaultCPUAllocator: not enough memory",
            "std::bad_alloc",
            "could not create a primitive",
            "could not create a memory object",
        ];
        match self {
            Error::Torch { source, .. } => {
                let message = source.to_string();
                WORDS.iter().any(|words| message.contains(words))
            }
            _ => false,
        }
    }

    /// The process exit code that belongs to this error (the contract is in the README).
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) | Error::Recipe { .. } => 2,
            Error::Interrupted { signal, .. } => 128 + *signal as u8,
            _ => 1,
        }
    }
}

impl fmt::Display for Error {
    /// The message, cleaned of what would command a terminal: names come from files of others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Error::Usage(message) | Error::Run(message) | Error::Diverged(message) => Cow::from(message),
            Error::Interrupted { message, .. } => message.into(),
            Error::Recipe { path, mistakes } => list_mistakes(path, mistakes).into(),
            Error::Io { action, path, source } => {
                format!("cannot {action} {}: {}", path_text(path), io_reason(source)).into()
            }
            Error::File { path, message } => format!("{}: {message}", path_text(path)).into(),
            Error::Torch { doing, source } => {
                format!("libtorch failed to {doing}: {}", torch_reason(source)).into()
            }
        };
        f.write_str(&harmless(&text))
    }
}

impl From<tch::TchError> for Error {
    fn from(source: tch::TchError) -> Self {
        Error::Torch { doing: "run the network".into(), source }
    }
}

fn list_mistakes(path: &Path, mistakes: &[String]) -> String {
    let count = match mistakes.len() {
        1 => "1 mistake".to_string(),
        n => format!("{n} mistakes"),
    };
    let mut text = format!("{}: {count}", path_text(path));
    for mistake in mistakes {
        text.push_str("\n  ");
        text.push_str(&mistake.replace('\n', "\n  "));
    }
    text
}

/// The system's words without Rust's `(os error 28)` suffix, with a remedy where there is one.
fn io_reason(source: &io::Error) -> String {
    let words = source.to_string();
    let words = words.split(" (os error").next().unwrap_or(&words).to_string();
    match source.kind() {
        io::ErrorKind::StorageFull => format!("{words}; free some space, then run again"),
        io::ErrorKind::ReadOnlyFilesystem => format!("{words}; choose a folder you may write to"),
        _ => words,
    }
}

/// The first line of libtorch's message: the rest is a C++ stack trace.
fn torch_reason(source: &tch::TchError) -> String {
    let words = source.to_string();
    words.lines().next().unwrap_or_default().trim().to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn a_path_that_is_no_text_can_be_read_back() {
        let path = Path::new(std::ffi::OsStr::from_bytes(b"caf\xe9.csv"));
        assert_eq!(Error::file(path, "no").to_string(), r"caf\xe9.csv: no");
        let gone = Error::io("read", path)(io::ErrorKind::NotFound.into());
        assert_eq!(gone.to_string(), r"cannot read caf\xe9.csv: entity not found");
        let recipe = Error::Recipe { path: path.into(), mistakes: vec!["no".into()] };
        assert_eq!(recipe.to_string(), "caf\\xe9.csv: 1 mistake\n  no");
    }

    #[test]
    fn no_message_commands_a_terminal() {
        let hostile = "conv\u{1b}]0;owned\u{7}";
        let clean = r"conv\x1b]0;owned\x07";
        let path = Path::new(hostile);
        let io = Error::io("read", path)(io::ErrorKind::NotFound.into());
        let torch = Error::torch(hostile)(tch::TchError::Torch(hostile.into()));
        let recipe = Error::Recipe { path: path.into(), mistakes: vec![hostile.into()] };
        let interrupted = Error::Interrupted { signal: 2, message: hostile.into() };
        let others = [Error::usage(hostile), Error::run(hostile), Error::Diverged(hostile.into())];
        let file = Error::file(path, hostile);
        for error in [io, torch, recipe, interrupted, file].into_iter().chain(others) {
            let text = error.to_string();
            assert!(text.contains(clean) && !text.contains('\u{1b}'), "{text:?}");
        }
    }

    #[test]
    fn memory_that_libtorch_does_not_find_is_told_from_other_failures() {
        let error = Tensor::f_empty([1i64 << 55], (Kind::Float, Device::Cpu)).unwrap_err();
        assert!(Error::from(error).is_out_of_memory());
        let error = Tensor::from(1.).f_matmul(&Tensor::from(1.)).unwrap_err();
        assert!(!Error::from(error).is_out_of_memory());
        assert!(!Error::run("CUDA out of memory").is_out_of_memory());
    }
}
