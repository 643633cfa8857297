//! What a run trusts in its folder.

use std::collections::BTreeMap;
use std::fs;

use super::{CHECKPOINTS, MODEL_FILE, PARTNER_FILE, RunFolder};
use crate::error::{Error, Result};
use crate::util::digest::sha256_of_file;
use crate::util::files;

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
        let report = fs::read(self.report()).map_err(Error::io("read", self.report()))?;
        let report: serde_json::Value = serde_json::from_slice(&report).map_err(|error| {
            let what = format!("is not the report of a run ({error}); start afresh with `--overwrite`");
            Error::file(self.report(), what)
        })?;
        for name in [MODEL_FILE, PARTNER_FILE] {
            // An earlier version has not kept it.
            let Some(expected) = report.pointer(&format!("/sha256/{name}")) else { continue };
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
