//! Outputs of `extract` and `predict`: features and predictions, in the format of the file's
//! extension, streamed row by row and put in place atomically.
//!
//! Rows keep the order in which they are written, and memory does not grow with their number. An
//! unfinished output leaves the old files unchanged, and can be resumed ([`Partial`]).

mod csv;
pub mod evaluated;
mod features;
mod job;
mod jsonl;
mod npy;
#[cfg(feature = "parquet")]
mod parquet;
mod partial;
mod predictions;
mod rows;
mod safetensors;
pub mod shard;
mod table;
#[cfg(all(test, feature = "parquet"))]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use self::features::{FeatureFormat, FeatureWriter, companions, errors_path};
pub use self::job::JobIdentity;
pub use self::npy::npy_bytes;
pub use self::partial::{Begun, OutputProgress, Partial};
pub use self::predictions::{Answer, PredictionColumns, PredictionFormat, PredictionRow, PredictionWriter};
pub use self::table::{PredictionTable, TableStyle};
use crate::data::Input;
use crate::error::{Error, Result};
use crate::text::path_text::path_text;

/// Destination of the rows of `extract` and `predict`, in the order of the images.
pub trait Output: Sized {
    /// The row of a readable image.
    type Row;

    /// The message when a signal has ended the work and there is nothing to resume.
    const STOPPED: &'static str = "stopped: nothing was written; run it again to start over";

    /// Adds the row of the next image, or the reason it has none.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    fn write(&mut self, input: &Input, row: Result<Self::Row, String>) -> Result<()>;

    // What cannot be resumed has none of the next three.

    /// Declares that a run starting after these images would write the same from here on. Commits
    /// this from time to time.
    ///
    /// # Errors
    /// As [`Output::commit`].
    fn batch_done(&mut self, _done: Done) -> Result<()> {
        Ok(())
    }

    /// Records that these images are done, where [`Output::batch_done`] is valid, so that a later
    /// run can resume after them, even after a power cut.
    ///
    /// # Errors
    /// [`Error::Io`] if bytes that are not on the disk yet cannot be written.
    fn commit(&mut self, _done: Done) -> Result<()> {
        Ok(())
    }

    /// A description of what a later run can resume, if anything.
    fn kept(&self) -> Option<String> {
        None
    }

    /// Completes the output and puts it in place.
    ///
    /// # Errors
    /// [`Error::Io`] if the last bytes cannot be written; the old files are then unchanged.
    fn finish(self, done: Done) -> Result<OutputProgress>;
}

/// Images whose rows are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Number of images.
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

/// Endings of formats that this program was built without: features of Cargo have the same names.
const LEFT_OUT: &[&str] = if cfg!(feature = "parquet") { &[] } else { &["parquet"] };

/// The format of `path`'s extension, in any case.
fn by_ending<T>(
    path: &Path,
    what: &str,
    formats: &'static [T],
    ending_of: fn(&T) -> &'static str,
) -> Result<&'static T> {
    let ending = path_text(path.extension().unwrap_or_default()).to_lowercase();
    formats.iter().find(|format| ending_of(format) == ending).ok_or_else(|| {
        let known: Vec<_> = formats.iter().map(|format| format!(".{}", ending_of(format))).collect();
        let (path, known) = (path_text(path), known.join(", "));
        if LEFT_OUT.contains(&&*ending) {
            return Error::usage(format!(
                "cannot write {path}: this tl was built without its feature `{ending}`; build it with `--features {ending}`, \
                 or choose one of {known}"
            ));
        }
        let found = if ending.is_empty() { "no ending".into() } else { format!("the ending .{ending}") };
        Error::usage(format!(
            "cannot tell the format of {path} by its name: expected one that ends in {known} for {what}, found {found}"
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

#[cfg(all(test, not(feature = "parquet")))]
mod tests_without_parquet {
    use super::*;

    /// `cargo test --release --no-default-features --lib output`
    #[test]
    fn the_feature_that_is_missing_is_named() {
        let said = ["x.parquet", "x.PARQUET"].map(|path| FeatureFormat::of(path).err().unwrap());
        assert_eq!(
            said[0].to_string(),
            "cannot write x.parquet: this tl was built without its feature `parquet`; build it with `--features parquet`, or \
             choose one of .npy, .safetensors, .csv"
        );
        assert_eq!(said[1].exit_code(), 2);
        assert_eq!(PredictionFormat::endings(), ".csv or .jsonl");
    }
}
