//! An output under construction that outlives its process.
//!
//! Rows go to files in a hidden folder beside the output, `.FILE.partial`, as soon as they are
//! ready. A journal in it records the length of each file with the complete rows of a number of
//! images. A resumed run cuts the files to those lengths and appends. At the end the files are put
//! in place.
//!
//! A line of the journal is written after the bytes that it describes, and ends with a line end:
//! after `kill -9` or on a full disk the last whole line is true. After a power cut, recognised by
//! the boot's identity, only lines with synced bytes count.

mod journal;
mod part;
mod place;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use self::journal::OutputProgress;
pub(super) use self::journal::{Lengths, Places};
pub(super) use self::part::Part;

use self::journal::{JOURNAL, LONGEST_JOURNAL, line, new_journal, read_journal, sync};
use self::place::{finished, place};
use super::JobIdentity;
use crate::error::{Error, Result};
use crate::text::path_text::path_text;
use crate::text::words::counted;
use crate::util::atomic::{hidden, resolve};
use crate::util::lock::{Lock, Taken};

/// Interval of journal entries: the most work that `kill -9` loses.
const COMMIT: Duration = Duration::from_millis(50);

/// Interval of syncs: the most work that a power cut loses.
const SYNC: Duration = Duration::from_secs(10);

const LOCK: &str = "lock";
/// State of an output.
pub enum Begun {
    /// The output is complete.
    Complete(OutputProgress),
    /// It is to be written, from [`Partial::progress`] on.
    Partial(Box<Partial>),
}

/// An output under construction.
///
/// Dropped before an image is done, it leaves nothing; later, the folder.
pub struct Partial {
    /// The path given by the user.
    path: PathBuf,
    /// The path with links followed.
    target: PathBuf,
    folder: PathBuf,
    journal: File,
    job: JobIdentity,
    progress: OutputProgress,
    /// Bytes added to the journal.
    noted: usize,
    committed: Instant,
    synced: Instant,
    started_over: Option<u64>,
    /// Held while this process writes.
    _lock: Lock,
}

impl Partial {
    /// Finds out how much of `path` this job has written, if it may resume (`resume`), and prepares
    /// to write the rest.
    ///
    /// # Errors
    /// [`Error::Usage`] if another job's output is there; [`Error::Io`] and [`Error::File`] if
    /// `path` cannot be written, or another process is writing it.
    pub fn begin(path: &Path, job: &JobIdentity, resume: bool) -> Result<Begun> {
        let target = resolve(path)?;
        let folder = hidden(&target, ".partial");
        if resume && !folder.join(JOURNAL).exists() && target.exists() {
            return finished(path, &target, job).map(Begun::Complete);
        }
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(Error::io("create the folder", parent))?;
        let writing = || Error::io("write", path);
        let lock = match Lock::take(&folder.join(LOCK)).map_err(writing())? {
            Taken::Ours(lock) => lock,
            Taken::Theirs(holder) => {
                let message = format!("{holder} is writing it: wait for its end, or choose another name");
                return Err(Error::file(path, message));
            }
        };
        let (begun, started_over) = match read_journal(&folder) {
            None => (OutputProgress::default(), None),
            Some((header, progress)) if resume => {
                same_job(path, &header.job, job)?;
                (progress, None)
            }
            Some((_, progress)) => {
                (OutputProgress::default(), Some(progress.images).filter(|&images| images > 0))
            }
        };
        if let Some(places) = &begun.places {
            // It was stopped between two renames.
            place(path, &target, &folder, job, &begun, places)?;
            return Ok(Begun::Complete(begun));
        }
        if begun.images == 0 {
            clear(&folder).map_err(writing())?;
        }
        let journal = new_journal(&folder, job, &begun).map_err(writing())?;
        let now = Instant::now();
        Ok(Begun::Partial(Box::new(Partial {
            path: path.into(),
            target,
            folder,
            journal,
            job: job.clone(),
            progress: begun,
            noted: 0,
            committed: now,
            synced: now,
            started_over,
            _lock: lock,
        })))
    }

    /// The progress in the journal.
    pub fn progress(&self) -> &OutputProgress {
        &self.progress
    }

    /// The number of images done by an earlier run whose rows were discarded.
    pub fn started_over(&self) -> Option<u64> {
        self.started_over
    }

    /// `N images are done and their rows kept in …`, if there are any.
    pub fn kept(&self) -> Option<String> {
        let OutputProgress { images, lengths, .. } = &self.progress;
        let done = counted(*images as usize, "image is done", "images are done");
        let size = megabytes(lengths.values().sum());
        let whole =
            format!("{done}, whose rows ({size}) are kept in {}", shown_beside(&self.path, &self.folder));
        (*images > 0).then_some(whole)
    }

    /// Opens a file for appending, cut to its length in the journal.
    pub(super) fn part(&self, name: &'static str) -> Result<Part> {
        let length = self.progress.lengths.get(name).copied().unwrap_or(0);
        Part::open(&self.path, &self.folder, name, length)
    }

    /// Whether it is time for [`Partial::commit`]. The first rows are recorded at once: a disk may
    /// be full soon after.
    pub(super) fn is_due(&self) -> bool {
        self.progress.images == 0 || self.committed.elapsed() >= COMMIT
    }

    /// Whether files should be synced before the next commit.
    pub(super) fn sync_is_due(&self) -> bool {
        self.synced.elapsed() >= SYNC
    }

    /// Records that everything up to `progress` is written, and whether it was synced.
    pub(super) fn commit(&mut self, progress: OutputProgress, synced: bool) -> Result<()> {
        let progress = OutputProgress { synced, ..progress };
        let line = line(&progress);
        self.journal.write_all(line.as_bytes()).map_err(Error::io("write", &self.path))?;
        self.noted += line.len();
        self.committed = Instant::now();
        if synced {
            sync(&self.journal).map_err(Error::io("write", &self.path))?;
            self.synced = self.committed;
        }
        if synced && self.noted > LONGEST_JOURNAL {
            let journal = new_journal(&self.folder, &self.job, &progress);
            self.journal = journal.map_err(Error::io("write", &self.path))?;
            self.noted = 0;
        }
        self.progress = progress;
        Ok(())
    }

    /// Puts the files in place; they are already synced.
    pub(super) fn complete(mut self, progress: OutputProgress, places: Places) -> Result<OutputProgress> {
        self.commit(OutputProgress { places: Some(places.clone()), ..progress }, true)?;
        place(&self.path, &self.target, &self.folder, &self.job, &self.progress, &places)?;
        Ok(self.progress.clone())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.progress.images == 0 {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn same_job(path: &Path, was: &JobIdentity, is: &JobIdentity) -> Result<()> {
    let differences = was.differences(is);
    match differences.is_empty() {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "cannot go on with {}, which means another run: {}; to start over, leave `--resume` out",
            path_text(path),
            differences.join("; ")
        ))),
    }
}

/// Removes everything but the lock.
fn clear(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() != LOCK {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The folder as the user would write it: beside the given path.
fn shown_beside(path: &Path, folder: &Path) -> String {
    match (path.parent(), folder.file_name()) {
        (Some(parent), Some(name)) if !path.is_symlink() => path_text(&parent.join(name)).into_owned(),
        _ => path_text(folder).into_owned(),
    }
}

fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
