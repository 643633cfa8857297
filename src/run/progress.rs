//! How far a run is, from its folder: read while another process writes there, without a lock.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::folder::{LOCK, METRICS, REPORT};
use super::history::EpochRow;
use crate::error::{Error, Result};
use crate::plan::{PLAN_FILE, file as plan_file};
use crate::text::path_text::path_text;
use crate::util::lock::Holder;

/// Larger files are none of a run: a million epochs have 250 MB.
const LARGEST: u64 = 1 << 30;

/// What a run folder says.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// The network's name.
    pub model: Option<String>,
    /// The method's name.
    pub method: Option<String>,
    /// How many epochs there will be at most, if that is decided.
    pub epochs: Option<usize>,
    /// The finished epochs.
    pub rows: Vec<EpochRow>,
    /// Whether somebody is at work.
    pub state: State,
}

/// Whether a run goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// A process holds its lock.
    Working {
        /// Who, in words.
        holder: String,
    },
    /// It has a report.
    Finished {
        /// Its validation accuracy.
        val_accuracy: Option<f64>,
    },
    /// It has none, and nobody is at work.
    Stopped {
        /// Whether its process ended without freeing its lock.
        crashed: bool,
    },
}

impl Progress {
    /// Reads a run folder.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is no run folder, [`Error::Io`] and [`Error::File`] for unreadable
    /// files.
    pub fn read(folder: &Path) -> Result<Progress> {
        // In this order: a run that ends meanwhile has a report, whatever was read of the rest.
        let holder = Holder::of_file(&folder.join(LOCK));
        let plan: serde_yaml::Value = plan_file::read(&folder.join(PLAN_FILE))?.unwrap_or_default();
        let rows = rows(&text(&folder.join(METRICS))?.unwrap_or_default());
        let report = text(&folder.join(REPORT))?;
        if plan.is_null() && report.is_none() && holder.is_none() {
            let found = if folder.is_dir() { "holds no run" } else { "is no folder" };
            return Err(Error::usage(format!(
                "{} {found}: name the folder that `tl finetune` writes, such as runs/photos",
                path_text(folder)
            )));
        }
        let state = match (report, holder) {
            (Some(report), _) => State::Finished { val_accuracy: val_accuracy(&report) },
            (None, Some(holder)) if holder.may_be_alive() => State::Working { holder: holder.to_string() },
            (None, holder) => State::Stopped { crashed: holder.is_some() },
        };
        let name = |key: &str| plan.get(key).and_then(|name| name.as_str()).map(String::from);
        let epochs = plan.get("train").and_then(|train| train.get("epochs")).and_then(|it| it.as_u64());
        Ok(Progress {
            model: name("model"),
            method: name("method"),
            epochs: epochs.map(|epochs| epochs as usize),
            rows,
            state,
        })
    }
}

/// The text of a file; `None` if there is none.
fn text(path: &Path) -> Result<Option<String>> {
    if !path.exists() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
    read.map_err(Error::io("read", path))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The rows of `metrics.jsonl`, as far as they are whole: the last one may be half written.
fn rows(text: &str) -> Vec<EpochRow> {
    text.lines().map_while(|line| serde_json::from_str(line).ok()).collect()
}

fn val_accuracy(report: &str) -> Option<f64> {
    let report: Value = serde_json::from_str(report).ok()?;
    report.get("val")?.get("accuracy")?.as_f64()
}
