//! What `extract` writes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::csv::CsvFile;
use super::npy::NpyWriter;
use super::parquet::ParquetFeatures;
use super::safetensors::SafetensorsWriter;
use super::{AtomicFile, by_ending, sibling};
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
    /// `path,label,f0,f1,…`, each value in the fewest digits that read back as the same float32.
    Csv,
}

impl FeatureFormat {
    /// The format that a file's ending names, whatever its case.
    ///
    /// # Errors
    /// [`Error::Usage`] that lists the known endings.
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

/// How many images ended up where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Rows of features.
    pub rows: u64,
    /// Rows of `FILE.errors.csv`.
    pub failures: u64,
}

/// A file of features under construction, and the `FILE.errors.csv` (`path,error`) of the images that
/// have none.
///
/// Nothing is in place before [`FeatureWriter::finish`]; dropped without it, the old files stay.
pub struct FeatureWriter {
    path: PathBuf,
    dim: usize,
    format: Format,
    failures: Option<CsvFile>,
    written: Written,
}

enum Format {
    Npy(NpyWriter),
    Parquet(ParquetFeatures),
    Safetensors(SafetensorsWriter),
    Csv(CsvFile),
}

impl FeatureWriter {
    /// Starts the file that will replace `path`, for rows of `dim` values, in the format of its ending.
    /// Missing parent folders are made.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown ending, [`Error::Run`] if `dim` is 0, else as
    /// [`AtomicFile::create`].
    pub fn create(path: impl AsRef<Path>, dim: usize) -> Result<Self> {
        let path = path.as_ref();
        if dim == 0 {
            return Err(Error::run(format!(
                "{}: a row of features needs at least one value",
                path.display()
            )));
        }
        let format = match FeatureFormat::of(path)? {
            FeatureFormat::Npy => Format::Npy(NpyWriter::create(path, dim)?),
            FeatureFormat::Parquet => Format::Parquet(ParquetFeatures::create(path, dim)?),
            FeatureFormat::Safetensors => Format::Safetensors(SafetensorsWriter::create(path, dim)?),
            FeatureFormat::Csv => {
                let header = ["path".into(), "label".into()].into_iter();
                Format::Csv(CsvFile::create(path, header.chain((0..dim).map(|i| format!("f{i}"))))?)
            }
        };
        Ok(Self { path: path.into(), dim, format, failures: None, written: Written { rows: 0, failures: 0 } })
    }

    /// Adds a row: `features` are the `dim` values of the image at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written; [`Error::Run`] if the number of values is another.
    pub fn write_row(&mut self, path: &str, label: &str, features: &[f32]) -> Result<()> {
        if features.len() != self.dim {
            return Err(Error::run(format!(
                "{path}: expected {} feature values, found {}",
                self.dim,
                features.len()
            )));
        }
        self.written.rows += 1;
        match &mut self.format {
            Format::Npy(writer) => writer.write_row(path, label, features),
            Format::Parquet(writer) => writer.write_row(path, label, features),
            Format::Safetensors(writer) => writer.write_row(path, label, features),
            Format::Csv(file) => write_csv_row(file, path, label, features),
        }
    }

    /// Notes that the image at `path` has no features, and why.
    ///
    /// # Errors
    /// As [`AtomicFile::create`], and [`Error::Io`] if it cannot be written.
    pub fn write_failure(&mut self, path: &str, error: &str) -> Result<()> {
        let file = match &mut self.failures {
            Some(file) => file,
            none => none.insert(CsvFile::create(&errors_path(&self.path), ["path", "error"])?),
        };
        self.written.failures += 1;
        file.row([path, error])
    }

    /// Puts the files in place, the features last. An earlier run's `FILE.errors.csv` goes when nothing
    /// failed.
    ///
    /// # Errors
    /// [`Error::Io`] if the last bytes cannot be written; the old files are then as they were.
    pub fn finish(self) -> Result<Written> {
        let failed = self.failures.is_some();
        let mut files = Vec::new();
        if let Some(failures) = self.failures {
            files.push(failures.finish()?);
        }
        files.extend(match self.format {
            Format::Npy(writer) => writer.finish()?,
            Format::Parquet(writer) => writer.finish()?,
            Format::Safetensors(writer) => writer.finish()?,
            Format::Csv(file) => vec![file.finish()?],
        });
        AtomicFile::commit_all(files)?;
        let stale = errors_path(&self.path);
        if !failed {
            match fs::remove_file(&stale) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove the old", stale)(error));
                }
                _ => {}
            }
        }
        Ok(self.written)
    }
}

/// Where the images that failed are listed: `x.npy` → `x.npy.errors.csv`.
pub fn errors_path(path: &Path) -> PathBuf {
    sibling(path, ".errors.csv")
}

fn write_csv_row(file: &mut CsvFile, path: &str, label: &str, features: &[f32]) -> Result<()> {
    file.field(path)?;
    file.field(label)?;
    let mut text = String::new();
    for value in features {
        text.clear();
        // Rust's debug form is the shortest that reads back equal, with an exponent where that is shorter.
        // Writing to a String cannot fail.
        let _ = write!(text, "{value:?}");
        file.field(&text)?;
    }
    file.end_row()
}
