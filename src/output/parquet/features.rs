//! Features as a Parquet file.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{FixedSizeListArray, Float32Array};
use arrow_schema::{DataType, Field, FieldRef};

use super::text::{get_text, get_word, next_text, put_text};
use super::{BATCH, Columns, ParquetFile};
use crate::error::{Error, Result};
use crate::output::Partial;
use crate::output::features::{FeatureFile, FeatureFormat};
use crate::output::rows::RowFile;

/// Columns `path`, `label` (text) and `features` (fixed-size list of float32).
pub(in crate::output) const FORMAT: FeatureFormat = FeatureFormat {
    ending: "parquet",
    open: |partial, path, names| Ok(Box::new(ParquetFeatures::open(partial, path, names.len())?)),
};

/// Columns `path`, `label`, `features`.
struct ParquetFeatures {
    file: ParquetFile,
    bytes: Vec<u8>,
}

impl ParquetFeatures {
    fn open(partial: &Partial, path: &Path, dim: usize) -> Result<Self> {
        let size = i32::try_from(dim).map_err(|_| {
            Error::file(path, format!("a Parquet list holds at most {} values, a row has {dim}", i32::MAX))
        })?;
        let element = Arc::new(Field::new("element", DataType::Float32, false));
        let fields = vec![
            Field::new("path", DataType::Utf8, false),
            Field::new("label", DataType::Utf8, false),
            Field::new("features", DataType::FixedSizeList(Arc::clone(&element), size), false),
        ];
        let plain = ["features", "list", "element"];
        let file = ParquetFile::open(partial, fields, Some(&plain), Self::columns(element, size))?;
        Ok(Self { file, bytes: Vec::new() })
    }

    fn columns(element: FieldRef, size: i32) -> Columns {
        Box::new(move |rows| {
            let (mut paths, mut labels) = (StringBuilder::new(), StringBuilder::new());
            let mut values: Vec<f32> = Vec::new();
            let mut row = vec![0; 4 * size as usize];
            while 4 * values.len() < BATCH {
                let Some(length) = get_word(rows)? else { break };
                paths.append_value(get_text(rows, length)?.unwrap_or_default());
                labels.append_value(next_text(rows)?.unwrap_or_default());
                rows.read_exact(&mut row)?;
                values.extend(row.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            }
            if values.is_empty() {
                return Ok(None);
            }
            let values = Arc::new(Float32Array::from(values));
            let features = FixedSizeListArray::try_new(Arc::clone(&element), size, values, None)
                .map_err(io::Error::other)?;
            Ok(Some(vec![Arc::new(paths.finish()), Arc::new(labels.finish()), Arc::new(features)]))
        })
    }
}

impl FeatureFile for ParquetFeatures {
    fn write_row(&mut self, path: &str, label: &str, features: &[f32]) -> Result<()> {
        self.bytes.clear();
        put_text(&mut self.bytes, Some(path));
        put_text(&mut self.bytes, Some(label));
        self.bytes.extend(features.iter().flat_map(|value| value.to_le_bytes()));
        self.file.rows.put(&self.bytes)
    }

    fn rows(&mut self) -> &mut dyn RowFile {
        &mut self.file
    }
}
