//! What `extract` and `predict` leave: features and predictions, in the format that the file's ending
//! names, streamed row by row and put in place whole.
//!
//! Rows come out in the order in which they are written. Memory does not grow with their number, except
//! for `.safetensors`, whose header holds every path (at most 100 MB, its own limit). An output that is
//! not finished leaves the old files as they were.

mod atomic;
mod csv;
mod features;
mod npy;
mod parquet;
mod predictions;
mod safetensors;
mod table;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use self::atomic::{AtomicFile, is_temporary_of};
pub use self::features::{FeatureFormat, FeatureWriter, Written, errors_path};
pub use self::predictions::{PredictionFormat, PredictionRow, PredictionWriter};
pub use self::table::{PredictionTable, TableStyle};
use crate::error::{Error, Result};

/// A path as the outputs spell it. All of them are UTF-8: a byte of a name that is not becomes `�`.
pub fn path_text(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

/// `x.npy` and `.index.csv` → `x.npy.index.csv`.
fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// The row of `table` whose ending `path` has, whatever its case.
fn by_ending<T: Copy>(path: &Path, what: &str, table: &[(&str, T)]) -> Result<T> {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    table.iter().find(|(known, _)| *known == ending).map(|(_, format)| *format).ok_or_else(|| {
        let known: Vec<_> = table.iter().map(|(known, _)| format!(".{known}")).collect();
        let found = if ending.is_empty() { "no ending".into() } else { format!("the ending .{ending}") };
        Error::usage(format!(
            "cannot tell the format of {} by its name: expected one that ends in {} for {what}, found {found}",
            path.display(),
            known.join(", "),
        ))
    })
}
