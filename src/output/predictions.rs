//! Output of `predict`.

use std::path::Path;

#[cfg(feature = "parquet")]
use super::parquet;
use super::partial::Places;
use super::rows::{RowFile, Writing};
use super::{Done, Output, OutputProgress, Partial, by_ending, csv, endings, jsonl};
use crate::data::Input;
use crate::error::Result;

/// The prediction for one image, or the reason there is none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PredictionRow {
    /// The image, as the outputs spell it ([`crate::text::path_text`]).
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

/// A file format for predictions: a row of the list in this file, which its own file defines.
pub struct PredictionFormat {
    /// The file extension, without the dot.
    pub ending: &'static str,
    /// Continues a file with this many labels an image.
    pub(super) open: fn(&Partial, usize) -> Result<Box<dyn PredictionFile>>,
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
    /// Continues the file that will replace `path`, with `top_k` labels an image, in the format of
    /// its extension.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for an unknown extension, [`crate::Error::Io`] if the files cannot
    /// be opened.
    pub fn open(path: impl AsRef<Path>, top_k: usize, partial: Box<Partial>) -> Result<Self> {
        let format = (PredictionFormat::of(path)?.open)(&partial, top_k)?;
        Ok(Self { format, writing: Writing::at(partial) })
    }

    /// Adds a row. Ranks beyond `top_k` are left out, missing ones are empty.
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
    type Row = Vec<(String, f32)>;

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
