//! Common part of all formats: rows go to files, their progress is recorded from time to time, and
//! in the end they are put in place.

use super::csv::CsvFile;
use super::partial::{Extents, Part, Partial, Places};
use super::{Done, OutputProgress};
use crate::error::Result;

/// Rows under construction in one format.
pub(super) trait RowFile {
    /// Flushes to the system, and records how much there is of each part, as [`Part::settle`].
    fn settle(&mut self, files: &mut Extents) -> Result<()>;

    /// Syncs to the disk.
    fn sync(&self) -> Result<()>;

    /// Closes a group of rows, if the format has groups and it is full; returns whether it did.
    fn end_batch(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// Called when everything settled has been recorded.
    fn committed(&mut self) -> Result<()> {
        Ok(())
    }

    /// Writes the end of a file with this many rows, and adds the destinations of the parts.
    fn finish(&mut self, rows: u64, places: &mut Places) -> Result<()>;
}

impl RowFile for Part {
    fn settle(&mut self, files: &mut Extents) -> Result<()> {
        Part::settle(self, files)
    }

    fn sync(&self) -> Result<()> {
        Part::sync(self)
    }

    fn finish(&mut self, _: u64, places: &mut Places) -> Result<()> {
        places.put(self.name(), "");
        Ok(())
    }
}

/// An output being written, and its progress.
pub(super) struct Writing {
    pub(super) partial: Box<Partial>,
    pub(super) rows: u64,
    pub(super) failed: u64,
}

impl Writing {
    /// Continues where `partial` is.
    pub(super) fn at(partial: Box<Partial>) -> Self {
        let (rows, failed) = (partial.progress().rows, partial.progress().failures);
        Writing { partial, rows, failed }
    }

    /// As [`super::Output::batch_done`].
    pub(super) fn batch_done(
        &mut self,
        format: &mut dyn RowFile,
        failures: Option<&mut CsvFile>,
        done: Done,
    ) -> Result<()> {
        let closed = format.end_batch()?;
        match closed || self.partial.is_due() {
            // The rows of a closed group are removed as soon as the group is safe.
            true => self.note(format, failures, done, closed || self.partial.sync_is_due()),
            false => Ok(()),
        }
    }

    /// Records that the rows so far are written, safe from a power cut if `sync`.
    pub(super) fn note(
        &mut self,
        format: &mut dyn RowFile,
        mut failures: Option<&mut CsvFile>,
        done: Done,
        sync: bool,
    ) -> Result<()> {
        let files = settle(format, &mut failures)?;
        if sync {
            self::sync(format, &failures)?;
        }
        self.partial.commit(done.progress(self.rows, self.failed, files), sync)?;
        format.committed()
    }

    /// Completes the rows and puts them in place, besides the files already in `places`.
    pub(super) fn finish(
        mut self,
        format: &mut dyn RowFile,
        mut failures: Option<&mut CsvFile>,
        done: Done,
        mut places: Places,
    ) -> Result<OutputProgress> {
        self.note(format, failures.as_deref_mut(), done.clone(), true)?;
        let files = settle(format, &mut failures)?;
        format.finish(self.rows, &mut places)?;
        let whole = settle(format, &mut failures)?;
        sync(format, &failures)?;
        self.partial.complete(done.progress(self.rows, self.failed, files), places, &whole)
    }
}

fn settle(format: &mut dyn RowFile, failures: &mut Option<&mut CsvFile>) -> Result<Extents> {
    let mut files = Extents::new();
    if let Some(failures) = failures {
        failures.settle(&mut files)?;
    }
    format.settle(&mut files)?;
    Ok(files)
}

fn sync(format: &dyn RowFile, failures: &Option<&mut CsvFile>) -> Result<()> {
    failures.as_ref().map_or(Ok(()), |failures| failures.sync())?;
    format.sync()
}
