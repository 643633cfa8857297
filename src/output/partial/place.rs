//! Puts finished files in place, and recognises finished outputs.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::journal::{OutputProgress, Places, line};
use super::same_job;
use crate::error::{Error, Result};
use crate::output::{JobIdentity, sibling};
use crate::text::path_text::path_text;
use crate::util::atomic::{AtomicFile, hidden, resolve, sync_folder};

/// A finished run, stored as `.FILE.job` beside the output.
#[derive(Serialize, Deserialize)]
struct Record {
    job: JobIdentity,
    progress: OutputProgress,
    /// Size of the output in bytes.
    bytes: u64,
}

/// The progress of a complete output of this job, if there is one.
pub(super) fn finished(path: &Path, target: &Path, job: &JobIdentity) -> Result<OutputProgress> {
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
            path_text(path)
        ))),
    }
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
    let _ = fs::remove_file(&record);
    for (name, ending) in &places.put {
        let (from, to) = (folder.join(name), sibling(path, ending));
        if !from.exists() {
            continue;
        }
        let to_target = resolve(&to)?;
        if let Ok(old) = fs::metadata(&to_target) {
            // Keep the old file's permissions. Some file systems have none.
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
