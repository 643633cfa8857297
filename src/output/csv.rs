//! A CSV file under construction (RFC 4180, `\n` line ends, UTF-8, a header row).

use std::fmt::Write as _;
use std::io;

use super::features::{FeatureFile, FeatureFormat};
use super::partial::{Extents, Part, Places};
use super::predictions::{PredictionColumns, PredictionFile, PredictionFormat, PredictionRow};
use super::rows::RowFile;
use crate::error::Result;

/// `path,label,f0,f1,…`, each value in the fewest digits that read back as the same float32.
pub(super) const FEATURES: FeatureFormat = FeatureFormat {
    ending: "csv",
    open: |partial, _, names| {
        let header = ["path", "label"].into_iter().chain(names.iter().map(String::as_str));
        Ok(Box::new(CsvFile::open(partial.part("rows.csv")?, header)?))
    },
};

/// A header row, then a row an image; absent values are empty.
pub(super) const PREDICTIONS: PredictionFormat = PredictionFormat {
    ending: "csv",
    open: |partial, columns| {
        let file = CsvFile::open(partial.part("rows.csv")?, columns.names())?;
        Ok(Box::new(CsvPredictions { file, columns }))
    },
};

/// A CSV file under construction.
pub(super) struct CsvFile {
    writer: csv::Writer<Part>,
}

impl CsvFile {
    /// Continues `part`, or starts it with the header.
    pub(super) fn open<S: AsRef<str>>(part: Part, header: impl IntoIterator<Item = S>) -> Result<Self> {
        let begun = part.length() > 0;
        let writer = csv::WriterBuilder::new().buffer_capacity(1 << 16).from_writer(part);
        let mut file = Self { writer };
        if !begun {
            for name in header {
                file.field(name.as_ref())?;
            }
            file.end_row()?;
        }
        Ok(file)
    }

    /// Adds a field to the row.
    pub(super) fn field(&mut self, text: &str) -> Result<()> {
        let written = self.writer.write_field(text);
        written.map_err(|error| self.error(error))
    }

    /// Ends the row.
    pub(super) fn end_row(&mut self) -> Result<()> {
        let written = self.writer.write_record(None::<&[u8]>);
        written.map_err(|error| self.error(error))
    }

    /// Adds a whole row.
    pub(super) fn row<const N: usize>(&mut self, fields: [&str; N]) -> Result<()> {
        for text in fields {
            self.field(text)?;
        }
        self.end_row()
    }

    /// As [`Part::name`].
    pub(super) fn name(&self) -> &'static str {
        self.writer.get_ref().name()
    }

    fn error(&self, error: csv::Error) -> crate::Error {
        let error = match error.into_kind() {
            csv::ErrorKind::Io(error) => error,
            other => io::Error::other(format!("{other:?}")),
        };
        self.writer.get_ref().error(error)
    }
}

impl RowFile for CsvFile {
    fn settle(&mut self, files: &mut Extents) -> Result<()> {
        let flushed = self.writer.flush();
        let part = self.writer.get_ref();
        flushed.map_err(|error| part.error(error))?;
        files.insert(part.name().into(), part.extent());
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.writer.get_ref().sync()
    }

    fn finish(&mut self, _: u64, places: &mut Places) -> Result<()> {
        places.put(self.name(), "");
        Ok(())
    }
}

impl FeatureFile for CsvFile {
    fn write_row(&mut self, path: &str, label: &str, features: &[f32]) -> Result<()> {
        self.field(path)?;
        self.field(label)?;
        let mut text = String::new();
        for value in features {
            text.clear();
            // Rust's debug form is the shortest that reads back equal, with an exponent where that
            // is shorter. Writing to a String cannot fail.
            let _ = write!(text, "{value:?}");
            self.field(&text)?;
        }
        self.end_row()
    }

    fn rows(&mut self) -> &mut dyn RowFile {
        self
    }
}

/// Predictions with a number of labels an image.
struct CsvPredictions {
    file: CsvFile,
    columns: PredictionColumns,
}

impl PredictionFile for CsvPredictions {
    fn write_row(&mut self, row: &PredictionRow) -> Result<()> {
        let number = |value: Option<f32>| value.map(|value| format!("{value:?}")).unwrap_or_default();
        self.file.field(&row.path)?;
        for rank in 0..self.columns.top_k {
            let (label, confidence) = row.rank(rank).unwrap_or_default();
            self.file.field(label)?;
            self.file.field(&number(confidence))?;
        }
        if self.columns.unknown {
            self.file.field(&number(row.answer.unknown))?;
        }
        self.file.field(row.error.as_deref().unwrap_or_default())?;
        self.file.end_row()
    }

    fn rows(&mut self) -> &mut dyn RowFile {
        &mut self.file
    }
}
