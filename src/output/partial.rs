//! An output under construction that outlives its process.
//!
//! Rows go to files in a hidden folder beside the output, `.FILE.partial`, as they are ready. Its
//! journal records the length of each file after the complete rows of a number of images; a resumed
//! run cuts the files to those lengths and appends. At the end the files are moved into place.
//!
//! A line of the journal is written after the bytes that it describes, and ends with a line end:
//! after `kill -9` or on a full disk the last whole line is true. After a power cut, detected by
//! the boot's identity, only lines whose bytes were synced count.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Done, JobIdentity, sibling};
use crate::error::{Error, Result};
use crate::util::atomic::AtomicFile;
use crate::util::atomic::{hidden, resolve, sync_folder};
use crate::util::lock::Lock;
use crate::util::text::counted;

/// Interval of journal entries: the most work that `kill -9` costs.
const COMMIT: Duration = Duration::from_millis(50);

/// Interval of syncs: the most work that a power cut costs.
const SYNC: Duration = Duration::from_secs(10);

/// A longer journal is restarted with its last line.
const LONGEST_JOURNAL: usize = 1 << 20;

const LOCK: &str = "lock";
const JOURNAL: &str = "journal.jsonl";

/// Progress of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Finished images of the listing (of the shard's, if there are shards), readable or not.
    pub images: u64,
    /// A digest of the names and labels of these images.
    #[serde(rename = "listing")]
    pub fingerprint: String,
    /// Rows written.
    pub rows: u64,
    /// Images that could not be read.
    pub failures: u64,
    /// The length of each file.
    pub(super) lengths: Lengths,
    /// Whether these bytes survive a power cut.
    #[serde(default)]
    synced: bool,
    /// At the end: the destination of each file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    places: Option<Places>,
}

impl Progress {
    /// Finished images, with these numbers of rows and failures.
    pub fn new(done: Done, rows: u64, failures: u64) -> Self {
        done.progress(rows, failures, Lengths::new())
    }
}

impl Done {
    pub(super) fn progress(self, rows: u64, failures: u64, lengths: Lengths) -> Progress {
        let Done { images, fingerprint } = self;
        Progress { images, fingerprint, rows, failures, lengths, synced: false, places: None }
    }
}

/// File names with lengths in bytes.
pub(super) type Lengths = BTreeMap<String, u64>;

/// Final destinations of the files, as suffixes of the output's path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Places {
    /// File and suffix, in this order.
    pub put: Vec<(String, String)>,
    /// Files of an earlier run to remove.
    pub remove: Vec<String>,
}

/// The first line of the journal. With the last line, it is the record of a finished run.
#[derive(Serialize, Deserialize)]
struct Header {
    job: JobIdentity,
    boot: String,
}

/// A finished run, as stored in `.FILE.job` beside the output.
#[derive(Serialize, Deserialize)]
struct Record {
    job: JobIdentity,
    progress: Progress,
    /// Size of the output in bytes.
    bytes: u64,
}

/// State of an output.
pub enum Begun {
    /// The output is complete.
    Complete(Progress),
    /// Still to be written, from [`Partial::progress`] on.
    Partial(Box<Partial>),
}

/// An output under construction.
///
/// Dropped before an image is done it leaves no trace; later it leaves the folder.
pub struct Partial {
    /// The path as the user gave it.
    path: PathBuf,
    /// The same with links followed.
    target: PathBuf,
    folder: PathBuf,
    journal: File,
    job: JobIdentity,
    progress: Progress,
    /// Bytes added to the journal.
    noted: usize,
    committed: Instant,
    synced: Instant,
    started_over: Option<u64>,
    /// Held while this process writes.
    _lock: Lock,
}

impl Partial {
    /// Determines the progress of `path` with this job, if it may resume (`resume`), and prepares
    /// to write the rest.
    ///
    /// [`Error::Usage`] if the existing output is another job's; [`Error::Io`] and [`Error::File`]
    /// if `path` cannot be written, or another process is writing it.
    /// be written, or another process is writing it.
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
        let lock = Lock::take(&folder.join(LOCK)).map_err(writing())?.map_err(|holder| {
            Error::file(path, format!("{holder} is writing it: wait for its end, or choose another name"))
        })?;
        let (begun, started_over) = match read_journal(&folder) {
            None => (Progress::default(), None),
            Some((header, progress)) if resume => {
                same_job(path, &header.job, job)?;
                (progress, None)
            }
            Some((_, progress)) => (Progress::default(), Some(progress.images).filter(|&images| images > 0)),
        };
        if let Some(places) = &begun.places {
            // The run was stopped between two renames.
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

    /// Progress according to the journal.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The number of images that an earlier run had done, if this one has discarded their rows.
    pub fn started_over(&self) -> Option<u64> {
        self.started_over
    }

    /// `N images are done and their rows kept in …`, if any are.
    pub fn kept(&self) -> Option<String> {
        let Progress { images, lengths, .. } = &self.progress;
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

    /// Whether [`Partial::commit`] is due. The first rows are committed at once: the disk may be
    /// full soon after.
    pub(super) fn is_due(&self) -> bool {
        self.progress.images == 0 || self.committed.elapsed() >= COMMIT
    }

    /// Whether files should be synced before the next commit.
    pub(super) fn sync_is_due(&self) -> bool {
        self.synced.elapsed() >= SYNC
    }

    /// Records that everything up to `progress` is written, and whether it was synced.
    pub(super) fn commit(&mut self, progress: Progress, synced: bool) -> Result<()> {
        let progress = Progress { synced, ..progress };
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

    /// Puts the files in place; they are synced already.
    pub(super) fn complete(mut self, progress: Progress, places: Places) -> Result<Progress> {
        self.commit(Progress { places: Some(places.clone()), ..progress }, true)?;
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

/// A file of a [`Partial`], appended to.
///
/// Writes are buffered. Their errors carry no path: [`Part::error`] adds it.
pub(super) struct Part {
    writer: BufWriter<File>,
    length: u64,
    path: PathBuf,
    name: &'static str,
}

impl Part {
    fn open(path: &Path, folder: &Path, name: &'static str, length: u64) -> Result<Self> {
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

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The output that this is a part of.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes so far, including the buffer.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The error `cannot write PATH: …`, with the output's path.
    pub(super) fn error(&self, error: io::Error) -> Error {
        Error::io("write", &self.path)(error)
    }

    /// Adds bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(|error| self.error(error))
    }

    /// Flushes to the system, and records the file's length.
    pub(super) fn settle(&mut self, lengths: &mut Lengths) -> Result<()> {
        self.writer.flush().map_err(|error| self.error(error))?;
        lengths.insert(self.name.into(), self.length);
        Ok(())
    }

    /// Waits until flushed bytes are on the disk.
    pub(super) fn sync(&self) -> Result<()> {
        sync(self.writer.get_ref()).map_err(|error| self.error(error))
    }

    /// Empties it.
    pub(super) fn empty(&mut self) -> Result<()> {
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
    pub(super) fn patch_start(&mut self, bytes: &[u8]) -> Result<()> {
        let write = |writer: &mut BufWriter<File>| {
            writer.seek(SeekFrom::Start(0))?;
            writer.write_all(bytes)?;
            writer.seek(SeekFrom::End(0))
        };
        write(&mut self.writer).map(drop).map_err(|error| self.error(error))
    }

    /// The file from its start, for reading.
    pub(super) fn read(&mut self) -> Result<&mut File> {
        let rewind = |writer: &mut BufWriter<File>| {
            writer.flush()?;
            writer.get_mut().seek(SeekFrom::Start(0))
        };
        rewind(&mut self.writer).map_err(|error| self.error(error))?;
        Ok(self.writer.get_mut())
    }

    /// Appends the rest of `file`, by the system's own copy.
    pub(super) fn append_file(&mut self, file: &mut File) -> Result<()> {
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

/// The progress of a complete output of this job, if it is one.
fn finished(path: &Path, target: &Path, job: &JobIdentity) -> Result<Progress> {
    let record = fs::read(hidden(target, ".job")).ok();
    let record: Option<Record> = record.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let bytes = fs::metadata(target).map(|metadata| metadata.len()).unwrap_or_default();
    match record.filter(|record| record.bytes == bytes) {
        Some(record) => {
            same_job(path, &record.job, job)?;
            Ok(record.progress)
        }
        None => Err(Error::usage(format!(
            "{} is there, and `--resume` cannot tell what wrote it; to replace it, leave `--resume` out",
            path.display()
        ))),
    }
}

fn same_job(path: &Path, was: &JobIdentity, is: &JobIdentity) -> Result<()> {
    let differences = was.differences(is);
    match differences.is_empty() {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "cannot go on with {}, which means another run: {}; to start over, leave `--resume` out",
            path.display(),
            differences.join("; ")
        ))),
    }
}

/// The header and the last progress to be trusted.
fn read_journal(folder: &Path) -> Option<(Header, Progress)> {
    let text = fs::read(folder.join(JOURNAL)).ok()?;
    let text = String::from_utf8_lossy(&text);
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut lines = whole.lines();
    let header: Header = serde_json::from_str(lines.next()?).ok()?;
    let same_boot = header.boot == boot();
    let holds = |progress: &Progress| {
        progress.places.is_some()
            || progress.lengths.iter().all(|(name, &length)| {
                fs::metadata(folder.join(name)).is_ok_and(|metadata| metadata.len() >= length)
            })
    };
    let last = lines
        .rev()
        .filter_map(|line| serde_json::from_str(line).ok())
        .find(|progress: &Progress| (same_boot || progress.synced) && holds(progress));
    Some((header, last.unwrap_or_default()))
}

/// A journal for the start of a run. The old one stays until it is written.
fn new_journal(folder: &Path, job: &JobIdentity, progress: &Progress) -> io::Result<File> {
    let header = Header { job: job.clone(), boot: boot() };
    let temporary = folder.join("journal.new");
    let mut file = File::create(&temporary)?;
    file.write_all(line(&header).as_bytes())?;
    if progress.images > 0 {
        file.write_all(line(progress).as_bytes())?;
    }
    sync(&file)?;
    fs::rename(&temporary, folder.join(JOURNAL))?;
    sync_folder(&folder.join(JOURNAL));
    Ok(file)
}

/// Maps with text keys always convert to JSON.
fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

/// Moves the files to their destinations, unless already done, and writes the record of a finished
/// run.
fn place(
    path: &Path,
    target: &Path,
    folder: &Path,
    job: &JobIdentity,
    progress: &Progress,
    places: &Places,
) -> Result<()> {
    let record = hidden(target, ".job");
    let _ = fs::remove_file(&record);
    for (name, ending) in &places.put {
        let (from, to) = (folder.join(name), sibling(path, ending));
        if !from.exists() {
            continue;
        }
        let to_target = resolve(&to)?;
        if let Ok(old) = fs::metadata(&to_target) {
            // Keep the old file's permissions. Some file systems have no modes.
            let _ = fs::set_permissions(&from, old.permissions());
        }
        match fs::rename(&from, &to_target) {
            // The output is a link to another file system, and its companions are beside the link.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let mut file = AtomicFile::create(&to)?;
                let copied = File::open(&from).and_then(|mut from| io::copy(&mut from, &mut file));
                copied.map_err(Error::io("write", &to))?;
                file.commit()?;
                fs::remove_file(&from).map_err(Error::io("remove", &from))?;
            }
            renamed => renamed.map_err(Error::io("write", &to))?,
        }
        sync_folder(&to_target);
    }
    for ending in &places.remove {
        let stale = sibling(path, ending);
        match fs::remove_file(&stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove the old", stale)(error));
            }
            _ => {}
        }
    }
    let bytes = fs::metadata(target).map(|metadata| metadata.len()).unwrap_or_default();
    let kept = Record { job: job.clone(), progress: progress.clone(), bytes };
    AtomicFile::write(&record, line(&kept).as_bytes())?;
    fs::remove_dir_all(folder).map_err(Error::io("remove", folder))
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

fn sync(file: &File) -> io::Result<()> {
    match file.sync_data() {
        // Some network and FUSE file systems do not support sync.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        result => result,
    }
}

/// An identity of the machine's current boot; empty where the system has none.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().into()
}

/// The folder for messages: beside the path that was given.
fn shown_beside(path: &Path, folder: &Path) -> String {
    match (path.parent(), folder.file_name()) {
        (Some(parent), Some(name)) if !path.is_symlink() => parent.join(name).display().to_string(),
        _ => folder.display().to_string(),
    }
}

fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
