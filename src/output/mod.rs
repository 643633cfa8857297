//! What `extract` and `predict` leave: features and predictions, in the format that the file's ending
//! names, streamed row by row and put in place whole.
//!
//! Rows come out in the order in which they are written, and memory does not grow with their number. An output
//! that is not finished leaves the old files as they were, and can be gone on with ([`Partial`]).

mod atomic;
mod csv;
mod features;
mod job;
mod npy;
mod parquet;
mod partial;
mod predictions;
mod rows;
mod safetensors;
mod table;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use self::atomic::{AtomicFile, is_temporary_of};
pub use self::features::{FeatureFormat, FeatureWriter, errors_path};
pub use self::job::Job;
pub use self::partial::{Begun, Partial, Progress};
pub use self::predictions::{PredictionFormat, PredictionRow, PredictionWriter};
pub use self::table::{PredictionTable, TableStyle};
use crate::dataset::Input;
use crate::error::{Error, Result};
use crate::path_text::path_text;

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
    pub listing: String,
}

/// `x.npy` and `.index.csv` → `x.npy.index.csv`.
fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// The row of `table` whose ending `path` has, whatever its case.
fn by_ending<T: Copy>(path: &Path, what: &str, table: &[(&str, T)]) -> Result<T> {
    let ending = path_text(path.extension().unwrap_or_default()).to_lowercase();
    table.iter().find(|(known, _)| *known == ending).map(|(_, format)| *format).ok_or_else(|| {
        let known: Vec<_> = table.iter().map(|(known, _)| format!(".{known}")).collect();
        let found = if ending.is_empty() { "no ending".into() } else { format!("the ending .{ending}") };
        Error::usage(format!(
            "cannot tell the format of {} by its name: expected one that ends in {} for {what}, found {found}",
            path_text(path),
            known.join(", "),
        ))
    })
}
