//! A file of an output under construction.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::journal::{Extent, Extents};
use crate::error::{Error, Result};
use crate::util::files::{self, OwnFile};

/// All names: a journal that names anything else is not believed.
const PARTS: [&str; 12] = [
    "array.npy",
    "data.parquet",
    "errors.csv",
    "groups",
    "index.csv",
    "labels",
    "numbers",
    "paths",
    "rows",
    "rows.csv",
    "rows.jsonl",
    "whole.safetensors",
];

/// Whether a file of an output has this name.
pub(super) fn is_part(name: &str) -> bool {
    PARTS.contains(&name)
}

/// A file of a [`Partial`](super::Partial), appended to.
///
/// Its [`Write`] is buffered, and its errors have no path: [`Part::error`] adds one.
pub(in crate::output) struct Part {
    writer: BufWriter<OwnFile>,
    length: u64,
    /// Bytes at its start that are not in the checksum.
    head: u64,
    checksum: crc32fast::Hasher,
    path: PathBuf,
    name: &'static str,
}

impl Part {
    /// The file `name` in `folder`, with so much of it.
    pub(super) fn open(path: &Path, folder: &Path, name: &'static str, extent: Extent) -> Result<Self> {
        debug_assert!(is_part(name), "{name} is not in the list");
        let Extent { length, head, crc32 } = extent;
        let open = || {
            let place = folder.join(name);
            let mut file = files::open(&place)?;
            file.set_len(length)?;
            file.seek(SeekFrom::Start(length))?;
            // Synced bytes of a file without a name are lost.
            files::sync_parent(&place);
            Ok(file)
        };
        let file = open().map_err(Error::io("write", path))?;
        let checksum = crc32fast::Hasher::new_with_initial_len(crc32, length.saturating_sub(head));
        let writer = BufWriter::with_capacity(1 << 18, file);
        Ok(Self { writer, length, head, checksum, path: path.into(), name })
    }

    pub(in crate::output) fn name(&self) -> &'static str {
        self.name
    }

    /// The output's path.
    pub(in crate::output) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes so far, including the buffer.
    pub(in crate::output) fn length(&self) -> u64 {
        self.length
    }

    /// `cannot write PATH: …`, PATH being the output.
    pub(in crate::output) fn error(&self, error: io::Error) -> Error {
        Error::io("write", &self.path)(error)
    }

    /// Adds bytes.
    pub(in crate::output) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(|error| self.error(error))
    }

    /// Flushes to the system, and records how much there is.
    pub(in crate::output) fn settle(&mut self, files: &mut Extents) -> Result<()> {
        self.writer.flush().map_err(|error| self.error(error))?;
        files.insert(self.name.into(), self.extent());
        Ok(())
    }

    /// How much there is, including the buffer.
    pub(in crate::output) fn extent(&self) -> Extent {
        Extent { length: self.length, head: self.head, crc32: self.checksum.clone().finalize() }
    }

    /// Waits until the flushed bytes are on disk.
    pub(in crate::output) fn sync(&self) -> Result<()> {
        self.writer.get_ref().sync().map_err(|error| self.error(error))
    }

    /// Truncates the file to nothing.
    pub(in crate::output) fn empty(&mut self) -> Result<()> {
        let cut = |writer: &mut BufWriter<OwnFile>| {
            writer.flush()?;
            writer.get_ref().set_len(0)?;
            writer.seek(SeekFrom::Start(0))
        };
        cut(&mut self.writer).map_err(|error| self.error(error))?;
        (self.length, self.checksum) = (0, crc32fast::Hasher::new());
        Ok(())
    }

    /// Overwrites the head, and returns to the end.
    pub(in crate::output) fn write_head(&mut self, bytes: &[u8]) -> Result<()> {
        debug_assert_eq!(bytes.len() as u64, self.head);
        let write = |writer: &mut BufWriter<OwnFile>| {
            writer.seek(SeekFrom::Start(0))?;
            writer.write_all(bytes)?;
            writer.seek(SeekFrom::End(0))
        };
        write(&mut self.writer).map(drop).map_err(|error| self.error(error))
    }

    /// The file from its start, for reading.
    pub(in crate::output) fn read(&mut self) -> Result<&mut OwnFile> {
        let rewind = |writer: &mut BufWriter<OwnFile>| {
            writer.flush()?;
            writer.get_mut().seek(SeekFrom::Start(0))
        };
        rewind(&mut self.writer).map_err(|error| self.error(error))?;
        Ok(self.writer.get_mut())
    }

    /// Appends the rest of `file`.
    pub(in crate::output) fn append_file(&mut self, file: &mut OwnFile) -> Result<()> {
        io::copy(file, self).map(drop).map_err(|error| self.error(error))
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        let head = self.head.saturating_sub(self.length).min(written as u64) as usize;
        self.checksum.update(&bytes[head..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
