//! The journal of an output: how much of each file there was with the complete rows of a number of
//! images, and a checksum of it.
//!
//! A line holds its own checksum too: `{"crc32":"…","line":…}`. So a line counts if it is whole and
//! if the bytes that it vouches for are there, whatever a crash, a power cut or a damaged disk has
//! made of the rest.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::part::is_part;
use super::place::{Places, is_ending};
use crate::output::{Done, JobIdentity};
use crate::text::words::counted;
use crate::util::files::{self, OwnFile};

/// A longer journal is restarted with its last line.
pub(super) const LONGEST_JOURNAL: usize = 1 << 20;

/// What comes later in a journal is not read. Between two syncs it grows by 100 KB or so.
const LARGEST_JOURNAL: u64 = 8 * LONGEST_JOURNAL as u64;

pub(super) const JOURNAL: &str = "journal.jsonl";
const NEW_JOURNAL: &str = "journal.new";

/// Progress of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputProgress {
    /// Images done, read or not, of the listing (of the shard's, if there are shards).
    pub images: u64,
    /// A digest of the names and labels of these images.
    #[serde(rename = "listing")]
    pub fingerprint: String,
    /// Rows written.
    pub rows: u64,
    /// Images that could not be read.
    pub failures: u64,
    /// What belongs to them of each file.
    pub(in crate::output) files: Extents,
    /// At the end: the place of each file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) places: Option<Places>,
}

impl OutputProgress {
    /// Progress after these images, with these numbers of rows and failures.
    pub fn new(done: Done, rows: u64, failures: u64) -> Self {
        done.progress(rows, failures, Extents::new())
    }

    /// A line of another's making could name any file.
    fn has_known_names(&self) -> bool {
        let places = self.places.iter();
        let mut endings =
            places.clone().flat_map(|it| it.put.iter().map(|put| &put.ending).chain(&it.remove));
        let mut names = places.flat_map(|it| it.put.iter().map(|put| &put.name)).chain(self.files.keys());
        names.all(|name| is_part(name)) && endings.all(|ending| is_ending(ending))
    }
}

impl Done {
    pub(in crate::output) fn progress(self, rows: u64, failures: u64, files: Extents) -> OutputProgress {
        let Done { images, fingerprint } = self;
        OutputProgress { images, fingerprint, rows, failures, files, places: None }
    }
}

/// A file's beginning, and its checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::output) struct Extent {
    /// Its length in bytes.
    pub length: u64,
    /// Bytes at its start that are written at the very end, and are not in the checksum.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub head: u64,
    /// The CRC-32 of the others.
    pub crc32: u32,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Names of files, and how much of each.
pub(in crate::output) type Extents = BTreeMap<String, Extent>;

/// The first line of the journal.
#[derive(Serialize, Deserialize)]
struct Header {
    job: JobIdentity,
}

/// What an earlier run has left.
pub(super) enum Kept {
    /// Nothing that a journal vouches for.
    Nothing,
    /// Rows of an earlier version of `tl`, without checksums.
    Unchecked,
    /// Rows of a job that nobody knows.
    Damaged,
    /// Rows of a job.
    Rows {
        /// The job.
        job: JobIdentity,
        /// The last progress whose bytes are all there.
        progress: Box<OutputProgress>,
        /// What is not, if anything: a phrase.
        lost: Option<String>,
    },
}

/// Reads the journal, and, to go on from there (`resume`), the files that it vouches for.
///
/// # Errors
/// If a file cannot be read, or another user may have written it.
pub(super) fn read_journal(
    folder: &Path,
    resume: bool,
    is_placed: impl Fn(&Places) -> bool,
) -> io::Result<Kept> {
    let mut text = Vec::new();
    match files::open_own_to_read(&folder.join(JOURNAL)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::Nothing),
        file => file?.take(LARGEST_JOURNAL).read_to_end(&mut text)?,
    };
    let text = String::from_utf8_lossy(&text);
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut lines = whole.lines();
    let first = lines.next().unwrap_or_default();
    let Some(Header { job }) = read_line(first) else {
        return Ok(if serde_json::from_str::<Header>(first).is_ok() {
            Kept::Unchecked
        } else {
            Kept::Damaged
        });
    };
    let lines: Vec<OutputProgress> =
        lines.filter_map(read_line).filter(OutputProgress::has_known_names).collect();
    if !resume {
        let progress = Box::new(lines.into_iter().next_back().unwrap_or_default());
        return Ok(Kept::Rows { job, progress, lost: None });
    }
    let found = checksums(folder, &lines)?;
    let holds = |progress: &&OutputProgress| match &progress.places {
        Some(places) => is_placed(places),
        None => progress.files.iter().all(|(name, extent)| found.contains(&(name.as_str(), *extent))),
    };
    let progress = lines.iter().rev().find(holds).cloned().unwrap_or_default();
    let lost = lines.last().and_then(|last| lost(last, &progress, &found));
    Ok(Kept::Rows { job, progress: Box::new(progress), lost })
}

type Found<'a> = HashSet<(&'a str, Extent)>;

/// The extents among those of `lines` that the files in `folder` have. Each file is read once.
fn checksums<'a>(folder: &Path, lines: &'a [OutputProgress]) -> io::Result<Found<'a>> {
    let mut wanted: BTreeMap<&str, Vec<Extent>> = BTreeMap::new();
    for (name, extent) in lines.iter().flat_map(|line| &line.files) {
        wanted.entry(name).or_default().push(*extent);
    }
    let mut found = Found::new();
    for (name, mut extents) in wanted {
        extents.sort_by_key(|extent| extent.length);
        extents.dedup();
        match files::open_own_to_read(&folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => found.extend(matching(file?, &extents)?.into_iter().map(|extent| (name, extent))),
        }
    }
    Ok(found)
}

/// Which of `extents`, in the order of their lengths, `file` has.
fn matching(mut file: File, extents: &[Extent]) -> io::Result<Vec<Extent>> {
    let head = extents.first().map_or(0, |extent| extent.head);
    let (mut hasher, mut at) = (crc32fast::Hasher::new(), file.seek(SeekFrom::Start(head))?);
    let mut buffer = vec![0; 1 << 18];
    let mut found = Vec::new();
    for extent in extents {
        while at < extent.length {
            let most = (extent.length - at).min(buffer.len() as u64) as usize;
            match file.read(&mut buffer[..most]) {
                Ok(0) => return Ok(found),
                Ok(read) => {
                    hasher.update(&buffer[..read]);
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if (extent.head, extent.crc32) == (head, hasher.clone().finalize()) {
            found.push(*extent);
        }
    }
    Ok(found)
}

/// What of the last line's rows is not there: which files, and how many images.
fn lost(last: &OutputProgress, kept: &OutputProgress, found: &Found) -> Option<String> {
    let images = last.images.saturating_sub(kept.images);
    let damaged = last.files.iter().filter(|(name, extent)| !found.contains(&(name.as_str(), **extent)));
    let names: Vec<&str> = damaged.map(|(name, _)| name.as_str()).collect();
    (images > 0).then(|| {
        format!(
            "the rows of {} are lost, because {} not what the journal vouches for",
            counted(images as usize, "image", "images"),
            match &names[..] {
                [] => "the output in its place is".to_string(),
                [one] => format!("the file `{one}` is"),
                many => format!("the files `{}` are", many.join("` and `")),
            }
        )
    })
}

/// A journal that starts at this progress. The old one stays until it is written.
pub(super) fn new_journal(
    folder: &Path,
    job: &JobIdentity,
    progress: &OutputProgress,
) -> io::Result<OwnFile> {
    let temporary = folder.join(NEW_JOURNAL);
    files::remove(&temporary)?;
    let mut file = files::create_new(&temporary)?;
    file.write_all(line(&Header { job: job.clone() }).as_bytes())?;
    if progress.images > 0 {
        file.write_all(line(progress).as_bytes())?;
    }
    file.sync()?;
    files::rename(&temporary, &folder.join(JOURNAL))?;
    Ok(file)
}

const BEFORE: &str = "{\"crc32\":\"";
const BETWEEN: &str = "\",\"line\":";

/// A line, with the checksum of its text.
pub(super) fn line(value: &impl Serialize) -> String {
    // Maps with text as keys always convert to JSON.
    let text = serde_json::to_string(value).unwrap_or_default();
    format!("{BEFORE}{:08x}{BETWEEN}{text}}}\n", crc32fast::hash(text.as_bytes()))
}

/// A line's value, if it is whole.
fn read_line<T: DeserializeOwned>(line: &str) -> Option<T> {
    let (checksum, text) = line.strip_prefix(BEFORE)?.strip_suffix('}')?.split_once(BETWEEN)?;
    let same = u32::from_str_radix(checksum, 16).ok()? == crc32fast::hash(text.as_bytes());
    serde_json::from_str(text).ok().filter(|_| same)
}

/// The length and the digest of a file.
pub(super) fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut hasher = crate::util::digest::Hasher::new();
    let length = hasher.update_from(File::open(path)?)?;
    Ok((length, hasher.hex()))
}

/// Whether there is a file at `path` itself: not a link to one.
pub(super) fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn kept(folder: &Path) -> (u64, Option<String>) {
        match read_journal(folder, true, |_| false).unwrap() {
            Kept::Rows { progress, lost, .. } => (progress.images, lost),
            _ => panic!("there is a journal"),
        }
    }

    /// A journal of a file with ten bytes an image, a line after each of three images.
    fn three(folder: &Path) -> String {
        let bytes = b"0123456789abcdefghijABCDEFGHIJ";
        fs::write(folder.join("rows.csv"), bytes).unwrap();
        let progress = |images: usize| {
            let length = 10 * images;
            let crc32 = crc32fast::hash(&bytes[2..length]);
            let extent = Extent { length: length as u64, head: 2, crc32 };
            let files = Extents::from([("rows.csv".into(), extent)]);
            OutputProgress { images: images as u64, files, ..OutputProgress::default() }
        };
        let header = Header { job: JobIdentity::new("test") };
        let lines = [line(&header), line(&progress(1)), line(&progress(2)), line(&progress(3))].concat();
        fs::write(folder.join(JOURNAL), &lines).unwrap();
        lines
    }

    #[test]
    fn a_line_counts_if_its_bytes_are_there() {
        let folder = tempfile::tempdir().unwrap();
        three(folder.path());
        assert_eq!(kept(folder.path()), (3, None));
        let rows = folder.path().join("rows.csv");
        let write = |bytes: &[u8]| fs::write(&rows, bytes).unwrap();
        // What follows does not matter, nor does the head.
        write(b"..23456789abcdefghijABCDEFGHIJ and more");
        assert_eq!(kept(folder.path()), (3, None));
        let lost = |images: &str| {
            let words = format!("the rows of {images} are lost, because the file `rows.csv` is not what");
            Some(format!("{words} the journal vouches for"))
        };
        // A power cut has left zeros, or nothing.
        write(b"0123456789abcdefghij\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(kept(folder.path()), (2, lost("1 image")));
        write(b"0123456789abcde");
        assert_eq!(kept(folder.path()), (1, lost("2 images")));
        write(b"0123456788abcdefghijABCDEFGHIJ");
        assert_eq!(kept(folder.path()), (0, lost("3 images")));
        fs::remove_file(&rows).unwrap();
        assert_eq!(kept(folder.path()), (0, lost("3 images")));
    }

    #[test]
    fn a_line_counts_if_it_is_whole_itself() {
        let folder = tempfile::tempdir().unwrap();
        let lines = three(folder.path());
        let journal = folder.path().join(JOURNAL);
        fs::write(&journal, &lines[..lines.len() - 1]).unwrap();
        assert_eq!(kept(folder.path()), (2, None));
        fs::write(&journal, lines.replace("\"images\":3", "\"images\":9")).unwrap();
        assert_eq!(kept(folder.path()), (2, None));
        // The first line is that of the job: without it nothing is known.
        fs::write(&journal, &lines[1..]).unwrap();
        assert!(matches!(read_journal(folder.path(), true, |_| false).unwrap(), Kept::Damaged));
        let old = "{\"job\":[[\"command\",\"test\"]],\"boot\":\"\"}\n{\"images\":9}\n";
        fs::write(&journal, old).unwrap();
        assert!(matches!(read_journal(folder.path(), true, |_| false).unwrap(), Kept::Unchecked));
    }

    #[test]
    fn a_journal_is_not_read_without_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let first = three(folder.path());
        let journal = folder.path().join(JOURNAL);
        // Many lengths of a file, and as many that it does not have.
        const LINES: usize = 25_000;
        fs::write(folder.path().join("rows.csv"), [b'x'; LINES]).unwrap();
        let mut hasher = crc32fast::Hasher::new();
        let (mut there, mut not_there) = (String::new(), String::new());
        for length in 1..=LINES as u64 {
            hasher.update(b"x");
            let progress = |images: u64, crc32: u32| {
                let files = Extents::from([("rows.csv".into(), Extent { length, head: 0, crc32 })]);
                line(&OutputProgress { images, files, ..OutputProgress::default() })
            };
            there += &progress(length, hasher.clone().finalize());
            not_there += &progress(length + LINES as u64, 0);
        }
        let head = first.lines().next().unwrap();
        let start = Instant::now();
        let text = [head, "\n", &there, &not_there].concat();
        assert!(text.len() < LARGEST_JOURNAL as usize, "{} bytes", text.len());
        fs::write(&journal, text).unwrap();
        let (images, lost) = kept(folder.path());
        assert!(images == LINES as u64 && lost.is_some(), "{images} images");
        // What is behind the limit does not count, nor does it take room.
        fs::write(&journal, [head, "\n"].concat()).unwrap();
        let mut file = fs::File::options().append(true).open(&journal).unwrap();
        file.set_len(LARGEST_JOURNAL).unwrap();
        file.write_all(format!("\n{there}").as_bytes()).unwrap();
        file.set_len(1 << 40).unwrap();
        assert_eq!(kept(folder.path()), (0, None));
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_line_that_names_other_files_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let lines = three(folder.path());
        let forged = |name: &str| {
            let extent = Extent { length: 0, head: 0, crc32: 0 };
            let files = Extents::from([(name.to_string(), extent)]);
            let forged = OutputProgress { images: 9, files, ..OutputProgress::default() };
            fs::write(folder.path().join(JOURNAL), lines.clone() + &line(&forged)).unwrap();
            kept(folder.path()).0
        };
        fs::write(folder.path().join("labels"), "").unwrap();
        assert_eq!(forged("labels"), 9);
        for name in ["lock", "../x", "/etc/passwd", "", "rows.csv/"] {
            assert_eq!(forged(name), 3, "{name}");
        }
    }
}
