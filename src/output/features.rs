//! Output of `extract`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::csv::CsvFile;
use super::npy::NpyWriter;
use super::parquet::ParquetFeatures;
use super::partial::Places;
use super::rows::{RowFile, Writing};
use super::safetensors::SafetensorsWriter;
use super::{Done, Output, Partial, Progress, by_ending, sibling};
use crate::data::Input;
use crate::error::{Error, Result};

/// A file format for features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureFormat {
    /// NumPy: float32 `[N, D]`, with `FILE.index.csv` of `path,label`.
    Npy,
    /// Columns `path`, `label` (text) and `features` (fixed-size list of float32).
    Parquet,
    /// The tensor `features`, with `paths` and `labels` as JSON arrays in the metadata.
    Safetensors,
    /// `path,label,f0,f1,…`, each value in the fewest digits that parse to the same float32.
    Csv,
}

impl FeatureFormat {
    /// The format of a file's extension, in upper or lower case.
    ///
    /// # Errors
    /// [`Error::Usage`] that lists the known extensions.
    pub fn of(path: impl AsRef<Path>) -> Result<Self> {
        let known = [
            ("npy", Self::Npy),
            ("parquet", Self::Parquet),
            ("safetensors", Self::Safetensors),
            ("csv", Self::Csv),
        ];
        by_ending(path.as_ref(), "features", &known)
    }
}

/// A file of features under construction, and the `FILE.errors.csv` (`path,error`) of the images
/// without features.
///
/// Nothing is in place before [`FeatureWriter::finish`]; rows [committed](Partial) before can be
/// resumed.
pub struct FeatureWriter {
    // Before the partial: fields drop in this order, so the files close before their folder is
    // removed.
    format: Format,
    failures: Option<CsvFile>,
    writing: Writing,
    dim: usize,
}

enum Format {
    Npy(NpyWriter),
    Parquet(ParquetFeatures),
    Safetensors(SafetensorsWriter),
    Csv(CsvFile),
}

impl Format {
    fn file(&mut self) -> &mut dyn RowFile {
        match self {
            Format::Npy(writer) => writer,
            Format::Parquet(writer) => &mut writer.file,
            Format::Safetensors(writer) => writer,
            Format::Csv(file) => file,
        }
    }
}

/// The part with the failures.
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
                path.display()
            )));
        }
        let format = match FeatureFormat::of(path)? {
            FeatureFormat::Npy => Format::Npy(NpyWriter::open(&partial, dim)?),
            FeatureFormat::Parquet => Format::Parquet(ParquetFeatures::open(&partial, path, dim)?),
            FeatureFormat::Safetensors => Format::Safetensors(SafetensorsWriter::open(&partial, dim)?),
            FeatureFormat::Csv => {
                let header = ["path", "label"].into_iter().chain(names.iter().map(String::as_str));
                Format::Csv(CsvFile::open(partial.part("rows.csv")?, header)?)
            }
        };
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
        match &mut self.format {
            Format::Npy(writer) => writer.write_row(path, label, features),
            Format::Parquet(writer) => writer.write_row(path, label, features),
            Format::Safetensors(writer) => writer.write_row(path, label, features),
            Format::Csv(file) => write_csv_row(file, path, label, features),
        }
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
        self.writing.batch_done(self.format.file(), self.failures.as_mut(), done)
    }

    fn commit(&mut self, done: Done) -> Result<()> {
        self.writing.note(self.format.file(), self.failures.as_mut(), done, true)
    }

    fn kept(&self) -> Option<String> {
        self.writing.partial.kept()
    }

    /// Puts the files in place, the features last. An earlier run's `FILE.errors.csv` is removed if
    /// nothing failed.
    fn finish(mut self, done: Done) -> Result<Progress> {
        let mut places = Places::default();
        match &self.failures {
            Some(_) => places.put.push((ERRORS.into(), ERRORS_ENDING.into())),
            None => places.remove.push(ERRORS_ENDING.into()),
        }
        self.writing.finish(self.format.file(), self.failures.as_mut(), done, places)
    }
}

/// Suffix of the list of failed images.
const ERRORS_ENDING: &str = ".errors.csv";

/// The path of the list of failed images: `x.npy` → `x.npy.errors.csv`.
pub fn errors_path(path: &Path) -> PathBuf {
    sibling(path, ERRORS_ENDING)
}

fn write_csv_row(file: &mut CsvFile, path: &str, label: &str, features: &[f32]) -> Result<()> {
    file.field(path)?;
    file.field(label)?;
    let mut text = String::new();
    for value in features {
        text.clear();
        // Rust's debug form is the shortest that parses to the same value, with an exponent where
        // that is shorter. Writing to a String cannot fail.
        let _ = write!(text, "{value:?}");
        file.field(&text)?;
    }
    file.end_row()
}
