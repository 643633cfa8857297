//! A CSV file under construction (RFC 4180, `\n` line ends, UTF-8, a header row).

use std::io;

use super::partial::{Lengths, Part, Places};
use super::rows::RowFile;
use crate::error::Result;

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
    fn settle(&mut self, lengths: &mut Lengths) -> Result<()> {
        let flushed = self.writer.flush();
        let part = self.writer.get_ref();
        flushed.map_err(|error| part.error(error))?;
        lengths.insert(part.name().into(), part.length());
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.writer.get_ref().sync()
    }

    fn finish(&mut self, _: u64, places: &mut Places) -> Result<()> {
        places.put.push((self.name().into(), String::new()));
        Ok(())
    }
}
