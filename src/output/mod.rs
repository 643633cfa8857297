//! What `extract` and `predict` leave: features and predictions, in the format that the file's ending
//! names, streamed row by row and put in place whole.
//!
//! Rows come out in the order in which they are written, and memory does not grow with their number. An output
//! that is not finished leaves the old files as they were, and can be gone on with ([`Partial`]).

mod csv;
mod features;
mod job;
mod jsonl;
mod npy;
mod parquet;
mod partial;
mod predictions;
mod rows;
mod safetensors;
pub mod shard;
mod table;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use self::features::{FeatureFormat, FeatureWriter, errors_path};
pub use self::job::JobIdentity;
pub use self::partial::{Begun, Partial, Progress};
pub use self::predictions::{PredictionFormat, PredictionRow, PredictionWriter};
pub use self::table::{PredictionTable, TableStyle};
use crate::data::Input;
use crate::error::{Error, Result};
use crate::text::path_text::path_text;

/// What `extract` and `predict` write rows to, in the order of the images.
pub trait Output: Sized {
    /// What is written of an image that could be read.
    type Row;

    /// What to say when a signal has ended the work and there is nothing to go on from.
    const STOPPED: &'static str = "stopped: nothing was written; run it again to start over";

    /// Adds the row of the next image, or why it has none.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    fn write(&mut self, input: &Input, row: Result<Self::Row, String>) -> Result<()>;

    /// Says that a run which begins behind these images would write the same from here on. Now and then that is
    /// noted.
    ///
    /// # Errors
    /// As [`Output::commit`].
    fn batch_done(&mut self, done: Done) -> Result<()>;

    /// Notes that these images are done, where [`Output::batch_done`] could be said, so that a later run can go
    /// on behind them, after a power cut too.
    ///
    /// # Errors
    /// [`Error::Io`] if what is not on the disk yet cannot be written.
    fn commit(&mut self, done: Done) -> Result<()>;

    /// What a later run can go on from, in words, if there is anything.
    fn kept(&self) -> Option<String>;

    /// Completes the output and puts it in place.
    ///
    /// # Errors
    /// [`Error::Io`] if the last bytes cannot be written; the old files are then as they were.
    fn finish(self, done: Done) -> Result<Progress>;
}

/// Images whose rows are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// How many.
    pub images: u64,
    /// A digest of their names and labels.
    pub fingerprint: String,
}

/// `x.npy` and `.index.csv` → `x.npy.index.csv`.
fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// The format whose ending `path` has, whatever its case.
fn by_ending<T>(
    path: &Path,
    what: &str,
    formats: &'static [T],
    ending_of: fn(&T) -> &'static str,
) -> Result<&'static T> {
    let ending = path_text(path.extension().unwrap_or_default()).to_lowercase();
    formats.iter().find(|format| ending_of(format) == ending).ok_or_else(|| {
        let known: Vec<_> = formats.iter().map(|format| format!(".{}", ending_of(format))).collect();
        let found = if ending.is_empty() { "no ending".into() } else { format!("the ending .{ending}") };
        Error::usage(format!(
            "cannot tell the format of {} by its name: expected one that ends in {} for {what}, found {found}",
            path_text(path),
            known.join(", "),
        ))
    })
}

/// `.a, .b or .c`.
fn endings<T>(formats: &[T], ending_of: fn(&T) -> &'static str) -> String {
    let known: Vec<_> = formats.iter().map(|format| format!(".{}", ending_of(format))).collect();
    match known.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => known.concat(),
    }
}
