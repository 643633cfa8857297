//! Output of `extract`.

use std::path::{Path, PathBuf};

use super::csv::{self, CsvFile};
#[cfg(feature = "parquet")]
use super::parquet;
use super::partial::Places;
use super::rows::{RowFile, Writing};
use super::{Done, Output, OutputProgress, Partial, by_ending, endings, npy, safetensors, sibling};
use crate::data::Input;
use crate::error::{Error, Result};
use crate::text::path_text::path_text;

type Open = fn(&Partial, &Path, &[String]) -> Result<Box<dyn FeatureFile>>;

/// A file format for features: a row of the list in this file, which its own file defines.
pub struct FeatureFormat {
    /// The file extension, without the dot.
    pub ending: &'static str,
    /// Continues the file that will replace a path, for rows with a value for each of these names.
    pub(super) open: Open,
}

/// All formats for features.
const FORMATS: &[FeatureFormat] = &[
    npy::FORMAT,
    #[cfg(feature = "parquet")]
    parquet::FEATURES,
    safetensors::FORMAT,
    csv::FEATURES,
];

impl FeatureFormat {
    /// The format of a file's extension, in upper or lower case.
    ///
    /// # Errors
    /// [`Error::Usage`] that lists the known endings.
    pub fn of(path: impl AsRef<Path>) -> Result<&'static Self> {
        by_ending(path.as_ref(), "features", FORMATS, |format| format.ending)
    }

    /// The endings, as text for help.
    pub fn endings() -> String {
        endings(FORMATS, |format| format.ending)
    }
}

/// Rows of features under construction in one format.
pub(super) trait FeatureFile {
    /// Adds a row.
    fn write_row(&mut self, path: &str, label: &str, features: &[f32]) -> Result<()>;

    /// The files that hold the rows.
    fn rows(&mut self) -> &mut dyn RowFile;
}

/// A file of features under construction, and the `FILE.errors.csv` (`path,error`) of the images
/// without features.
///
/// Nothing is in place before [`FeatureWriter::finish`]; rows [committed](Partial) before can be
/// resumed.
pub struct FeatureWriter {
    // Before the partial's owner: dropped in this order, the files close before their folder is
    // removed.
    format: Box<dyn FeatureFile>,
    failures: Option<CsvFile>,
    writing: Writing,
    dim: usize,
}

/// The part that lists failures.
const ERRORS: &str = "errors.csv";

impl FeatureWriter {
    /// Continues the file that will replace `path`, for rows of `dim` values, in the format of its
    /// extension.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown extension, [`Error::Run`] if `dim` is 0, [`Error::Io`] if
    /// the files cannot be opened.
    pub fn open(path: impl AsRef<Path>, dim: usize, partial: Box<Partial>) -> Result<Self> {
        let names: Vec<String> = (0..dim).map(|i| format!("f{i}")).collect();
        Self::open_named(path, &names, partial)
    }

    /// As [`FeatureWriter::open`], with a name for each value of a row: the column names of a CSV.
    ///
    /// # Errors
    /// As [`FeatureWriter::open`].
    pub fn open_named(path: impl AsRef<Path>, names: &[String], partial: Box<Partial>) -> Result<Self> {
        let (path, dim) = (path.as_ref(), names.len());
        if dim == 0 {
            return Err(Error::run(format!(
                "{}: a row of features needs at least one value",
                path_text(path)
            )));
        }
        let format = (FeatureFormat::of(path)?.open)(&partial, path, names)?;
        let mut writer = Self { format, failures: None, writing: Writing::at(partial), dim };
        if writer.writing.failed > 0 {
            writer.failures()?;
        }
        Ok(writer)
    }

    /// Adds a row: `features` are the `dim` values of the image at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written; [`Error::Run`] if the number of values differs from
    /// `dim`.
    pub fn write_row(&mut self, path: &str, label: &str, features: &[f32]) -> Result<()> {
        if features.len() != self.dim {
            return Err(Error::run(format!(
                "{path}: expected {} feature values, found {}",
                self.dim,
                features.len()
            )));
        }
        self.writing.rows += 1;
        self.format.write_row(path, label, features)
    }

    /// Records that the image at `path` has no features, and why.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write_failure(&mut self, path: &str, error: &str) -> Result<()> {
        self.writing.failed += 1;
        self.failures()?.row([path, error])
    }

    fn failures(&mut self) -> Result<&mut CsvFile> {
        Ok(match &mut self.failures {
            Some(file) => file,
            none => none.insert(CsvFile::open(self.writing.partial.part(ERRORS)?, ["path", "error"])?),
        })
    }
}

impl Output for FeatureWriter {
    type Row = Vec<f32>;

    fn write(&mut self, input: &Input, row: Result<Vec<f32>, String>) -> Result<()> {
        match row {
            Ok(features) => self.write_row(&input.name, &input.label, &features),
            Err(error) => self.write_failure(&input.name, &error),
        }
    }

    fn batch_done(&mut self, done: Done) -> Result<()> {
        self.writing.batch_done(self.format.rows(), self.failures.as_mut(), done)
    }

    fn commit(&mut self, done: Done) -> Result<()> {
        self.writing.note(self.format.rows(), self.failures.as_mut(), done, true)
    }

    fn kept(&self) -> Option<String> {
        self.writing.partial.kept()
    }

    /// Puts the files in place, the features last. An earlier run's `FILE.errors.csv` is removed if
    /// nothing failed.
    fn finish(mut self, done: Done) -> Result<OutputProgress> {
        let mut places = Places::default();
        match &self.failures {
            Some(_) => places.put(ERRORS, ERRORS_ENDING),
            None => places.remove.push(ERRORS_ENDING.into()),
        }
        self.writing.finish(self.format.rows(), self.failures.as_mut(), done, places)
    }
}

/// Suffix of the list of failed images.
pub(super) const ERRORS_ENDING: &str = ".errors.csv";
/// Appended to the name of a file of numbers alone for the index of its rows.
pub(super) const INDEX_ENDING: &str = ".index.csv";

/// The files that a format may write beside its output.
pub fn companions(path: &Path) -> Vec<PathBuf> {
    [ERRORS_ENDING, INDEX_ENDING].map(|ending| sibling(path, ending)).into()
}

/// The path of the list of failed images: `x.npy` → `x.npy.errors.csv`.
pub fn errors_path(path: &Path) -> PathBuf {
    sibling(path, ERRORS_ENDING)
}
