//! Output of `predict`.

use std::io::Write;
use std::path::Path;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::csv::CsvFile;
use super::parquet::ParquetPredictions;
use super::partial::{Part, Places};
use super::rows::{RowFile, Writing};
use super::{Done, Output, Partial, Progress, by_ending};
use crate::data::Input;
use crate::error::Result;

/// The prediction for one image, or the reason there is none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PredictionRow {
    /// The image's path as in outputs ([`super::path_text`]).
    pub path: String,
    /// Labels with their confidences in [0, 1], the best first; empty if it failed.
    pub ranks: Vec<(String, f32)>,
    /// Why there is no prediction.
    pub error: Option<String>,
}

impl PredictionRow {
    /// The row of an image: its ranks, or the error.
    pub fn of(input: &Input, ranks: Result<Vec<(String, f32)>, String>) -> Self {
        let path = input.name.clone();
        match ranks {
            Ok(ranks) => PredictionRow { path, ranks, error: None },
            Err(error) => PredictionRow { path, ranks: Vec::new(), error: Some(error) },
        }
    }

    /// The label and confidence of rank `rank`, counted from 0. A failed image has none.
    pub fn rank(&self, rank: usize) -> Option<(&str, f32)> {
        if self.error.is_some() {
            return None;
        }
        self.ranks.get(rank).map(|(label, confidence)| (label.as_str(), *confidence))
    }
}

/// `path, label, confidence, label_2, confidence_2, …, error`.
pub(super) fn columns(top_k: usize) -> impl Iterator<Item = String> {
    let ranks = (1..=top_k).flat_map(|rank| match rank {
        1 => ["label".to_string(), "confidence".to_string()],
        _ => [format!("label_{rank}"), format!("confidence_{rank}")],
    });
    std::iter::once("path".to_string()).chain(ranks).chain(std::iter::once("error".to_string()))
}

/// A file format for predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PredictionFormat {
    /// A header row, then a row an image; missing values are empty.
    Csv,
    /// A JSON object a line, with a key a column; missing values are null.
    Jsonl,
    /// Text and float32 columns; missing values are null.
    Parquet,
}

impl PredictionFormat {
    /// The format of a file's extension, in upper or lower case.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] that lists the known extensions.
    pub fn of(path: impl AsRef<Path>) -> Result<Self> {
        let known = [("csv", Self::Csv), ("jsonl", Self::Jsonl), ("parquet", Self::Parquet)];
        by_ending(path.as_ref(), "predictions", &known)
    }
}

/// A file of predictions under construction.
///
/// Nothing is in place before [`PredictionWriter::finish`]; rows [committed](Partial) before can be
/// resumed.
pub struct PredictionWriter {
    // Before the partial: fields drop in this order, so the files close before their folder is
    // removed.
    format: Format,
    writing: Writing,
    top_k: usize,
}

enum Format {
    Csv(Box<CsvFile>),
    Jsonl { file: Part, columns: Vec<String> },
    Parquet(Box<ParquetPredictions>),
}

impl Format {
    fn file(&mut self) -> &mut dyn RowFile {
        match self {
            Format::Csv(file) => &mut **file,
            Format::Jsonl { file, .. } => file,
            Format::Parquet(writer) => &mut writer.file,
        }
    }
}

impl PredictionWriter {
    /// Continues the file that will replace `path`, with `top_k` labels an image, in the format of
    /// its extension.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for an unknown extension, [`crate::Error::Io`] if the files cannot
    /// be opened.
    pub fn open(path: impl AsRef<Path>, top_k: usize, partial: Box<Partial>) -> Result<Self> {
        let format = match PredictionFormat::of(path)? {
            PredictionFormat::Csv => {
                Format::Csv(Box::new(CsvFile::open(partial.part("rows.csv")?, columns(top_k))?))
            }
            PredictionFormat::Parquet => {
                Format::Parquet(Box::new(ParquetPredictions::open(&partial, top_k)?))
            }
            PredictionFormat::Jsonl => {
                Format::Jsonl { file: partial.part("rows.jsonl")?, columns: columns(top_k).collect() }
            }
        };
        Ok(Self { format, writing: Writing::at(partial), top_k })
    }

    /// Adds a row. Ranks beyond `top_k` are left out, missing ones are empty.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if it cannot be written.
    pub fn write_row(&mut self, row: &PredictionRow) -> Result<()> {
        self.writing.rows += 1;
        self.writing.failed += u64::from(row.error.is_some());
        match &mut self.format {
            Format::Csv(file) => write_csv_row(file, row, self.top_k),
            Format::Parquet(writer) => writer.write_row(row),
            Format::Jsonl { file, columns } => {
                let line = JsonRow { row, columns };
                serde_json::to_writer(&mut *file, &line)
                    .map_err(std::io::Error::from)
                    .and_then(|()| file.write_all(b"\n"))
                    .map_err(|error| file.error(error))
            }
        }
    }
}

impl Output for PredictionWriter {
    type Row = Vec<(String, f32)>;

    fn write(&mut self, input: &Input, row: Result<Self::Row, String>) -> Result<()> {
        self.write_row(&PredictionRow::of(input, row))
    }

    fn batch_done(&mut self, done: Done) -> Result<()> {
        self.writing.batch_done(self.format.file(), None, done)
    }

    fn commit(&mut self, done: Done) -> Result<()> {
        self.writing.note(self.format.file(), None, done, true)
    }

    fn kept(&self) -> Option<String> {
        self.writing.partial.kept()
    }

    fn finish(mut self, done: Done) -> Result<Progress> {
        self.writing.finish(self.format.file(), None, done, Places::default())
    }
}

fn write_csv_row(file: &mut CsvFile, row: &PredictionRow, top_k: usize) -> Result<()> {
    file.field(&row.path)?;
    for rank in 0..top_k {
        let (label, confidence) = match row.rank(rank) {
            Some((label, confidence)) => (label, format!("{confidence:?}")),
            None => ("", String::new()),
        };
        file.field(label)?;
        file.field(&confidence)?;
    }
    file.field(row.error.as_deref().unwrap_or_default())?;
    file.end_row()
}

/// A row as a JSON object with its keys in the order of the columns.
struct JsonRow<'a> {
    row: &'a PredictionRow,
    columns: &'a [String],
}

impl Serialize for JsonRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (row, last) = (self.row, self.columns.len() - 1);
        let mut map = serializer.serialize_map(Some(self.columns.len()))?;
        map.serialize_entry(&self.columns[0], &row.path)?;
        for (rank, pair) in self.columns[1..last].chunks_exact(2).enumerate() {
            map.serialize_entry(&pair[0], &row.rank(rank).map(|(label, _)| label))?;
            map.serialize_entry(&pair[1], &row.rank(rank).map(|(_, confidence)| confidence))?;
        }
        map.serialize_entry(&self.columns[last], &row.error)?;
        map.end()
    }
}
