//! The journal of an output: the length of each file when it had the complete rows of a number of
//! images.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::output::{Done, JobIdentity};
use crate::util::atomic::sync_folder;

/// A longer journal is restarted with its last line.
pub(super) const LONGEST_JOURNAL: usize = 1 << 20;

pub(super) const JOURNAL: &str = "journal.jsonl";

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
    /// The length of each file.
    pub(in crate::output) lengths: Lengths,
    /// Whether these bytes survive a power cut.
    #[serde(default)]
    pub(super) synced: bool,
    /// At the end: the place of each file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) places: Option<Places>,
}

impl OutputProgress {
    /// Progress after these images, with these numbers of rows and failures.
    pub fn new(done: Done, rows: u64, failures: u64) -> Self {
        done.progress(rows, failures, Lengths::new())
    }
}

impl Done {
    pub(in crate::output) fn progress(self, rows: u64, failures: u64, lengths: Lengths) -> OutputProgress {
        let Done { images, fingerprint } = self;
        OutputProgress { images, fingerprint, rows, failures, lengths, synced: false, places: None }
    }
}

/// File names with lengths in bytes.
pub(in crate::output) type Lengths = BTreeMap<String, u64>;

/// Final actions on the files. Places are endings that are added to the output's path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::output) struct Places {
    /// File and place, in this order.
    pub put: Vec<(String, String)>,
    /// Files of an earlier run to remove.
    pub remove: Vec<String>,
}

/// The first line of the journal; with the last one, the record of a finished run.
#[derive(Serialize, Deserialize)]
pub(super) struct Header {
    pub job: JobIdentity,
    boot: String,
}

/// The header and the last trustworthy progress.
pub(super) fn read_journal(folder: &Path) -> Option<(Header, OutputProgress)> {
    let text = fs::read(folder.join(JOURNAL)).ok()?;
    let text = String::from_utf8_lossy(&text);
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut lines = whole.lines();
    let header: Header = serde_json::from_str(lines.next()?).ok()?;
    // Where the system does not tell, it may have been another one.
    let same_boot = !header.boot.is_empty() && header.boot == boot();
    let holds = |progress: &OutputProgress| {
        progress.places.is_some()
            || progress.lengths.iter().all(|(name, &length)| {
                fs::metadata(folder.join(name)).is_ok_and(|metadata| metadata.len() >= length)
            })
    };
    let last = lines
        .rev()
        .filter_map(|line| serde_json::from_str(line).ok())
        .find(|progress: &OutputProgress| (same_boot || progress.synced) && holds(progress));
    Some((header, last.unwrap_or_default()))
}

/// A journal that starts at this progress. The old one stays until it is written.
pub(super) fn new_journal(folder: &Path, job: &JobIdentity, progress: &OutputProgress) -> io::Result<File> {
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

/// Maps with text as keys always convert to JSON.
pub(super) fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

pub(super) fn sync(file: &File) -> io::Result<()> {
    match file.sync_data() {
        // Some network and FUSE file systems have no sync.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        result => result,
    }
}

/// Identifies one start of the machine; empty if the system cannot tell.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without an identity of the boot, what was not synced may be gone.
    #[test]
    fn an_unknown_boot_is_another_boot() {
        let folder = tempfile::tempdir().unwrap();
        let progress = |images, synced| OutputProgress { images, synced, ..OutputProgress::default() };
        let read = |boot: &str| {
            let header = Header { job: JobIdentity::new("test"), boot: boot.into() };
            let lines = [line(&header), line(&progress(5, true)), line(&progress(9, false))].concat();
            fs::write(folder.path().join(JOURNAL), lines).unwrap();
            read_journal(folder.path()).unwrap().1.images
        };
        assert_eq!(read("another"), 5);
        assert_eq!(read(""), 5);
        if !boot().is_empty() {
            assert_eq!(read(&boot()), 9);
        }
    }
}
