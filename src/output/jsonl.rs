//! JSON Lines: an object an image, with a key a column; absent values are null.

use std::io::{Error, Write};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::partial::Part;
use super::predictions::{PredictionColumns, PredictionFile, PredictionFormat, PredictionRow};
use super::rows::RowFile;
use crate::error::Result;

pub(super) const FORMAT: PredictionFormat = PredictionFormat {
    ending: "jsonl",
    open: |partial, columns| {
        let file = partial.part("rows.jsonl")?;
        Ok(Box::new(JsonLines { file, columns, names: columns.names().collect() }))
    },
};

struct JsonLines {
    file: Part,
    columns: PredictionColumns,
    names: Vec<String>,
}

impl PredictionFile for JsonLines {
    fn write_row(&mut self, row: &PredictionRow) -> Result<()> {
        let line = JsonRow { row, columns: self.columns, names: &self.names };
        serde_json::to_writer(&mut self.file, &line)
            .map_err(Error::from)
            .and_then(|()| self.file.write_all(b"\n"))
            .map_err(|error| self.file.error(error))
    }

    fn rows(&mut self) -> &mut dyn RowFile {
        &mut self.file
    }
}

/// A row as a JSON object, with keys in the order of the columns.
struct JsonRow<'a> {
    row: &'a PredictionRow,
    columns: PredictionColumns,
    names: &'a [String],
}

impl Serialize for JsonRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.row;
        let mut map = serializer.serialize_map(Some(self.names.len()))?;
        let mut names = self.names.iter();
        let mut next = || names.next().map_or("", String::as_str);
        map.serialize_entry(next(), &row.path)?;
        for rank in 0..self.columns.top_k {
            let (label, confidence) = row.rank(rank).unzip();
            map.serialize_entry(next(), &label)?;
            map.serialize_entry(next(), &confidence.flatten())?;
        }
        if self.columns.unknown {
            map.serialize_entry(next(), &row.answer.unknown)?;
        }
        map.serialize_entry(next(), &row.error)?;
        map.end()
    }
}
