//! The folder of one run: `plan.yaml`, `metrics.jsonl`, `report.json`, `model.safetensors`,
//! `checkpoint/`.

mod trust;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_yaml::Value;

use super::history::EpochRow;
use super::tensorboard;
use crate::error::{Error, Result};
use crate::plan::{PLAN_FILE, Plan, Settings, file as plan_file};
use crate::preprocess::RgbImage;
use crate::recipe::Method;
use crate::text::path_text::path_text;
use crate::text::words::for_shell;
use crate::util::atomic::{AtomicFile, is_temporary_of};
use crate::util::files;
use crate::util::lock::{Lock, Taken};
use crate::util::same_file::same_file;
use crate::weights::source::{MODEL_FILE, Weights};

pub(super) const METRICS: &str = "metrics.jsonl";
pub(super) const REPORT: &str = "report.json";
const PAGE: &str = "report.html";
/// The second model of an ensemble.
pub const PARTNER_FILE: &str = "beside.safetensors";
const CHECKPOINTS: &str = "checkpoint";
const LAST: &str = "last.safetensors";
const FEATURES: &str = "features.safetensors";
const RACE: &str = "race.jsonl";
/// The fold runs of a race, each in its own folder.
const FOLD_RUNS: &str = "race";
/// Names the process that is using the folder.
pub(super) const LOCK: &str = ".lock";

/// Treatment of a folder that an earlier run has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    /// Refuse the folder.
    Refuse,
    /// Resume that run.
    Resume,
    /// Remove that run.
    Overwrite,
}

/// Start of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From scratch.
    Fresh,
    /// From a checkpoint.
    Checkpoint,
    /// Already finished.
    Finished,
}

/// A run folder locked by this process, until this is dropped.
#[derive(Debug)]
pub struct Entered {
    /// The folder.
    pub folder: RunFolder,
    /// Start of the run.
    pub start: Start,
    /// Whether it is another user's, who can change what is in it.
    another_users: bool,
}

impl Entered {
    /// Notes if nothing excludes other processes, or another user has the say there: sentences.
    pub fn notes(&self) -> Vec<String> {
        let path = path_text(&self.folder.path);
        let unlocked = self.folder.lock.as_ref().is_some_and(|lock| !lock.works()).then(|| {
            format!(
                "the file system of {path} knows no locks: take care that no other `tl finetune` works in this folder"
            )
        });
        let another = self.another_users.then(|| {
            format!("the run folder {path} is another user's, who can change what this run writes and goes on from")
        });
        unlocked.into_iter().chain(another).collect()
    }
}

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Path of the model.
    model: PathBuf,
    /// Held until the last copy of this is dropped; `None` if not writable: a finished run may be
    /// read-only.
    lock: Option<Arc<Lock>>,
    /// Whether TensorBoard's event file follows the metrics.
    events: bool,
}

impl RunFolder {
    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> RunFolder {
        RunFolder::of(path.to_path_buf())
    }

    fn of(path: PathBuf) -> RunFolder {
        RunFolder { model: path.join(MODEL_FILE), path, lock: None, events: false }
    }

    /// Locks the plan's run folder, created if missing, and determines the start of a run in it.
    /// Nothing of an earlier run is touched.
    ///
    /// # Errors
    /// [`Error::Run`] while another process uses it, [`Error::Usage`] for an earlier run that
    /// `used` does not allow or that was a different one, [`Error::Io`] if it is not writable.
    pub fn enter(plan: &Plan, used: Used) -> Result<Entered> {
        let mut folder = RunFolder::of(plan.settings.out.clone());
        folder.events = plan.settings.tensorboard;
        if folder.path.exists() && !folder.path.is_dir() {
            return Err(Error::usage(format!(
                "the run folder {} is a file: choose another `--out`",
                path_text(&folder.path)
            )));
        }
        files::create_folders(&folder.path).map_err(Error::io("create the folder", &folder.path))?;
        // Before anything else: the contents may be about to change.
        let lock = match Lock::take(&folder.path.join(LOCK)) {
            Ok(Taken::Theirs(holder)) => {
                return Err(Error::run(format!(
                    "{holder} is at work in the run folder {}: wait for its end or stop it, or choose another folder with \
                     `--out`",
                    path_text(&folder.path)
                )));
            }
            Ok(Taken::Ours(lock)) => Ok(Some(Arc::new(lock))),
            Err(error) => Err(error),
        };
        let locked = lock.map(|lock| folder.lock = lock);
        folder.refuse_foreign_link()?;
        let start = match (folder.is_used(), used) {
            (true, Used::Refuse) => return Err(folder.refusal()),
            (true, Used::Resume) => {
                folder.check_same_run(plan)?;
                match (folder.report().exists(), folder.has_begun()) {
                    (true, _) => {
                        folder.check_models()?;
                        return Ok(Entered { folder, start: Start::Finished, another_users: false });
                    }
                    (false, true) => Start::Checkpoint,
                    (false, false) => Start::Fresh,
                }
            }
            _ => Start::Fresh,
        };
        if start == Start::Fresh {
            folder.refuse_own_source(&plan.source.weights)?;
        }
        // A folder that is not writable is reported now, not after an hour of downloading.
        let another_users = locked.and_then(|()| files::is_another_users(&folder.path));
        let another_users = another_users.map_err(Error::io("write to the folder", &folder.path))?;
        Ok(Entered { folder, start, another_users })
    }

    /// Refuses a run that would replace the model it begins with.
    fn refuse_own_source(&self, weights: &Weights) -> Result<()> {
        let (Weights::File(source) | Weights::Model(source)) = weights else { return Ok(()) };
        match [self.model(), self.partner()].iter().any(|own| same_file(own, source)) {
            false => Ok(()),
            true => Err(Error::usage(format!(
                "the run would replace the model that it begins with, in {}: choose another folder with `--out`",
                path_text(&self.path)
            ))),
        }
    }

    /// Prepares the folder for a run that begins at `start`; an earlier run is removed, unless this
    /// one resumes it.
    pub fn begin(&self, settings: &Settings, start: Start) -> Result<()> {
        self.tidy();
        if start != Start::Fresh {
            return Ok(());
        }
        self.clear()?;
        let checkpoints = self.path.join(CHECKPOINTS);
        files::create_folders(&checkpoints).map_err(Error::io("create the folder", &checkpoints))?;
        AtomicFile::write(self.path.join(PLAN_FILE), settings.to_yaml()?.as_bytes())?;
        self.rewrite_metrics(&[])
    }

    /// Removes the features kept by `linear`, which a finished run no longer needs.
    pub fn drop_features(&self) -> Result<()> {
        let path = self.features();
        files::remove(&path).map_err(Error::io("remove", &path))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The best model so far.
    pub fn model(&self) -> PathBuf {
        self.model.clone()
    }

    /// The second model of an ensemble.
    pub fn partner(&self) -> PathBuf {
        self.path.join(PARTNER_FILE)
    }

    /// The checkpoint of gradient training.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join(CHECKPOINTS).join(LAST)
    }

    /// The features computed by `linear` so far.
    pub fn features(&self) -> PathBuf {
        self.path.join(CHECKPOINTS).join(FEATURES)
    }

    /// The results of each method of a race on each held-out image.
    pub fn race(&self) -> PathBuf {
        self.path.join(RACE)
    }

    /// The folder of one method on one fold of a race, created if missing.
    pub fn fold_run(&self, name: &str) -> Result<RunFolder> {
        let path = self.fold_runs().join(name);
        let checkpoints = path.join(CHECKPOINTS);
        files::create_folders(&checkpoints).map_err(Error::io("create the folder", &checkpoints))?;
        Ok(RunFolder { lock: self.lock.clone(), ..RunFolder::of(path) })
    }

    /// The same folder for a training whose model may not be the one that is kept: it stays among
    /// the files to resume from until the run is finished.
    pub fn with_model_apart(&self) -> Result<RunFolder> {
        Ok(RunFolder { model: self.fold_run("tuned")?.model, ..self.clone() })
    }

    /// Removes the files that the methods of a race keep for resuming.
    pub fn drop_fold_runs(&self) -> Result<()> {
        let path = self.fold_runs();
        files::remove_folder(&path).map_err(Error::io("remove", &path))
    }

    fn fold_runs(&self) -> PathBuf {
        self.path.join(CHECKPOINTS).join(FOLD_RUNS)
    }

    /// Whether there is something to resume.
    fn has_begun(&self) -> bool {
        [self.checkpoint(), self.features(), self.race(), self.fold_runs()].iter().any(|path| path.exists())
    }

    /// Whether any of that is more than an empty folder.
    fn has_saved(&self) -> bool {
        [self.checkpoint(), self.features(), self.race(), self.fold_runs()]
            .iter()
            .any(|path| holds_a_file(path))
    }

    /// An unnamed file on the folder's disk: it disappears when closed, however the process ends.
    pub fn unnamed_file(&self) -> Result<File> {
        tempfile::tempfile_in(&self.path).map_err(Error::io("write to the folder", &self.path))
    }

    /// The report.
    pub fn report(&self) -> PathBuf {
        self.path.join(REPORT)
    }

    /// The report as a page.
    pub fn page(&self) -> PathBuf {
        self.path.join(PAGE)
    }

    /// Whether any epoch is finished.
    pub fn has_epochs(&self) -> bool {
        fs::metadata(self.path.join(METRICS)).is_ok_and(|metrics| metrics.len() > 0)
    }

    /// Replaces `metrics.jsonl` by these rows.
    pub fn rewrite_metrics(&self, rows: &[EpochRow]) -> Result<()> {
        let lines = rows.iter().map(line).collect::<Result<String>>()?;
        AtomicFile::write(self.path.join(METRICS), lines.as_bytes())?;
        self.events().map_or(Ok(()), |events| tensorboard::rewrite(&events, rows))
    }

    /// TensorBoard's event file, if the run has one.
    fn events(&self) -> Option<PathBuf> {
        self.events.then(|| tensorboard::file_in(&self.path))
    }

    /// Shows a picture of this epoch in TensorBoard, if the run has its file.
    pub fn show_picture(&self, tag: &str, epoch: usize, picture: impl FnOnce() -> RgbImage) -> Result<()> {
        let append = |events: PathBuf| tensorboard::append_picture(&events, tag, epoch, &picture());
        self.events().map_or(Ok(()), append)
    }

    /// Appends a row to `metrics.jsonl`, written through to the disk.
    pub fn append_metrics(&self, row: &EpochRow) -> Result<()> {
        self.check_lock()?;
        let path = self.path.join(METRICS);
        let line = line(row)?;
        let append = || {
            let mut file = files::append(&path)?;
            file.write_all(line.as_bytes())?;
            file.sync()
        };
        append().map_err(Error::io("write", &path))?;
        self.events().map_or(Ok(()), |events| tensorboard::append(&events, row))
    }

    fn is_used(&self) -> bool {
        [PLAN_FILE, METRICS, REPORT, MODEL_FILE, CHECKPOINTS].iter().any(|name| self.path.join(name).exists())
    }

    fn refusal(&self) -> Error {
        let state = match self.path.join(REPORT).exists() {
            true => "a finished run",
            false => "a run that has not finished",
        };
        Error::usage(format!(
            "the run folder {} holds {state}: `--resume` goes on with it, `--overwrite` replaces it, `--out` \
             names another folder",
            path_text(&self.path)
        ))
    }

    /// All files that a run writes. The report comes first: without it a run does not count as
    /// finished, whatever happens to the others.
    fn files(&self) -> Vec<PathBuf> {
        let named = [REPORT, PAGE, METRICS, MODEL_FILE, PARTNER_FILE, PLAN_FILE, RACE]
            .map(|name| self.path.join(name));
        let events = tensorboard::file_in(&self.path);
        named.into_iter().chain([self.checkpoint(), self.features(), events]).collect()
    }

    /// Removes the files that a run writes, and nothing else.
    fn clear(&self) -> Result<()> {
        for path in self.files() {
            if !path.is_dir() || path.is_symlink() {
                files::remove(&path).map_err(Error::io("remove", &path))?;
            }
        }
        self.drop_fold_runs()?;
        self.tidy();
        Ok(())
    }

    /// Removes temporaries left by a killed process. One that cannot be removed does no harm.
    fn tidy(&self) {
        let files = self.files();
        for folder in [self.path.clone(), self.path.join(CHECKPOINTS), self.path.join(tensorboard::FOLDER)] {
            for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
                if files.iter().any(|file| is_temporary_of(file, &path)) {
                    let _ = files::remove(&path);
                }
            }
        }
    }

    /// `error`, with how to resume where earlier work is kept and a run with these `settings` can
    /// continue from it.
    pub fn with_way_on(&self, error: Error, settings: &Settings) -> Error {
        let of_this_run = match &error {
            Error::Io { source, .. } => source.kind() != io::ErrorKind::BrokenPipe,
            // Errors in the run's own files have their own remedy.
            Error::File { path, .. } => !path.starts_with(&self.path),
            Error::Torch { .. } | Error::Run(_) => true,
            _ => false,
        };
        let goes_on =
            || !self.report().exists() && self.has_saved() && matches!(self.difference(settings), Ok(None));
        match of_this_run && goes_on() {
            true => Error::run(format!(
                "{error}; what was done before is saved in {}: when this is mended, go on with `--resume`",
                path_text(&self.path)
            )),
            false => error,
        }
    }

    /// The first key in which `settings` differ from the run in the folder.
    fn difference(&self, settings: &Settings) -> Result<Option<String>> {
        let path = self.path.join(PLAN_FILE);
        let Some(mut old) = plan_file::read::<Value>(&path)? else { return Ok(None) };
        let new: Value = serde_yaml::from_str(&settings.identity()?)
            .map_err(|error| Error::run(format!("cannot read the plan as YAML: {error}")))?;
        Settings::neutralise(&mut old);
        Ok(first_difference("", &old, &new))
    }

    /// Refuses a recipe that differs from the run in the folder.
    fn check_same_run(&self, plan: &Plan) -> Result<()> {
        let Some(difference) = self.difference(&plan.settings)? else { return Ok(()) };
        let finished = self.report().exists() && self.model.exists();
        let further = match finished {
            true => format!(
                ". The run is finished{}: to train its model further, begin a new run with it as the `model`:\n  {}",
                match self.has_stopped_early() {
                    true => " (it stopped early)",
                    false => ", and its learning rate has come to the end of its schedule",
                },
                self.further(plan)
            ),
            false => String::new(),
        };
        Err(Error::usage(format!(
            "cannot resume {}: the recipe means another run ({difference}). Undo the change, or start \
             afresh with `--overwrite` or another `--out`{further}",
            path_text(&self.path)
        )))
    }

    fn has_stopped_early(&self) -> bool {
        trust::Reported::read(&self.report()).is_ok_and(|report| report.stopped_early.is_some())
    }

    /// The command that trains this finished run's model further, with the plan's recipe.
    fn further(&self, plan: &Plan) -> String {
        let old: Value = plan_file::read(&self.path.join(PLAN_FILE)).ok().flatten().unwrap_or_default();
        let epochs = |train: &Value| train.get("epochs").and_then(Value::as_u64);
        let was = old.get("train").and_then(epochs);
        let wanted = plan.settings.candidate.train().map(|train| train.epochs as u64);
        // As many as are missing; fewer than there were are meant as they are.
        let more = was.zip(wanted).filter(|(was, wanted)| was != wanted);
        let more = more.map(|(was, wanted)| if wanted > was { wanted - was } else { wanted });
        let from_random = plan.recipe.strategy.method.is_some_and(Method::is_from_random);
        let replaced = |set: &&str| match set.split('=').next().unwrap_or_default().trim() {
            "model" | "weights" | "out" => true,
            "train.epochs" => more.is_some(),
            "strategy.method" => from_random,
            _ => false,
        };
        let sets = plan.recipe.sets();
        let mut sets: Vec<String> = sets.into_iter().filter(|set| !replaced(set)).map(Into::into).collect();
        // Paths in a recipe are relative to it, and this one is typed elsewhere.
        sets.push(format!("model={}", path_text(&fs::canonicalize(&self.path).unwrap_or(self.path.clone()))));
        // The model has its own weights.
        sets.extend(plan.recipe.weights.as_ref().map(|_| "weights=DEFAULT".into()));
        sets.extend(more.map(|more| format!("train.epochs={more}")));
        // From random values it would not be the model's.
        if from_random {
            sets.push("strategy.method=full".into());
        }
        let sets: String = sets.iter().map(|set| format!(" --set {}", for_shell(set))).collect();
        let out = format!("{}-further", path_text(&self.path));
        format!("tl finetune {}{sets} --out {}", for_shell(&path_text(plan.recipe.path())), for_shell(&out))
    }
}

/// Whether there is a file at or below `path`.
fn holds_a_file(path: &Path) -> bool {
    let mut below = fs::read_dir(path).into_iter().flatten().flatten();
    path.is_file() || below.any(|entry| holds_a_file(&entry.path()))
}

fn line(row: &EpochRow) -> Result<String> {
    let json = serde_json::to_string(row)
        .map_err(|error| Error::run(format!("cannot write an epoch's metrics: {error}")))?;
    Ok(json + "\n")
}

/// The first key with different values, as `key: was X, is Y`.
fn first_difference(key: &str, old: &Value, new: &Value) -> Option<String> {
    if let (Value::Mapping(old), Value::Mapping(new)) = (old, new) {
        let keys: Vec<&Value> = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))).collect();
        return keys.into_iter().find_map(|name| {
            let nothing = Value::Null;
            let path = match (key, name.as_str().unwrap_or_default()) {
                ("", name) => name.to_string(),
                (key, name) => format!("{key}.{name}"),
            };
            first_difference(&path, old.get(name).unwrap_or(&nothing), new.get(name).unwrap_or(&nothing))
        });
    }
    let show = |value: &Value| match value {
        Value::Null => "not set".to_string(),
        value => serde_yaml::to_string(value).unwrap_or_default().trim().replace('\n', " "),
    };
    (old != new).then(|| match key {
        "data.listing" => "the images are not the same".to_string(),
        key => format!("`{key}` was {}, is {}", show(old), show(new)),
    })
}
