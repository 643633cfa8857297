//! `.safetensors`: the tensor `features` (F32 `[N, D]`), with `paths` and `labels` in the metadata,
//! each a JSON array as text (metadata values can only be text).
//!
//! The header precedes the numbers and contains every path, so numbers, paths and labels are kept
//! in separate files until all are known, the text already in the header's form.

use super::features::{FeatureFile, FeatureFormat};
use super::partial::{Extents, Part, Partial, Places};
use super::rows::RowFile;
use crate::error::{Error, Result};

/// The tensor `features`, with `paths` and `labels` as JSON arrays in the metadata.
pub(super) const FORMAT: FeatureFormat = FeatureFormat {
    ending: "safetensors",
    open: |partial, _, names| Ok(Box::new(SafetensorsWriter::open(partial, names.len())?)),
};

/// Readers refuse a longer header (`MAX_HEADER_SIZE` in `safetensors/src/tensor.rs`).
const MAX_HEADER: u64 = 100_000_000;

/// Header bytes besides paths and labels.
const FRAME: u64 = 512;

/// A `.safetensors` file of features, under construction.
struct SafetensorsWriter {
    whole: Part,
    numbers: Part,
    /// Items of JSON arrays, escaped as a JSON string, each but the first after a comma.
    paths: Part,
    labels: Part,
    dim: usize,
    bytes: Vec<u8>,
}

impl SafetensorsWriter {
    fn open(partial: &Partial, dim: usize) -> Result<Self> {
        Ok(Self {
            whole: partial.part("whole.safetensors")?,
            numbers: partial.part("numbers")?,
            paths: partial.part("paths")?,
            labels: partial.part("labels")?,
            dim,
            bytes: Vec::with_capacity(4 * dim),
        })
    }
}

impl FeatureFile for SafetensorsWriter {
    fn write_row(&mut self, path: &str, label: &str, features: &[f32]) -> Result<()> {
        self.bytes.clear();
        self.bytes.extend(features.iter().flat_map(|value| value.to_le_bytes()));
        for (part, text) in [(&mut self.paths, path), (&mut self.labels, label)] {
            let item = item(text, part.length() == 0);
            part.put(item.as_bytes())?;
        }
        if self.paths.length() + self.labels.length() + FRAME > MAX_HEADER {
            return Err(Error::file(
                self.numbers.path(),
                "a .safetensors header holds at most 100 MB of paths and labels, and these images have more; write \
                 .npy, .parquet or .csv instead, or several files with `--shard`",
            ));
        }
        self.numbers.put(&self.bytes)
    }

    fn rows(&mut self) -> &mut dyn RowFile {
        self
    }
}

impl RowFile for SafetensorsWriter {
    fn settle(&mut self, files: &mut Extents) -> Result<()> {
        [&mut self.paths, &mut self.labels, &mut self.numbers]
            .into_iter()
            .try_for_each(|part| part.settle(files))?;
        // It is made at the end.
        if self.whole.length() > 0 { self.whole.settle(files) } else { Ok(()) }
    }

    fn sync(&self) -> Result<()> {
        [&self.whole, &self.paths, &self.labels, &self.numbers].into_iter().try_for_each(Part::sync)
    }

    /// Puts the parts together.
    fn finish(&mut self, rows: u64, places: &mut Places) -> Result<()> {
        let Self { whole, numbers, paths, labels, dim, .. } = self;
        let size = rows * *dim as u64 * 4;
        let features = format!(
            r#"]"}},"features":{{"dtype":"F32","shape":[{rows},{dim}],"data_offsets":[0,{size}]}}}}"#
        );
        let pieces = [r#"{"__metadata__":{"labels":"["#, r#"]","paths":"["#, &features];
        let frame: usize = pieces.iter().map(|piece| piece.len()).sum();
        let length = frame as u64 + paths.length() + labels.length();
        // The numbers start at a multiple of 8, so that a reader can map them.
        let padded = length.next_multiple_of(8);
        whole.empty()?;
        whole.put(&padded.to_le_bytes())?;
        whole.put(pieces[0].as_bytes())?;
        whole.append_file(labels.read()?)?;
        whole.put(pieces[1].as_bytes())?;
        whole.append_file(paths.read()?)?;
        whole.put(pieces[2].as_bytes())?;
        whole.put(&b"        "[..(padded - length) as usize])?;
        whole.append_file(numbers.read()?)?;
        places.put(whole.name(), "");
        Ok(())
    }
}

/// A string as an item of a JSON array that is itself a JSON string.
fn item(text: &str, first: bool) -> String {
    let array = serde_json::Value::from(text).to_string();
    let quoted = serde_json::Value::from(array).to_string();
    let comma = if first { "" } else { "," };
    format!("{comma}{}", &quoted[1..quoted.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_make_an_array_inside_a_string() {
        let names = ["a.png", "", "q\"uo\\te.png", "new\nline", "ä…🦀"];
        let items: String = names.iter().enumerate().map(|(i, name)| item(name, i == 0)).collect();
        let array: String = serde_json::from_str(&format!("\"[{items}]\"")).unwrap();
        let read: Vec<String> = serde_json::from_str(&array).unwrap();
        assert_eq!(read, names);
    }
}
