//! A file of an output under construction.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::journal::{Lengths, sync};
use crate::error::{Error, Result};

/// A file of a [`Partial`](super::Partial), appended to.
///
/// Its [`Write`] is buffered, and its errors have no path: [`Part::error`] adds one.
pub(in crate::output) struct Part {
    writer: BufWriter<File>,
    length: u64,
    path: PathBuf,
    name: &'static str,
}

impl Part {
    pub(super) fn open(path: &Path, folder: &Path, name: &'static str, length: u64) -> Result<Self> {
        let open = || {
            let mut options = File::options();
            let mut file =
                options.read(true).write(true).create(true).truncate(false).open(folder.join(name))?;
            file.set_len(length)?;
            file.seek(SeekFrom::Start(length))?;
            Ok(file)
        };
        let file = open().map_err(Error::io("write", path))?;
        Ok(Self { writer: BufWriter::with_capacity(1 << 18, file), length, path: path.into(), name })
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

    /// Flushes to the system, and records the file's length.
    pub(in crate::output) fn settle(&mut self, lengths: &mut Lengths) -> Result<()> {
        self.writer.flush().map_err(|error| self.error(error))?;
        lengths.insert(self.name.into(), self.length);
        Ok(())
    }

    /// Waits until the flushed bytes are on disk.
    pub(in crate::output) fn sync(&self) -> Result<()> {
        sync(self.writer.get_ref()).map_err(|error| self.error(error))
    }

    /// Truncates the file to nothing.
    pub(in crate::output) fn empty(&mut self) -> Result<()> {
        let cut = |writer: &mut BufWriter<File>| {
            writer.flush()?;
            writer.get_ref().set_len(0)?;
            writer.seek(SeekFrom::Start(0))
        };
        cut(&mut self.writer).map_err(|error| self.error(error))?;
        self.length = 0;
        Ok(())
    }

    /// Overwrites the first bytes, and returns to the end.
    pub(in crate::output) fn patch_start(&mut self, bytes: &[u8]) -> Result<()> {
        let write = |writer: &mut BufWriter<File>| {
            writer.seek(SeekFrom::Start(0))?;
            writer.write_all(bytes)?;
            writer.seek(SeekFrom::End(0))
        };
        write(&mut self.writer).map(drop).map_err(|error| self.error(error))
    }

    /// The file from its start, for reading.
    pub(in crate::output) fn read(&mut self) -> Result<&mut File> {
        let rewind = |writer: &mut BufWriter<File>| {
            writer.flush()?;
            writer.get_mut().seek(SeekFrom::Start(0))
        };
        rewind(&mut self.writer).map_err(|error| self.error(error))?;
        Ok(self.writer.get_mut())
    }

    /// Appends the rest of `file`, copied by the system.
    pub(in crate::output) fn append_file(&mut self, file: &mut File) -> Result<()> {
        let mut copy = |writer: &mut BufWriter<File>| {
            writer.flush()?;
            io::copy(file, writer.get_mut())
        };
        self.length += copy(&mut self.writer).map_err(|error| self.error(error))?;
        Ok(())
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
