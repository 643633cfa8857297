//! What a run trusts in its folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{CHECKPOINTS, MODEL_FILE, PARTNER_FILE, RunFolder};
use crate::error::{Error, Result};
use crate::util::budget::bytes_up_to;
use crate::util::digest::sha256_of_file;
use crate::util::files;

/// Twenty thousand classes take 3 MB.
const LARGEST_REPORT: u64 = 16 << 20;

/// What is needed of `report.json` again; the rest is passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reported {
    /// The sha256 of each model, by the name of its file.
    sha256: BTreeMap<String, String>,
    /// Present if training stopped early.
    pub stopped_early: Option<IgnoredAny>,
}

impl Reported {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let foreign = |why: String| {
            Error::file(path, format!("is not the report of a run ({why}); start afresh with `--overwrite`"))
        };
        let bytes = File::open(path).and_then(|file| bytes_up_to(file, LARGEST_REPORT));
        let bytes = bytes.map_err(Error::io("read", path))?;
        let bytes = bytes.ok_or_else(|| foreign(format!("it has more than {} MiB", LARGEST_REPORT >> 20)))?;
        serde_json::from_slice(&bytes).map_err(|error| foreign(error.to_string()))
    }
}

impl RunFolder {
    /// What is kept for resuming is written and removed below this folder, and nowhere else.
    pub(super) fn refuse_foreign_link(&self) -> Result<()> {
        let path = self.path.join(CHECKPOINTS);
        let is_link = fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink());
        match !is_link || files::may_follow(&path).map_err(Error::io("read", &path))? {
            true => Ok(()),
            false => {
                Err(Error::file(&path, "is a link of another user's; remove it, or choose another `--out`"))
            }
        }
    }

    /// Refuses to write where another process may be at work by now.
    ///
    /// # Errors
    /// [`Error::File`] if the lock's file has gone from its place.
    pub fn check_lock(&self) -> Result<()> {
        match self.lock.as_ref().is_none_or(|lock| !lock.works() || lock.is_held()) {
            true => Ok(()),
            false => Err(Error::file(
                &self.path,
                "its lock has gone: the folder was moved or emptied while this run was at work in it, and another \
                 one may be there now",
            )),
        }
    }

    /// The sha256 of the model, and of the second one, if there are two.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read.
    pub fn model_digests(&self, two: bool) -> Result<BTreeMap<&'static str, String>> {
        let names = [Some(MODEL_FILE), two.then_some(PARTNER_FILE)];
        names.into_iter().flatten().map(|name| Ok((name, sha256_of_file(&self.path.join(name))?))).collect()
    }

    /// Refuses a finished run whose models are no longer those that its report measured.
    pub(super) fn check_models(&self) -> Result<()> {
        let report = Reported::read(&self.report())?;
        for name in [MODEL_FILE, PARTNER_FILE] {
            // An earlier version has not kept it.
            let Some(expected) = report.sha256.get(name) else { continue };
            let path = self.path.join(name);
            let what = match sha256_of_file(&path) {
                Ok(found) if *expected == found => continue,
                Ok(_) => "is not the model that report.json measured (by its sha256)",
                Err(_) => "cannot be read, and report.json measured it",
            };
            return Err(Error::file(
                &path,
                format!("{what}; bring it back, or start afresh with `--overwrite`"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_report_is_not_read_without_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            Reported::read(&path)
        };
        let sums = r#""sha256":{"model.safetensors":"00"}"#;
        // Two million objects and very deep lists in parts that nobody needs.
        let objects = format!("{{\"epochs\":[{}0],{sums}}}", "{\"\":0},".repeat(1_900_000));
        let lists = format!("{{\"val\":{}{},{sums}}}", "[".repeat(4 << 20), "]".repeat(4 << 20));
        let start = Instant::now();
        for text in [objects, lists] {
            assert_eq!(read(text.as_bytes()).unwrap().sha256["model.safetensors"], "00");
        }
        assert!(start.elapsed() < Duration::from_secs(5));
        let refusal = |bytes: &[u8]| {
            let message = read(bytes).unwrap_err().to_string();
            message.replace(&folder.path().display().to_string(), "run")
        };
        insta::assert_snapshot!(refusal(&vec![b' '; (16 << 20) + 1]), @"run/report.json: is not the report of a run (it has more than 16 MiB); start afresh with `--overwrite`");
        insta::assert_snapshot!(refusal(b"{\"sha256\":[1]}"), @"run/report.json: is not the report of a run (invalid type: sequence, expected a map at line 1 column 10); start afresh with `--overwrite`");
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(Reported::read(&path).unwrap_err().to_string().contains("more than 16 MiB"));
    }
}
