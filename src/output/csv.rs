//! A CSV file under construction (RFC 4180, `\n` line ends, UTF-8, a header row).

use std::io;
use std::path::Path;

use super::AtomicFile;
use crate::error::{Error, Result};

/// A CSV file under construction.
pub(super) struct CsvFile {
    writer: csv::Writer<AtomicFile>,
    path: std::path::PathBuf,
}

impl CsvFile {
    pub(super) fn create<S: AsRef<str>>(path: &Path, header: impl IntoIterator<Item = S>) -> Result<Self> {
        let writer =
            csv::WriterBuilder::new().buffer_capacity(1 << 16).from_writer(AtomicFile::create(path)?);
        let mut file = Self { writer, path: path.into() };
        for name in header {
            file.field(name.as_ref())?;
        }
        file.end_row()?;
        Ok(file)
    }

    /// Adds a field to the row.
    pub(super) fn field(&mut self, text: &str) -> Result<()> {
        self.writer.write_field(text).map_err(|error| self.error(error))
    }

    /// Ends the row.
    pub(super) fn end_row(&mut self) -> Result<()> {
        self.writer.write_record(None::<&[u8]>).map_err(|error| self.error(error))
    }

    /// Adds a whole row.
    pub(super) fn row<const N: usize>(&mut self, fields: [&str; N]) -> Result<()> {
        for text in fields {
            self.field(text)?;
        }
        self.end_row()
    }

    /// The finished file, to be committed.
    pub(super) fn finish(self) -> Result<AtomicFile> {
        let Self { writer, path } = self;
        writer.into_inner().map_err(|error| Error::io("write", path)(error.into_error()))
    }

    fn error(&self, error: csv::Error) -> Error {
        let error = match error.into_kind() {
            csv::ErrorKind::Io(error) => error,
            other => io::Error::other(format!("{other:?}")),
        };
        Error::io("write", &self.path)(error)
    }
}
