//! The PyTorch of a folder, judged by its files.

use std::fs;
use std::path::Path;

/// The versions that the program's calls fit: all of 2.11.
pub const SERIES: &str = "2.11";
/// The one that it is built and tested with.
pub const VERSION: &str = "2.11.0";

/// What is in a folder `torch`.
#[derive(Debug, PartialEq)]
pub enum Found {
    /// No libtorch.
    Nothing,
    /// A version that will do.
    Fits,
    /// Another version.
    Other(String),
}

/// Reads the version as `import torch` would give it, `2.11.0+cu130`.
pub fn judge(folder: &Path) -> Found {
    if !folder.join("lib/libtorch_cpu.so").is_file() {
        return Found::Nothing;
    }
    let text = fs::read_to_string(folder.join("version.py")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("__version__"));
    match line.and_then(|line| line.split(['\'', '"']).nth(1)) {
        None => Found::Other("of an unknown version".into()),
        Some(version) if fits(version) => Found::Fits,
        Some(version) => Found::Other(version.into()),
    }
}

/// Releases only: what is between them has another interface. What follows `+` names the CUDA.
fn fits(version: &str) -> bool {
    let release = version.split('+').next().unwrap_or(version);
    let patch = release.strip_prefix(SERIES).and_then(|rest| rest.strip_prefix('.'));
    patch.is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()))
}
