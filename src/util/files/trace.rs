//! A record of what is done to files, for the test that lays out what a crash could have left of them
//! (`tests/it/crash.rs`).
//!
//! With `TL_RECORD_FILES=FILE`, each operation that has succeeded is a line of JSON in FILE.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Serialize;

const VARIABLE: &str = "TL_RECORD_FILES";

/// Something that was done. An open file is known by a number.
#[derive(Serialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub(super) enum Operation {
    Create { file: u64, path: PathBuf },
    Open { file: u64, path: PathBuf },
    Write { file: u64, at: u64, hex: String },
    Cut { file: u64, length: u64 },
    Sync { file: u64 },
    CreateFolder { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    RemoveFolder { path: PathBuf },
    SyncFolder { path: PathBuf },
}

/// The file of the record, if there is one.
fn record() -> Option<&'static File> {
    static RECORD: OnceLock<Option<File>> = OnceLock::new();
    let open = || File::options().append(true).create(true).open(std::env::var_os(VARIABLE)?).ok();
    RECORD.get_or_init(open).as_ref()
}

/// Adds the operation to the record, if there is one. A test that cannot record it fails by what is
/// missing.
pub(super) fn note(operation: impl FnOnce() -> Operation) {
    if let Some(mut record) = record() {
        let line = serde_json::to_string(&operation()).unwrap_or_default() + "\n";
        let _ = record.write_all(line.as_bytes());
    }
}

/// The path from the root on: the record is read elsewhere.
pub(super) fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

/// A number for an open file.
pub(super) fn number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
