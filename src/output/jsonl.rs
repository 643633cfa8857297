//! JSON Lines: an object an image, with a key a column; absent values are null.

use std::io::{Error, Write};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::partial::Part;
use super::predictions::{PredictionFile, PredictionFormat, PredictionRow, columns};
use super::rows::RowFile;
use crate::error::Result;

pub(super) const FORMAT: PredictionFormat = PredictionFormat {
    ending: "jsonl",
    open: |partial, top_k| {
        let file = partial.part("rows.jsonl")?;
        Ok(Box::new(JsonLines { file, columns: columns(top_k).collect() }))
    },
};

struct JsonLines {
    file: Part,
    columns: Vec<String>,
}

impl PredictionFile for JsonLines {
    fn write_row(&mut self, row: &PredictionRow) -> Result<()> {
        let line = JsonRow { row, columns: &self.columns };
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
