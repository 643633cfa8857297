//! Rows of floats in memory and, beyond a limit, in a file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::models::{bytes_of, is_channels_last};
use crate::run::folder::RunFolder;
use crate::text::path_text::path_text;

const FLOAT: usize = size_of::<f32>();

/// Rows of equal shape, written once, in order, and read in any order.
pub(super) struct RowStore {
    /// The shape of a row.
    shape: Vec<i64>,
    /// Bytes of a row.
    row: usize,
    /// The first rows.
    memory: Vec<u8>,
    /// How many of them go to memory.
    in_memory: usize,
    /// The rest.
    file: Option<File>,
    rows: usize,
    /// Whether rows of images are channels-last, as the first ones were: the following stages then
    /// compute the same, to the last bit, as without storing them.
    channels_last: bool,
}

impl RowStore {
    /// Room for `rows` rows of floats of this shape, `memory` bytes of them in memory at most.
    pub(super) fn new(shape: Vec<i64>, rows: usize, memory: usize, folder: &RunFolder) -> Result<RowStore> {
        let row = row_bytes(&shape);
        let in_memory = (memory / row.max(1)).min(rows);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(in_memory * row).map_err(|_| {
            Error::run(format!(
                "there is no memory for the output of the frozen stages ({}): lower `train.keep_memory`",
                gigabytes(in_memory * row)
            ))
        })?;
        let file = if in_memory < rows { Some(folder.unnamed_file()?) } else { None };
        Ok(RowStore { shape, row, memory: bytes, in_memory, file, rows: 0, channels_last: false })
    }

    /// Adds the rows of a float tensor `[N, …]`.
    pub(super) fn push(&mut self, values: &Tensor, folder: &RunFolder) -> Result<()> {
        if self.rows == 0 {
            self.channels_last = is_channels_last(values);
        }
        let bytes = match self.channels_last {
            true => bytes_of(&values.f_permute([0, 2, 3, 1])?)?,
            false => bytes_of(values)?,
        };
        for row in bytes.chunks_exact(self.row) {
            match &self.file {
                Some(file) if self.rows >= self.in_memory => {
                    let offset = (self.rows - self.in_memory) as u64 * self.row as u64;
                    file.write_all_at(row, offset).map_err(|error| {
                        Error::run(format!(
                            "the output of the frozen stages cannot be kept in {} ({error}): make room there and \
                             go on with `--resume`, or set `train.keep: never` and start again with `--overwrite`",
                            path_text(folder.path())
                        ))
                    })?;
                }
                _ => self.memory.extend_from_slice(row),
            }
            self.rows += 1;
        }
        Ok(())
    }

    /// These rows as `[N, …]`, on the CPU.
    pub(super) fn read(&self, rows: &[usize], folder: &RunFolder) -> Result<Tensor> {
        let mut bytes = vec![0; rows.len() * self.row];
        for (&row, out) in rows.iter().zip(bytes.chunks_exact_mut(self.row.max(1))) {
            match &self.file {
                Some(file) if row >= self.in_memory => {
                    let offset = (row - self.in_memory) as u64 * self.row as u64;
                    file.read_exact_at(out, offset).map_err(Error::io("read back from", folder.path()))?;
                }
                _ => out.copy_from_slice(&self.memory[row * self.row..][..self.row]),
            }
        }
        let mut shape: Vec<i64> = [rows.len() as i64].iter().chain(&self.shape).copied().collect();
        if self.channels_last {
            shape[1..].rotate_left(1);
        }
        Tensor::f_from_data_size(&bytes, &shape, Kind::Float)
            .and_then(|rows| if self.channels_last { rows.f_permute([0, 3, 1, 2]) } else { Ok(rows) })
            .map_err(Error::torch("read back the frozen stages' output"))
    }
}

/// Bytes of a row of floats.
pub(super) fn row_bytes(shape: &[i64]) -> usize {
    shape.iter().map(|&side| side as usize).product::<usize>() * FLOAT
}

pub(super) fn gigabytes(bytes: usize) -> String {
    format!("{:.2} GB", bytes as f64 * 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::channels_last;

    #[test]
    fn rows_come_back_from_memory_and_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::at(folder.path());
        let values = Tensor::arange(60, (Kind::Float, tch::Device::Cpu)).view([10, 2, 3]);
        for memory in [0, 5 * 24 + 7, 1 << 20] {
            let mut store = RowStore::new(vec![2, 3], 10, memory, &run).unwrap();
            assert_eq!(store.in_memory, (memory / 24).min(10));
            store.push(&values.narrow(0, 0, 4), &run).unwrap();
            store.push(&values.narrow(0, 4, 6), &run).unwrap();
            let read = store.read(&[9, 0, 5, 4], &run).unwrap();
            assert_eq!(read, values.index_select(0, &Tensor::from_slice(&[9i64, 0, 5, 4])));
        }
        // They come back channels-last, as stored.
        let images = channels_last(&values.view([5, 3, 2, 2])).unwrap();
        let mut store = RowStore::new(vec![3, 2, 2], 5, 48, &run).unwrap();
        store.push(&images, &run).unwrap();
        let read = store.read(&[4, 1], &run).unwrap();
        assert_eq!(read, images.index_select(0, &Tensor::from_slice(&[4i64, 1])));
        assert!(is_channels_last(&read));
        // The file exists, without a name.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
