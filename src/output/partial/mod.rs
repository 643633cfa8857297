//! An output under construction that outlives its process.
//!
//! Rows go to files in a hidden folder beside the output, `.FILE.partial`, as soon as they are
//! ready. A journal in it records the length and the checksum of each file with the complete rows of
//! a number of images. A resumed run reads the files again, cuts them to the last lengths whose
//! bytes are there, and appends. At the end the files are put in place.
//!
//! A line of the journal is written after the bytes that it describes: after `kill -9` or on a full
//! disk the last whole line is true. After a power cut at least the last line is with synced bytes.

mod journal;
mod part;
mod place;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use self::journal::OutputProgress;
pub(super) use self::journal::{Extent, Extents};
pub(super) use self::part::Part;
pub(super) use self::place::Places;

use self::journal::{JOURNAL, Kept, LONGEST_JOURNAL, line, new_journal, read_journal};
use self::place::{are_there, finished, place};
use super::JobIdentity;
use crate::error::{Error, Result};
use crate::text::path_text::path_text;
use crate::text::words::counted;
use crate::util::atomic::{hidden, resolve};
use crate::util::files::{self, OwnFile};
use crate::util::lock::{Lock, Taken};

/// Interval of journal entries: the most work that `kill -9` loses.
const COMMIT: Duration = Duration::from_millis(50);

/// Interval of syncs: the most work that a power cut loses.
const SYNC: Duration = Duration::from_secs(10);

const LOCK: &str = "lock";

const DAMAGED: &str =
    "the rows of an earlier run are lost, because the first line of their journal is damaged";

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
    journal: OwnFile,
    job: JobIdentity,
    progress: OutputProgress,
    /// Bytes added to the journal.
    noted: usize,
    committed: Instant,
    synced: Instant,
    started_over: Option<u64>,
    lost: Option<String>,
    /// Held while this process writes.
    lock: Lock,
}

impl Partial {
    /// Finds out how much of `path` this job has written, if it may resume (`resume`), and prepares
    /// to write the rest.
    ///
    /// # Errors
    /// [`Error::Usage`] if the output of another job or of an earlier version is there;
    /// [`Error::Io`] and [`Error::File`] if `path` cannot be written, or another process is writing
    /// it, or another user could.
    pub fn begin(path: &Path, job: &JobIdentity, resume: bool) -> Result<Begun> {
        let target = resolve(path)?;
        let folder = hidden(&target, ".partial");
        if resume && !folder.join(JOURNAL).exists() && target.exists() {
            let progress = finished(path, &target, job)?;
            clear_away(&folder);
            return Ok(Begun::Complete(progress));
        }
        let lock = locked(path, &target, &folder)?;
        let writing = || Error::io("write", path);
        let kept = read_journal(&folder, resume, |places| are_there(path, &folder, places));
        let kept = kept.map_err(writing())?;
        let (begun, started_over, lost) = match kept {
            Kept::Nothing => (OutputProgress::default(), None, None),
            Kept::Unchecked if resume => return Err(unchecked(path)),
            Kept::Damaged if resume => (OutputProgress::default(), None, Some(DAMAGED.into())),
            Kept::Unchecked | Kept::Damaged => (OutputProgress::default(), None, None),
            Kept::Rows { job: was, progress, lost } if resume => {
                same_job(path, &was, job)?;
                (*progress, None, lost)
            }
            Kept::Rows { progress, .. } => {
                let images = Some(progress.images).filter(|&images| images > 0);
                (OutputProgress::default(), images, None)
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
            lost,
            lock,
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

    /// What an earlier run had done that cannot be gone on with, if anything: a phrase.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// `N images are done and their rows kept in …`, if there are any.
    pub fn kept(&self) -> Option<String> {
        let OutputProgress { images, files, .. } = &self.progress;
        let done = counted(*images as usize, "image is done", "images are done");
        let size = megabytes(files.values().map(|extent| extent.length).sum());
        let whole =
            format!("{done}, whose rows ({size}) are kept in {}", shown_beside(&self.path, &self.folder));
        (*images > 0).then_some(whole)
    }

    /// Opens a file for appending, cut to its length in the journal.
    pub(super) fn part(&self, name: &'static str) -> Result<Part> {
        self.part_after(name, 0)
    }

    /// As [`Partial::part`], for a file whose first `head` bytes are written at the end.
    pub(super) fn part_after(&self, name: &'static str, head: u64) -> Result<Part> {
        let nothing = Extent { head, ..Extent::default() };
        let extent = self.progress.files.get(name).copied().unwrap_or(nothing);
        Part::open(&self.path, &self.folder, name, extent)
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
        let line = line(&progress);
        self.journal.write_all(line.as_bytes()).map_err(Error::io("write", &self.path))?;
        self.noted += line.len();
        self.committed = Instant::now();
        if synced {
            self.check_lock()?;
            self.journal.sync().map_err(Error::io("write", &self.path))?;
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

    /// The files of another process may be where this one's were.
    fn check_lock(&self) -> Result<()> {
        match self.lock.is_held() {
            true => Ok(()),
            false => Err(Error::file(
                &self.path,
                format!(
                    "its rows in {} have been moved or removed meanwhile; run it again to start over",
                    shown_beside(&self.path, &self.folder)
                ),
            )),
        }
    }

    /// Puts the files in place; they are already synced, and `whole` says how long they are.
    pub(super) fn complete(
        mut self,
        progress: OutputProgress,
        mut places: Places,
        whole: &Extents,
    ) -> Result<OutputProgress> {
        places.read_digests(&self.folder).map_err(Error::io("read back", &self.path))?;
        for put in &places.put {
            let written = whole.get(&put.name).map_or(0, |extent| extent.length);
            if put.bytes != written {
                let message = format!(
                    "has {} bytes on the disk where {written} were written: something else has changed it; run it \
                     again",
                    put.bytes
                );
                return Err(Error::file(&self.path, message));
            }
        }
        self.commit(OutputProgress { places: Some(places.clone()), ..progress }, true)?;
        place(&self.path, &self.target, &self.folder, &self.job, &self.progress, &places)?;
        Ok(self.progress.clone())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.progress.images == 0 && self.lock.is_held() {
            let _ = files::remove_folder(&self.folder);
        }
    }
}

/// Makes the hidden folder, and takes its lock.
fn locked(path: &Path, target: &Path, folder: &Path) -> Result<Lock> {
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    files::create_folders(parent).map_err(Error::io("create the folder", parent))?;
    let writing = || Error::io("write", path);
    files::own_folder(folder).map_err(writing())?;
    let lock = match Lock::take(&folder.join(LOCK)).map_err(writing())? {
        Taken::Ours(lock) => lock,
        Taken::Theirs(holder) => {
            let message = format!("{holder} is writing it: wait for its end, or choose another name");
            return Err(Error::file(path, message));
        }
    };
    // Again, since the process that had it may have removed it.
    files::own_folder(folder).map_err(writing())?;
    Ok(lock)
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

fn unchecked(path: &Path) -> Error {
    Error::usage(format!(
        "cannot go on with {}: an earlier version of tl kept its rows, without checksums to tell whether they are \
         all there; to start over, leave `--resume` out",
        path_text(path)
    ))
}

/// Removes everything but the lock.
fn clear(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() != LOCK {
            files::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes what a crash in the middle of the folder's removal has left. If that fails, it does no
/// harm.
fn clear_away(folder: &Path) {
    let is_there = fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir());
    if is_there
        && files::own_folder(folder).is_ok()
        && let Ok(Taken::Ours(_lock)) = Lock::take(&folder.join(LOCK))
    {
        let _ = files::remove_folder(folder);
    }
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
