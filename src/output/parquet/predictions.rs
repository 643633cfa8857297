//! Predictions as a Parquet file.

use std::io::{self, Read};
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, Float32Array};
use arrow_schema::{DataType, Field};

use super::text::{get_text, get_word, next_text, put_text};
use super::{BATCH, Columns, ParquetFile};
use crate::error::Result;
use crate::output::Partial;
use crate::output::predictions::{
    PredictionColumns, PredictionFile, PredictionFormat, PredictionRow, is_number,
};
use crate::output::rows::RowFile;

/// Text and float32 columns; absent values are null.
pub(in crate::output) const FORMAT: PredictionFormat = PredictionFormat {
    ending: "parquet",
    open: |partial, columns| Ok(Box::new(ParquetPredictions::open(partial, columns)?)),
};

/// Columns `path`, `label`, `confidence`, …, `unknown`, `error`.
struct ParquetPredictions {
    file: ParquetFile,
    columns: PredictionColumns,
    bytes: Vec<u8>,
}

impl ParquetPredictions {
    fn open(partial: &Partial, columns: PredictionColumns) -> Result<Self> {
        let fields = columns.names().map(|name| {
            let kind = if is_number(&name) { DataType::Float32 } else { DataType::Utf8 };
            let nullable = name != "path";
            Field::new(name, kind, nullable)
        });
        let file = ParquetFile::open(partial, fields.collect(), None, Self::columns(columns))?;
        Ok(Self { file, columns, bytes: Vec::new() })
    }

    /// What is absent waits as a NaN: no number that is written is one.
    fn columns(PredictionColumns { top_k, unknown }: PredictionColumns) -> Columns {
        let number = |rows: &mut dyn Read| -> io::Result<Option<f32>> {
            let value = f32::from_le_bytes(get_word(rows)?.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(Some(value).filter(|value| !value.is_nan()))
        };
        Box::new(move |rows| {
            let (mut paths, mut errors) = (StringBuilder::new(), StringBuilder::new());
            let mut labels: Vec<StringBuilder> = (0..top_k).map(|_| StringBuilder::new()).collect();
            let mut confidences: Vec<Vec<Option<f32>>> = vec![Vec::new(); top_k];
            let mut strange = Vec::new();
            let mut bytes = 0;
            while bytes < BATCH {
                let Some(length) = get_word(rows)? else { break };
                let path = get_text(rows, length)?.unwrap_or_default();
                bytes += path.len() + 4;
                paths.append_value(path);
                for (labels, confidences) in labels.iter_mut().zip(&mut confidences) {
                    let label = next_text(rows)?;
                    bytes += label.as_ref().map_or(0, String::len) + 8;
                    confidences.push(number(rows)?);
                    labels.append_option(label);
                }
                if unknown {
                    strange.push(number(rows)?);
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
            if unknown {
                arrays.push(Arc::new(Float32Array::from(strange)));
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
        for rank in 0..self.columns.top_k {
            let (label, confidence) = row.rank(rank).unzip();
            put_text(&mut self.bytes, label);
            self.bytes.extend(confidence.flatten().unwrap_or(f32::NAN).to_le_bytes());
        }
        if self.columns.unknown {
            self.bytes.extend(row.answer.unknown.unwrap_or(f32::NAN).to_le_bytes());
        }
        put_text(&mut self.bytes, row.error.as_deref());
        self.file.rows.put(&self.bytes)
    }

    fn rows(&mut self) -> &mut dyn RowFile {
        &mut self.file
    }
}
