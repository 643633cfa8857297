//! Parquet, through Arrow, so that `features` reads back as a fixed-size list.
//!
//! A row group is closed every 16 MB: that much is held in memory, and a reader can take the file in
//! pieces of that size. Text is compressed (snappy); feature values do not compress and are left plain.

use std::error::Error as _;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::AtomicFile;
use super::predictions::{PredictionRow, columns};
use crate::error::{Error, Result};

/// Bytes of values in a row group.
const ROW_GROUP: usize = 16 << 20;

/// Bytes of values encoded at a time.
const BATCH: usize = 1 << 20;

/// A Parquet file under construction: batches in, row groups out.
struct ParquetFile {
    writer: ArrowWriter<AtomicFile>,
    path: std::path::PathBuf,
    schema: SchemaRef,
    /// Bytes in the open row group.
    open: usize,
}

impl ParquetFile {
    fn create(path: &Path, fields: Vec<Field>, plain: Option<&[&str]>) -> Result<Self> {
        let schema = Arc::new(Schema::new(fields));
        let mut properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
        if let Some(column) = plain {
            let column = ColumnPath::new(column.iter().map(ToString::to_string).collect());
            properties = properties
                .set_column_compression(column.clone(), Compression::UNCOMPRESSED)
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_statistics_enabled(column, EnabledStatistics::None);
        }
        let file = AtomicFile::create(path)?;
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties.build()))
            .map_err(|error| failed(path, error))?;
        Ok(Self { writer, path: path.into(), schema, open: 0 })
    }

    fn write(&mut self, arrays: Vec<ArrayRef>, bytes: usize) -> Result<()> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays)
            .map_err(|error| failed(&self.path, error.into()))?;
        self.writer.write(&batch).map_err(|error| failed(&self.path, error))?;
        self.open += bytes;
        if self.open >= ROW_GROUP {
            self.writer.flush().map_err(|error| failed(&self.path, error))?;
            self.open = 0;
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<AtomicFile>> {
        let file = self.writer.into_inner().map_err(|error| failed(&self.path, error))?;
        Ok(vec![file])
    }
}

/// Parquet wraps what the disk said; the user wants to know what the disk said.
fn failed(path: &Path, error: ParquetError) -> Error {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let error = match source {
        Some(source) => match source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(source.kind(), source.to_string()),
        },
        None => io::Error::other(error),
    };
    Error::io("write", path)(error)
}

/// Columns `path`, `label`, `features`.
pub(super) struct ParquetFeatures {
    file: ParquetFile,
    element: FieldRef,
    size: i32,
    paths: StringBuilder,
    labels: StringBuilder,
    values: Vec<f32>,
    bytes: usize,
}

impl ParquetFeatures {
    pub(super) fn create(path: &Path, dim: usize) -> Result<Self> {
        let size = i32::try_from(dim).map_err(|_| {
            Error::file(path, format!("a Parquet list holds at most {} values, a row has {dim}", i32::MAX))
        })?;
        let element = Arc::new(Field::new("element", DataType::Float32, false));
        let fields = vec![
            Field::new("path", DataType::Utf8, false),
            Field::new("label", DataType::Utf8, false),
            Field::new("features", DataType::FixedSizeList(Arc::clone(&element), size), false),
        ];
        Ok(Self {
            file: ParquetFile::create(path, fields, Some(&["features", "list", "element"]))?,
            element,
            size,
            paths: StringBuilder::new(),
            labels: StringBuilder::new(),
            values: Vec::new(),
            bytes: 0,
        })
    }

    pub(super) fn write_row(&mut self, path: &str, label: &str, features: &[f32]) -> Result<()> {
        self.paths.append_value(path);
        self.labels.append_value(label);
        self.values.extend_from_slice(features);
        self.bytes += path.len() + label.len() + 4 * features.len();
        if self.bytes >= BATCH { self.write_batch() } else { Ok(()) }
    }

    fn write_batch(&mut self) -> Result<()> {
        let values = Arc::new(Float32Array::from(std::mem::take(&mut self.values)));
        let features = FixedSizeListArray::try_new(Arc::clone(&self.element), self.size, values, None)
            .map_err(|error: ArrowError| failed(&self.file.path, error.into()))?;
        let arrays: Vec<ArrayRef> =
            vec![Arc::new(self.paths.finish()), Arc::new(self.labels.finish()), Arc::new(features)];
        self.file.write(arrays, std::mem::take(&mut self.bytes))
    }

    pub(super) fn finish(mut self) -> Result<Vec<AtomicFile>> {
        if self.bytes > 0 {
            self.write_batch()?;
        }
        self.file.finish()
    }
}

/// Columns `path`, `label`, `confidence`, …, `error`.
pub(super) struct ParquetPredictions {
    file: ParquetFile,
    top_k: usize,
    rows: Vec<PredictionRow>,
    bytes: usize,
}

impl ParquetPredictions {
    pub(super) fn create(path: &Path, top_k: usize) -> Result<Self> {
        let fields = columns(top_k).map(|name| {
            let kind = if name.starts_with("confidence") { DataType::Float32 } else { DataType::Utf8 };
            let nullable = name != "path";
            Field::new(name, kind, nullable)
        });
        let file = ParquetFile::create(path, fields.collect(), None)?;
        Ok(Self { file, top_k, rows: Vec::new(), bytes: 0 })
    }

    pub(super) fn write_row(&mut self, row: &PredictionRow) -> Result<()> {
        let labels: usize = row.ranks.iter().map(|(label, _)| label.len() + 4).sum();
        self.bytes += row.path.len() + labels + row.error.as_ref().map_or(0, String::len);
        self.rows.push(row.clone());
        if self.bytes >= BATCH { self.write_batch() } else { Ok(()) }
    }

    fn write_batch(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let text = |values: Vec<Option<&str>>| -> ArrayRef {
            let bytes = values.iter().flatten().map(|text| text.len()).sum();
            let mut builder = StringBuilder::with_capacity(values.len(), bytes);
            values.into_iter().for_each(|value| builder.append_option(value));
            Arc::new(builder.finish())
        };
        let mut arrays = vec![text(rows.iter().map(|row| Some(row.path.as_str())).collect())];
        for rank in 0..self.top_k {
            arrays.push(text(rows.iter().map(|row| row.rank(rank).map(|(label, _)| label)).collect()));
            let confidences = rows.iter().map(|row| row.rank(rank).map(|(_, confidence)| confidence));
            arrays.push(Arc::new(confidences.collect::<Float32Array>()));
        }
        arrays.push(text(rows.iter().map(|row| row.error.as_deref()).collect()));
        self.file.write(arrays, std::mem::take(&mut self.bytes))
    }

    pub(super) fn finish(mut self) -> Result<Vec<AtomicFile>> {
        if !self.rows.is_empty() {
            self.write_batch()?;
        }
        self.file.finish()
    }
}
