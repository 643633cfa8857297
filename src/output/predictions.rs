//! Output of `predict`.

use std::path::Path;

#[cfg(feature = "parquet")]
use super::parquet;
use super::partial::Places;
use super::rows::{RowFile, Writing};
use super::{Done, Output, OutputProgress, Partial, by_ending, csv, endings, jsonl};
use crate::data::Input;
use crate::error::Result;
use crate::unknown::LABEL;

/// What a model says of an image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// Labels with their confidences in [0, 1], the best first.
    pub ranks: Vec<(String, f32)>,
    /// How strange the image is, in [0, 1]; `None` if the model cannot tell.
    pub unknown: Option<f32>,
    /// Whether it is called unknown: then this is its label, and its ranks come after it.
    pub rejected: bool,
}

/// The prediction for one image, or the reason there is none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PredictionRow {
    /// The image, as the outputs spell it ([`crate::text::path_text`]).
    pub path: String,
    /// What the model says; nothing if it failed.
    pub answer: Answer,
    /// Why there is no prediction.
    pub error: Option<String>,
}

impl PredictionRow {
    /// The row of an image: its answer, or the error.
    pub fn of(input: &Input, answer: Result<Answer, String>) -> Self {
        let path = input.name.clone();
        match answer {
            Ok(answer) => PredictionRow { path, answer, error: None },
            Err(error) => PredictionRow { path, answer: Answer::default(), error: Some(error) },
        }
    }

    /// The label and confidence of rank `rank`, counted from 0. A failed image has none, and the
    /// label of an unknown one has no confidence.
    pub fn rank(&self, rank: usize) -> Option<(&str, Option<f32>)> {
        let place = match (&self.error, self.answer.rejected) {
            (Some(_), _) => return None,
            (None, true) if rank == 0 => return Some((LABEL, None)),
            (None, rejected) => rank - usize::from(rejected),
        };
        self.answer.ranks.get(place).map(|(label, confidence)| (label.as_str(), Some(*confidence)))
    }
}

/// The columns of a file of predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PredictionColumns {
    /// Labels an image.
    pub top_k: usize,
    /// Whether there is a column for how strange it is.
    pub unknown: bool,
}

impl PredictionColumns {
    /// `path, label, confidence, label_2, confidence_2, …, unknown, error`.
    pub(super) fn names(self) -> impl Iterator<Item = String> {
        let ranks = (1..=self.top_k).flat_map(|rank| match rank {
            1 => ["label".to_string(), "confidence".to_string()],
            _ => [format!("label_{rank}"), format!("confidence_{rank}")],
        });
        let unknown = self.unknown.then(|| UNKNOWN.to_string());
        std::iter::once("path".to_string()).chain(ranks).chain(unknown).chain(["error".to_string()])
    }
}

/// The column for how strange an image is.
const UNKNOWN: &str = "unknown";

/// Whether a column holds numbers.
pub(super) fn is_number(column: &str) -> bool {
    column == UNKNOWN || column.starts_with("confidence")
}

/// A file format for predictions: a row of the list in this file, which its own file defines.
pub struct PredictionFormat {
    /// The file extension, without the dot.
    pub ending: &'static str,
    /// Continues a file with these columns.
    pub(super) open: fn(&Partial, PredictionColumns) -> Result<Box<dyn PredictionFile>>,
}

/// All formats for predictions.
const FORMATS: &[PredictionFormat] = &[
    csv::PREDICTIONS,
    jsonl::FORMAT,
    #[cfg(feature = "parquet")]
    parquet::PREDICTIONS,
];

impl PredictionFormat {
    /// The format of a file's extension, in upper or lower case.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] that lists the known endings.
    pub fn of(path: impl AsRef<Path>) -> Result<&'static Self> {
        by_ending(path.as_ref(), "predictions", FORMATS, |format| format.ending)
    }

    /// The endings, as text for help.
    pub fn endings() -> String {
        endings(FORMATS, |format| format.ending)
    }
}

/// Rows of predictions under construction in one format.
pub(super) trait PredictionFile {
    /// Adds a row. Ranks beyond the file's number are left out, missing ones are empty.
    fn write_row(&mut self, row: &PredictionRow) -> Result<()>;

    /// The files that hold the rows.
    fn rows(&mut self) -> &mut dyn RowFile;
}

/// A file of predictions under construction.
///
/// Nothing is in place before [`PredictionWriter::finish`]; rows [committed](Partial) before can be
/// resumed.
pub struct PredictionWriter {
    // Before the partial's owner: dropped in this order, the files close before their folder is
    // removed.
    format: Box<dyn PredictionFile>,
    writing: Writing,
}

impl PredictionWriter {
    /// Continues the file that will replace `path`, with these columns, in the format of its
    /// extension.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for an unknown extension, [`crate::Error::Io`] if the files cannot
    /// be opened.
    pub fn open(path: impl AsRef<Path>, columns: PredictionColumns, partial: Box<Partial>) -> Result<Self> {
        let format = (PredictionFormat::of(path)?.open)(&partial, columns)?;
        Ok(Self { format, writing: Writing::at(partial) })
    }

    /// Adds a row. Ranks beyond the columns are left out, missing ones are empty.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if it cannot be written.
    pub fn write_row(&mut self, row: &PredictionRow) -> Result<()> {
        self.writing.rows += 1;
        self.writing.failed += u64::from(row.error.is_some());
        self.format.write_row(row)
    }
}

impl Output for PredictionWriter {
    type Row = Answer;

    fn write(&mut self, input: &Input, row: Result<Self::Row, String>) -> Result<()> {
        self.write_row(&PredictionRow::of(input, row))
    }

    fn batch_done(&mut self, done: Done) -> Result<()> {
        self.writing.batch_done(self.format.rows(), None, done)
    }

    fn commit(&mut self, done: Done) -> Result<()> {
        self.writing.note(self.format.rows(), None, done, true)
    }

    fn kept(&self) -> Option<String> {
        self.writing.partial.kept()
    }

    fn finish(mut self, done: Done) -> Result<OutputProgress> {
        self.writing.finish(self.format.rows(), None, done, Places::default())
    }
}
