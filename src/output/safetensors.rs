//! `.safetensors`: the tensor `features` (F32 `[N, D]`), with `paths` and `labels` in the metadata, each
//! a JSON array as text (metadata values can only be text).
//!
//! The header stands before the numbers and holds every path, so the numbers wait in a temporary file
//! without a name until the header is known.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use super::AtomicFile;
use crate::error::{Error, Result};

/// Readers refuse a longer header (`MAX_HEADER_SIZE` in `safetensors/src/tensor.rs`).
const MAX_HEADER: u64 = 100_000_000;

/// What the header has besides paths and labels.
const FRAME: u64 = 512;

/// A `.safetensors` file of features, under construction.
pub(super) struct SafetensorsWriter {
    file: AtomicFile,
    numbers: BufWriter<File>,
    dim: usize,
    rows: u64,
    /// JSON arrays, still without the closing bracket.
    paths: String,
    labels: String,
    /// What both will take in the header.
    header: u64,
    bytes: Vec<u8>,
}

impl SafetensorsWriter {
    pub(super) fn create(path: &Path, dim: usize) -> Result<Self> {
        let file = AtomicFile::create(path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let numbers = tempfile::tempfile_in(folder).map_err(|error| file.error(error))?;
        Ok(Self {
            file,
            numbers: BufWriter::with_capacity(1 << 18, numbers),
            dim,
            rows: 0,
            paths: "[".into(),
            labels: "[".into(),
            header: FRAME,
            bytes: Vec::with_capacity(4 * dim),
        })
    }

    pub(super) fn write_row(&mut self, path: &str, label: &str, features: &[f32]) -> Result<()> {
        self.bytes.clear();
        self.bytes.extend(features.iter().flat_map(|value| value.to_le_bytes()));
        self.numbers.write_all(&self.bytes).map_err(|error| self.file.error(error))?;
        self.header += push_item(&mut self.paths, path) + push_item(&mut self.labels, label);
        self.rows += 1;
        if self.header > MAX_HEADER {
            let message = format!(
                "a .safetensors header holds at most 100 MB of paths and labels, which row {} exceeds; write .npy, \
                 .parquet or .csv instead",
                self.rows
            );
            return Err(Error::file(self.file.path(), message));
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Vec<AtomicFile>> {
        self.assemble().map_err(|error| self.file.error(error))?;
        Ok(vec![self.file])
    }

    fn assemble(&mut self) -> io::Result<()> {
        self.paths.push(']');
        self.labels.push(']');
        let size = self.rows * self.dim as u64 * 4;
        let mut header = format!(
            r#"{{"__metadata__":{{"labels":{},"paths":{}}},"features":{{"dtype":"F32","shape":[{},{}],"data_offsets":[0,{size}]}}}}"#,
            serde_json::to_string(&self.labels)?,
            serde_json::to_string(&self.paths)?,
            self.rows,
            self.dim,
        );
        // The numbers start at a multiple of 8, so that a reader can map them.
        while header.len() % 8 != 0 {
            header.push(' ');
        }
        self.file.write_all(&(header.len() as u64).to_le_bytes())?;
        self.file.write_all(header.as_bytes())?;
        self.numbers.flush()?;
        let mut numbers = self.numbers.get_ref();
        numbers.seek(SeekFrom::Start(0))?;
        io::copy(&mut numbers, &mut self.file)?;
        Ok(())
    }
}

/// Adds a string to an unfinished JSON array, and returns how many bytes that is once the array is a
/// JSON string itself.
fn push_item(array: &mut String, item: &str) -> u64 {
    let before = array.len();
    if before > 1 {
        array.push(',');
    }
    array.push_str(&serde_json::Value::from(item).to_string());
    array.as_bytes()[before..].iter().map(|byte| if matches!(byte, b'"' | b'\\') { 2 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_length_is_known_as_it_grows() {
        let mut array = String::from("[");
        let mut length = 3 + 1;
        for item in ["a.png", "", "q\"uo\\te.png", "new\nline", "ä…🦀"] {
            length += push_item(&mut array, item);
        }
        array.push(']');
        assert_eq!(serde_json::to_string(&array).unwrap().len() as u64, length);
        let items: Vec<String> = serde_json::from_str(&array).unwrap();
        assert_eq!(items[2..4], ["q\"uo\\te.png", "new\nline"]);
    }

    #[test]
    fn too_many_paths_are_refused_before_the_work_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let mut writer = SafetensorsWriter::create(&path, 1).unwrap();
        let long = "p".repeat(30 << 20);
        for _ in 0..3 {
            writer.write_row(&long, "", &[0.0]).unwrap();
        }
        let message = writer.write_row(&long, "", &[0.0]).unwrap_err().to_string();
        assert!(message.contains("row 4") && message.contains(".parquet"), "{message}");
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
