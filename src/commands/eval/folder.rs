//! The folder of a measurement: `report.json`, `report.html`, `predictions.csv`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::Found;
use crate::error::{Error, Result};
use crate::output::evaluated::{EvaluatedRow, EvaluatedTable, Fate};
use crate::plan::PLAN_FILE;
use crate::report::eval::{EvalReport, Pictured};
use crate::stats::metrics::Evaluation;
use crate::text::path_text::path_text;
use crate::util::atomic::AtomicFile;
use crate::util::files;
use crate::weights::source::MODEL_FILE;

const REPORT: &str = "report.json";
const PAGE: &str = "report.html";

/// The answers of a model.
pub struct Answers {
    /// Its figures.
    pub evaluation: Evaluation,
    /// The image of each row of the evaluation.
    pub rows: Vec<usize>,
    /// Images that it could not be measured on, and why.
    pub failures: Vec<(usize, String)>,
}

impl Answers {
    /// Whether this model and another one are right, on each image that both have answered.
    pub fn beside(&self, other: &Answers) -> Vec<(bool, bool)> {
        let right = |answers: &Answers| -> HashMap<usize, bool> {
            let outcomes = answers.evaluation.confusion.outcomes().to_vec();
            answers.rows.iter().copied().zip(outcomes).collect()
        };
        let theirs = right(other);
        let outcomes = self.evaluation.confusion.outcomes();
        self.rows.iter().zip(outcomes).filter_map(|(image, &own)| Some((own, *theirs.get(image)?))).collect()
    }
}

/// The folder that is written at the end.
pub struct EvalFolder(PathBuf);

impl EvalFolder {
    /// Creates the folder, unless it holds something that must not be replaced.
    ///
    /// # Errors
    /// [`Error::Usage`] for a run folder, for a file, and for an earlier measurement without
    /// `overwrite`; [`Error::Io`] if it cannot be created.
    pub fn enter(path: &Path, overwrite: bool) -> Result<Self> {
        let (folder, shown) = (EvalFolder(path.into()), path_text(path));
        if path.exists() && !path.is_dir() {
            return Err(Error::usage(format!("{shown} is a file: choose another `--out`")));
        }
        if [PLAN_FILE, MODEL_FILE].iter().any(|name| path.join(name).exists()) {
            return Err(Error::usage(format!(
                "{shown} is a run folder, whose report would be replaced: choose another `--out`"
            )));
        }
        let used = [REPORT, PAGE].iter().any(|name| path.join(name).exists()) || folder.table(0).exists();
        if used && !overwrite {
            return Err(Error::usage(format!(
                "{shown} holds a measurement already: choose another `--out`, or replace it with `--overwrite`"
            )));
        }
        files::create_folders(path).map_err(Error::io("create the folder", path))?;
        Ok(folder)
    }

    /// `report.html`.
    pub fn page(&self) -> PathBuf {
        self.0.join(PAGE)
    }

    /// `predictions.csv`, `predictions-2.csv`…
    fn table(&self, model: usize) -> PathBuf {
        match model {
            0 => self.0.join("predictions.csv"),
            _ => self.0.join(format!("predictions-{}.csv", model + 1)),
        }
    }

    /// Writes all files; the report last.
    pub fn write(
        &self,
        found: &Found,
        report: &EvalReport,
        pictured: &[Pictured],
        probabilities: bool,
    ) -> Result<()> {
        let mut ready = Vec::new();
        for (place, (answers, classifier)) in found.measured.iter().zip(found.classifiers).enumerate() {
            let file = AtomicFile::create_own(self.table(place))?;
            let classes = &classifier.classes;
            let table = EvaluatedTable::begin(file, probabilities.then_some(&classes[..]))?;
            ready.push(rows(table, found, answers, classes)?);
        }
        let json = serde_json::to_string_pretty(report)
            .map_err(|error| Error::run(format!("cannot write the report as JSON: {error}")))?;
        for (path, text) in [(self.page(), report.to_html(pictured)), (self.0.join(REPORT), json + "\n")] {
            let mut file = AtomicFile::create_own(path)?;
            std::io::Write::write_all(&mut file, text.as_bytes()).map_err(|error| file.error(error))?;
            ready.push(file);
        }
        AtomicFile::commit_all(ready)?;
        // Those of an earlier measurement of more models.
        for path in (found.measured.len()..).map(|model| self.table(model)).take_while(|path| path.exists()) {
            files::remove(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(())
    }
}

/// A row for each image of the data, measured or not.
fn rows(
    mut table: EvaluatedTable,
    found: &Found,
    answers: &Answers,
    classes: &[String],
) -> Result<AtomicFile> {
    let Found { labelled, chosen, .. } = found;
    let answered: HashMap<usize, usize> = answers.rows.iter().copied().zip(0..).collect();
    let failed: HashMap<usize, &str> =
        answers.failures.iter().map(|(image, why)| (*image, &why[..])).collect();
    let scores = answers.evaluation.scores.as_deref();
    let all: Vec<&[f32]> = scores.iter().flat_map(|scores| scores.rows().map(|(_, row)| row)).collect();
    for image in 0..labelled.dataset.samples.len() {
        let fate = match (answered.get(&image), failed.get(&image)) {
            (Some(&row), _) => Fate::Answered { probabilities: all[row], classes },
            (None, Some(why)) => Fate::Failed(why),
            (None, None) if chosen.learnt.binary_search(&image).is_ok() => Fate::LeftOut("learnt_from"),
            (None, None) => Fate::LeftOut("unknown_label"),
        };
        let (path, label) = (labelled.name(image), labelled.label(image));
        table.row(&EvaluatedRow { path: &path, label, fate })?;
    }
    table.finish()
}
