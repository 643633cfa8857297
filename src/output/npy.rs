//! NumPy's `.npy`, version 1.0 (`numpy/lib/format.py`): float32, little-endian, C order, `[N, D]`;
//! with `FILE.index.csv` of `path,label`, a line for each row.

use super::csv::CsvFile;
use super::features::{FeatureFile, FeatureFormat, INDEX_ENDING};
use super::partial::{Extents, Part, Partial, Places};
use super::rows::RowFile;
use crate::error::Result;

/// NumPy: float32 `[N, D]`, with `FILE.index.csv` of `path,label`.
pub(super) const FORMAT: FeatureFormat = FeatureFormat {
    ending: "npy",
    open: |partial, _, names| Ok(Box::new(NpyWriter::open(partial, names.len())?)),
};

/// Size of NumPy's own header for two dimensions: a multiple of 64, with room for any number of
/// rows.
const HEADER: usize = 128;

/// An `.npy` file and its index, under construction.
struct NpyWriter {
    array: Part,
    index: CsvFile,
    dim: usize,
    bytes: Vec<u8>,
}

impl NpyWriter {
    fn open(partial: &Partial, dim: usize) -> Result<Self> {
        let mut array = partial.part_after("array.npy", HEADER as u64)?;
        if array.length() == 0 {
            // Rewritten at the end, when the number of rows is known.
            array.put(&header(0, dim))?;
        }
        let index = CsvFile::open(partial.part("index.csv")?, ["path", "label"])?;
        Ok(Self { array, index, dim, bytes: Vec::with_capacity(4 * dim) })
    }
}

impl FeatureFile for NpyWriter {
    fn write_row(&mut self, path: &str, label: &str, features: &[f32]) -> Result<()> {
        self.bytes.clear();
        self.bytes.extend(features.iter().flat_map(|value| value.to_le_bytes()));
        self.array.put(&self.bytes)?;
        self.index.row([path, label])
    }

    fn rows(&mut self) -> &mut dyn RowFile {
        self
    }
}

impl RowFile for NpyWriter {
    fn settle(&mut self, files: &mut Extents) -> Result<()> {
        self.index.settle(files)?;
        self.array.settle(files)
    }

    fn sync(&self) -> Result<()> {
        self.index.sync()?;
        self.array.sync()
    }

    /// The index, then the array: a reader of the new array finds its index.
    fn finish(&mut self, rows: u64, places: &mut Places) -> Result<()> {
        self.array.write_head(&header(rows, self.dim))?;
        places.put("index.csv", INDEX_ENDING);
        places.put("array.npy", "");
        Ok(())
    }
}

/// A whole file of rows of `dim` numbers.
pub fn npy_bytes(values: &[f32], dim: usize) -> Vec<u8> {
    let rows = values.len() / dim.max(1);
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    header(rows as u64, dim).into_iter().chain(bytes).collect()
}

fn header(rows: u64, dim: usize) -> [u8; HEADER] {
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    let mut header = [b' '; HEADER];
    header[..8].copy_from_slice(b"\x93NUMPY\x01\x00");
    header[8..10].copy_from_slice(&(HEADER as u16 - 10).to_le_bytes());
    // 58 characters and two numbers of at most 20 digits: it always fits.
    header[10..10 + text.len()].copy_from_slice(text.as_bytes());
    header[HEADER - 1] = b'\n';
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_room_for_any_shape() {
        let header = header(u64::MAX, usize::MAX);
        let text = std::str::from_utf8(&header[10..]).unwrap();
        assert!(text.contains("(18446744073709551615, 18446744073709551615), }"), "{text}");
        assert!(text.ends_with(" \n"), "{text:?}");
    }
}
