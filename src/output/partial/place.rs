//! Puts finished files in place, and recognises finished outputs.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::journal::{OutputProgress, digest, is_file};
use super::same_job;
use crate::error::{Error, Result};
use crate::output::features::{ERRORS_ENDING, INDEX_ENDING};
use crate::output::{JobIdentity, sibling};
use crate::text::path_text::path_text;
use crate::util::atomic::{AtomicFile, hidden, resolve};
use crate::util::budget::bytes_up_to;
use crate::util::files;

/// Final actions on the files. Places are endings that are added to the output's path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::output) struct Places {
    /// Files to move, in this order.
    pub put: Vec<Put>,
    /// Files of an earlier run to remove.
    pub remove: Vec<String>,
}

/// A finished file and its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::output) struct Put {
    /// The part's name.
    pub name: String,
    /// What is added to the output's path.
    pub ending: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its digest.
    pub sha256: String,
}

impl Places {
    /// Adds a file. Its digest is known later.
    pub(in crate::output) fn put(&mut self, name: &str, ending: &str) {
        self.put.push(Put { name: name.into(), ending: ending.into(), ..Put::default() });
    }

    /// Reads the digests of all files.
    pub(super) fn read_digests(&mut self, folder: &Path) -> io::Result<()> {
        for put in &mut self.put {
            (put.bytes, put.sha256) = digest(&folder.join(&put.name))?;
        }
        Ok(())
    }
}

impl Put {
    /// Whether the file at `path` is this one.
    fn is_at(&self, path: &Path) -> bool {
        let found = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == self.bytes);
        found && digest(path).is_ok_and(|(_, sha256)| sha256 == self.sha256)
    }
}

/// Whether files are put at the output's path with this ending.
pub(super) fn is_ending(ending: &str) -> bool {
    ["", INDEX_ENDING, ERRORS_ENDING].contains(&ending)
}

/// Whether all files are there, in `folder` or in their places.
pub(super) fn are_there(path: &Path, folder: &Path, places: &Places) -> bool {
    places.put.iter().all(|put| {
        let part = folder.join(&put.name);
        put.is_at(if is_file(&part) { part } else { at(path, &put.ending) }.as_path())
    })
}

/// The place with this ending.
fn at(path: &Path, ending: &str) -> PathBuf {
    sibling(path, ending)
}

/// The record of a finished run has some hundred bytes.
const LARGEST_RECORD: u64 = 1 << 20;

/// A finished run, stored as `.FILE.job` beside the output.
#[derive(Serialize, Deserialize)]
struct Record {
    job: JobIdentity,
    progress: OutputProgress,
}

/// The progress of a complete output of this job, if there is one.
pub(super) fn finished(path: &Path, target: &Path, job: &JobIdentity) -> Result<OutputProgress> {
    let file = hidden(target, ".job");
    let refuse = |what: &str| {
        let path = path_text(path);
        Err(Error::usage(format!("{path} is there, and {what}; to replace it, leave `--resume` out")))
    };
    // Whoever can write the output itself may say what it is.
    let record = if files::has_owner_of(&file, target) { files::open_to_read(&file).ok() } else { None };
    let record = record.and_then(|file| bytes_up_to(file, LARGEST_RECORD).ok().flatten());
    let record = record.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    let Some(record) = record else { return refuse("`--resume` cannot tell what wrote it") };
    let Ok(Record { job: was, progress }) = serde_json::from_value(record) else {
        return refuse("an earlier version of tl wrote it, without a digest to know it by");
    };
    // The list of failures may go when they have been seen to.
    let put = progress.places.iter().flat_map(|places| &places.put);
    let put: Vec<&Put> = put.filter(|put| ["", INDEX_ENDING].contains(&put.ending.as_str())).collect();
    if put.is_empty() {
        return refuse("`--resume` cannot tell what wrote it");
    }
    for put in put {
        let place = at(path, &put.ending);
        if !put.is_at(&place) {
            return Err(Error::usage(format!(
                "{} has changed since tl wrote it (by its sha256), and `--resume` does not go by it; to replace it, \
                 leave `--resume` out",
                path_text(&place)
            )));
        }
    }
    same_job(path, &was, job)?;
    Ok(progress)
}

/// Moves the files to their places, as far as that is not done yet, and leaves the record of a
/// finished run.
pub(super) fn place(
    path: &Path,
    target: &Path,
    folder: &Path,
    job: &JobIdentity,
    progress: &OutputProgress,
    places: &Places,
) -> Result<()> {
    let record = hidden(target, ".job");
    let _ = files::remove(&record);
    for put in &places.put {
        let (from, to) = (folder.join(&put.name), at(path, &put.ending));
        if is_file(&from) {
            move_to(&from, &to)?;
        }
    }
    for ending in &places.remove {
        let stale = at(path, ending);
        files::remove(&stale).map_err(Error::io("remove the old", stale))?;
    }
    let kept = Record { job: job.clone(), progress: progress.clone() };
    let json = serde_json::to_string(&kept).unwrap_or_default() + "\n";
    AtomicFile::write(&record, json.as_bytes())?;
    files::remove_folder(folder).map_err(Error::io("remove", folder))
}

fn move_to(from: &Path, to: &Path) -> Result<()> {
    let target = resolve(to)?;
    files::open(from).map_err(Error::io("write", from))?.take_permissions_of(&target);
    match files::rename(from, &target) {
        // The output is a link to another file system, and its companions are beside the link.
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let mut file = AtomicFile::create(to)?;
            let copied = File::open(from).and_then(|mut from| io::copy(&mut from, &mut file));
            copied.map_err(Error::io("write", to))?;
            file.commit()?;
            files::remove(from).map_err(Error::io("remove", from))
        }
        renamed => renamed.map_err(Error::io("write", to)),
    }
}
