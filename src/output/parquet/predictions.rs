//! Predictions as a Parquet file.

use std::io;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, Float32Array};
use arrow_schema::{DataType, Field};

use super::text::{get_text, get_word, next_text, put_text};
use super::{BATCH, Columns, ParquetFile};
use crate::error::Result;
use crate::output::Partial;
use crate::output::predictions::{PredictionFile, PredictionFormat, PredictionRow, columns};
use crate::output::rows::RowFile;

/// Text and float32 columns; absent values are null.
pub(in crate::output) const FORMAT: PredictionFormat = PredictionFormat {
    ending: "parquet",
    open: |partial, top_k| Ok(Box::new(ParquetPredictions::open(partial, top_k)?)),
};

/// Columns `path`, `label`, `confidence`, …, `error`.
struct ParquetPredictions {
    file: ParquetFile,
    top_k: usize,
    bytes: Vec<u8>,
}

impl ParquetPredictions {
    fn open(partial: &Partial, top_k: usize) -> Result<Self> {
        let fields = columns(top_k).map(|name| {
            let kind = if name.starts_with("confidence") { DataType::Float32 } else { DataType::Utf8 };
            let nullable = name != "path";
            Field::new(name, kind, nullable)
        });
        let file = ParquetFile::open(partial, fields.collect(), None, Self::columns(top_k))?;
        Ok(Self { file, top_k, bytes: Vec::new() })
    }

    /// A rank without a label has no confidence either.
    fn columns(top_k: usize) -> Columns {
        Box::new(move |rows| {
            let (mut paths, mut errors) = (StringBuilder::new(), StringBuilder::new());
            let mut labels: Vec<StringBuilder> = (0..top_k).map(|_| StringBuilder::new()).collect();
            let mut confidences: Vec<Vec<Option<f32>>> = vec![Vec::new(); top_k];
            let mut bytes = 0;
            while bytes < BATCH {
                let Some(length) = get_word(rows)? else { break };
                let path = get_text(rows, length)?.unwrap_or_default();
                bytes += path.len() + 4;
                paths.append_value(path);
                for (labels, confidences) in labels.iter_mut().zip(&mut confidences) {
                    let label = next_text(rows)?;
                    let confidence = get_word(rows)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                    bytes += label.as_ref().map_or(0, String::len) + 8;
                    confidences.push(label.is_some().then_some(f32::from_le_bytes(confidence)));
                    labels.append_option(label);
                }
                let error = next_text(rows)?;
                bytes += error.as_ref().map_or(0, String::len);
                errors.append_option(error);
            }
            if bytes == 0 {
                return Ok(None);
            }
            let mut arrays: Vec<ArrayRef> = vec![Arc::new(paths.finish())];
            for (mut labels, confidences) in labels.into_iter().zip(confidences) {
                arrays.push(Arc::new(labels.finish()));
                arrays.push(Arc::new(Float32Array::from(confidences)));
            }
            arrays.push(Arc::new(errors.finish()));
            Ok(Some(arrays))
        })
    }
}

impl PredictionFile for ParquetPredictions {
    fn write_row(&mut self, row: &PredictionRow) -> Result<()> {
        self.bytes.clear();
        put_text(&mut self.bytes, Some(&row.path));
        for rank in 0..self.top_k {
            let (label, confidence) = row.rank(rank).unzip();
            put_text(&mut self.bytes, label);
            self.bytes.extend(confidence.unwrap_or_default().to_le_bytes());
        }
        put_text(&mut self.bytes, row.error.as_deref());
        self.file.rows.put(&self.bytes)
    }

    fn rows(&mut self) -> &mut dyn RowFile {
        &mut self.file
    }
}
