//! Parquet, through Arrow, so that `features` reads back as a fixed-size list.
//!
//! A row group is closed every 8 MB: that much is held in memory, and a reader can read the file in
//! pieces of that size. Text is compressed (snappy); feature values do not compress and are left
//! plain.
//!
//! A row group is written at once, so the rows of the open one are kept in a file, from which it is
//! then encoded. A Parquet file ends with a list of its row groups; until the end, the metadata of
//! each is kept in another file. So a resumed run reads none of the earlier groups.

mod features;
mod predictions;
mod text;

use std::error::Error as _;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    FileMetaData, ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter, RowGroupMetaData,
};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

pub(super) use self::features::FORMAT as FEATURES;
pub(super) use self::predictions::FORMAT as PREDICTIONS;
use super::partial::{Extent, Extents, Part, Partial, Places};
use super::rows::RowFile;
use crate::error::{Error, Result};

/// Bytes of values in a row group. `TL_ROW_GROUP` sets another number, for tests with few rows.
const ROW_GROUP: u64 = 8 << 20;

/// Bytes of values encoded at a time.
const BATCH: usize = 1 << 20;

/// The magic bytes at both ends of a Parquet file.
const MAGIC: &[u8] = b"PAR1";

/// Reads waiting rows back as columns, about [`BATCH`] bytes of them; `None` at their end.
type Columns = Box<dyn FnMut(&mut dyn Read) -> io::Result<Option<Vec<ArrayRef>>>>;

/// A Parquet file under construction: rows in, row groups out.
pub(super) struct ParquetFile {
    data: Part,
    /// The rows of the open group.
    rows: Part,
    /// Metadata of each group for the footer: a length in 8 bytes, then that much of Parquet
    /// metadata.
    groups: Part,
    schema: SchemaRef,
    properties: WriterProperties,
    columns: Columns,
    row_group: u64,
    /// Whether the rows are in a group already, and can be removed once that is recorded.
    closed: bool,
}

/// Extracts the row group from Parquet's output: without the file's first bytes and its footer.
struct Splice<'a> {
    data: &'a mut Part,
    skip: usize,
    ended: bool,
}

impl Write for Splice<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = if self.ended { bytes.len() } else { self.skip.min(bytes.len()) };
        self.skip -= skipped.min(self.skip);
        self.data.write_all(&bytes[skipped..])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ParquetFile {
    fn open(partial: &Partial, fields: Vec<Field>, plain: Option<&[&str]>, columns: Columns) -> Result<Self> {
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            // A page index would follow the groups, where the next group goes.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            // Groups are closed explicitly.
            .set_max_row_group_row_count(None);
        if let Some(column) = plain {
            let column = ColumnPath::new(column.iter().map(ToString::to_string).collect());
            properties = properties
                .set_column_compression(column.clone(), Compression::UNCOMPRESSED)
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_statistics_enabled(column, EnabledStatistics::None);
        }
        let mut data = partial.part("data.parquet")?;
        if data.length() == 0 {
            data.put(MAGIC)?;
        }
        Ok(Self {
            data,
            rows: partial.part("rows")?,
            groups: partial.part("groups")?,
            schema: Arc::new(Schema::new(fields)),
            properties: properties.build(),
            columns,
            row_group: std::env::var("TL_ROW_GROUP").ok().and_then(|it| it.parse().ok()).unwrap_or(ROW_GROUP),
            closed: false,
        })
    }

    fn close_group(&mut self) -> Result<()> {
        let path = self.data.path().to_path_buf();
        let failed = |error| failed(&path, error);
        let start = self.data.length() as i64;
        let mut rows = BufReader::with_capacity(1 << 18, self.rows.read()?);
        let splice = Splice { data: &mut self.data, skip: MAGIC.len(), ended: false };
        let schema = Arc::clone(&self.schema);
        let mut writer =
            ArrowWriter::try_new(splice, schema, Some(self.properties.clone())).map_err(failed)?;
        while let Some(arrays) =
            (self.columns)(&mut rows).map_err(Error::io("read back the rows of", &path))?
        {
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays);
            writer.write(&batch.map_err(|error| failed(error.into()))?).map_err(failed)?;
        }
        writer.flush().map_err(failed)?;
        // Parquet's own buffer still holds the end of the group.
        writer.sync().map_err(Error::io("write", &path))?;
        writer.inner_mut().ended = true;
        let metadata = writer.close().map_err(failed)?;
        let shift = start - MAGIC.len() as i64;
        let groups = metadata.row_groups().iter().map(|group| shifted(group, shift));
        let groups = groups.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let bytes = end(metadata.file_metadata().clone(), groups).map_err(failed)?;
        self.groups.put(&(bytes.len() as u64).to_le_bytes())?;
        self.groups.put(&bytes)?;
        self.closed = true;
        Ok(())
    }
}

impl RowFile for ParquetFile {
    fn settle(&mut self, files: &mut Extents) -> Result<()> {
        self.data.settle(files)?;
        self.groups.settle(files)?;
        self.rows.settle(files)?;
        if self.closed {
            files.insert(self.rows.name().into(), Extent::default());
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        [&self.data, &self.groups, &self.rows].into_iter().try_for_each(Part::sync)
    }

    fn end_batch(&mut self) -> Result<bool> {
        if self.rows.length() < self.row_group {
            return Ok(false);
        }
        self.close_group()?;
        Ok(true)
    }

    /// The journal records the group: its rows are no longer needed.
    fn committed(&mut self) -> Result<()> {
        if std::mem::take(&mut self.closed) { self.rows.empty() } else { Ok(()) }
    }

    /// Closes the last group and writes the footer.
    fn finish(&mut self, _: u64, places: &mut Places) -> Result<()> {
        if !self.closed && self.rows.length() > 0 {
            self.close_group()?;
        }
        let path = self.data.path().to_path_buf();
        let failed = |error| failed(&path, error);
        let mut groups = Vec::new();
        let mut file = None;
        let mut kept = BufReader::new(self.groups.read()?);
        let tap = || Error::io("read back the row groups of", &path);
        loop {
            let mut length = [0; 8];
            match kept.read_exact(&mut length) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                read => read.map_err(tap())?,
            }
            let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
            kept.read_exact(&mut bytes).map_err(tap())?;
            let metadata = ParquetMetaDataReader::decode_metadata(&bytes).map_err(failed)?;
            groups.extend(metadata.row_groups().iter().cloned());
            file = Some(metadata.file_metadata().clone());
        }
        let file = match file {
            Some(file) => file,
            // No rows at all: an empty file shows what the footer looks like.
            None => {
                let (schema, properties) = (Arc::clone(&self.schema), self.properties.clone());
                let writer = ArrowWriter::try_new(io::sink(), schema, Some(properties)).map_err(failed)?;
                writer.close().map_err(failed)?.file_metadata().clone()
            }
        };
        let end = end(file, groups).map_err(failed)?;
        self.data.put(&end)?;
        self.data.put(&(end.len() as u32).to_le_bytes())?;
        self.data.put(MAGIC)?;
        places.put(self.data.name(), "");
        Ok(())
    }
}

/// A row group shifted by `shift` bytes.
fn shifted(group: &RowGroupMetaData, shift: i64) -> Result<RowGroupMetaData, ParquetError> {
    let columns = group.columns().iter().map(|column| {
        let dictionary = column.dictionary_page_offset().map(|offset| offset + shift);
        column
            .clone()
            .into_builder()
            .set_data_page_offset(column.data_page_offset() + shift)
            .set_dictionary_page_offset(dictionary)
            .build()
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let builder = group.clone().into_builder().set_column_metadata(columns);
    match group.file_offset() {
        Some(offset) => builder.set_file_offset(offset + shift).build(),
        None => builder.build(),
    }
}

/// The footer metadata of a file with these row groups.
fn end(file: FileMetaData, groups: Vec<RowGroupMetaData>) -> Result<Vec<u8>, ParquetError> {
    let mut numbered = Vec::with_capacity(groups.len());
    for (ordinal, group) in groups.into_iter().enumerate() {
        // A file with more than 32,767 row groups omits the numbers.
        let builder = group.into_builder();
        numbered.push(match i16::try_from(ordinal) {
            Ok(ordinal) => builder.set_ordinal(ordinal.into()).build()?,
            Err(_) => builder.build()?,
        });
    }
    let rows = numbered.iter().map(RowGroupMetaData::num_rows).sum();
    let file = FileMetaData::new(
        file.version(),
        rows,
        file.created_by().map(Into::into),
        file.key_value_metadata().cloned(),
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    let mut bytes = Vec::new();
    ParquetMetaDataWriter::new(&mut bytes, &ParquetMetaData::new(file, numbered)).finish()?;
    // Its length and the magic follow; the caller writes them.
    bytes.truncate(bytes.len() - 8);
    Ok(bytes)
}

/// Unwraps the disk's error from Parquet's, for the user.
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
