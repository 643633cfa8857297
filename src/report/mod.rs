//! Reports of a run: `report.json` for programs, `report.html` for people, `MODEL_CARD.md` for those who get
//! the model.

mod calibration;
mod chart;
mod classes;
mod confusion;
pub mod eval;
pub mod gallery;
mod html;
pub mod judged;
mod matrix;
mod model_card;
mod race;
#[cfg(test)]
mod tests;
pub mod thumbnail;
mod trust;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::data::verify::BadImage;
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::linear::LinearFit;
use crate::preprocess::{Decode, Views};
use crate::recipe::Method;
use crate::run::folder::RunFolder;
use crate::run::history::{EpochRow, LinearHead};
use crate::stats::figures::Figures;
use crate::stats::metrics::Evaluation;
use crate::stats::significance::Interval;
use crate::strategy::{Contest, Strategy};
use crate::trainer::{ForwardCount, StoppedEarly};
use crate::util::atomic::AtomicFile;

use gallery::{Examples, Mistakes};
use judged::Judged;

pub use calibration::{BeforeAndAfter, Calibration};
pub use confusion::confusion_picture;
pub use race::Race;

/// The model's card in a run folder.
pub const CARD_FILE: &str = "MODEL_CARD.md";

/// `report.json`. Accuracies are in [0, 1], losses in nats.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of tl.
    pub tl: &'static str,
    /// The method.
    pub method: Method,
    /// The reason for the method.
    pub reason: String,
    /// Amount of data, and its similarity to the source data.
    pub strategy: Strategy,
    /// For `race`: the comparison of methods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub race: Option<Race>,
    /// With two trained methods: their comparison on the validation images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contest: Option<Contest>,
    /// torchvision's name of the network.
    pub model: String,
    /// The sha256 of each model file in the run folder, by its name.
    pub sha256: BTreeMap<&'static str, String>,
    /// Source of the initial weights.
    pub weights: String,
    /// Class names, in the order of the logits.
    pub classes: Vec<String>,
    /// Seed of all randomness.
    pub seed: u64,
    /// Device used.
    pub device: DeviceChoice,
    /// CPU threads.
    pub threads: usize,
    /// JPEG decoding.
    pub decode: Decode,
    /// Training images.
    pub train: ImageCounts,
    /// Validation images, evaluated after each epoch; the figures are the kept model's.
    pub val: Metrics,
    /// Test images, evaluated once, at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Metrics>,
    /// The kept model on the validation images with the views of the recipe's `eval`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_views: Option<MetricsOfViews>,
    /// The same on the test images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_views: Option<MetricsOfViews>,
    /// The temperature of the probabilities, which all figures but the losses have; null if none
    /// could be fitted.
    pub calibration: Option<Calibration>,
    /// Every epoch.
    pub epochs: Vec<EpochRow>,
    /// The epoch whose model is kept.
    pub best: Best,
    /// The reason for this epoch.
    pub best_reason: String,
    /// Present if `early_stopping` ended the training before its last epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_early: Option<StoppedEarly>,
    /// For `linear`: the fit of the head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear: Option<LinearReport>,
    /// For `stages`: heads on the features of each stage, and of all together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageRow>,
    /// For `stages`, if the model's head is the mean of all heads: its metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<HeadsReport>,
    /// For fine-tuning from a fitted head: its metrics before the first epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear_head: Option<LinearHead>,
    /// The number of forward passes of images through stages.
    pub passes: Vec<ForwardCount>,
    /// The frozen part of the network.
    pub frozen: Frozen,
    /// Images that were left out.
    pub bad_images: Vec<BadImage>,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// Seconds by phase.
    pub seconds: BTreeMap<&'static str, f64>,
}

/// A number of images.
#[derive(Clone, Debug, Serialize)]
pub struct ImageCounts {
    /// Number of images.
    pub images: usize,
}

/// The kept model on a set of images.
#[derive(Clone, Debug, Serialize)]
pub struct Metrics {
    /// Number of images.
    pub images: usize,
    /// The share of right predictions.
    pub accuracy: f64,
    /// Wilson's 95 % interval of the accuracy.
    pub interval: Interval,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Recall of each class; null without images of it.
    pub recall: BTreeMap<String, Option<f64>>,
    /// Confusion matrix: rows are true classes, columns predicted ones, in the order of `classes`;
    /// left out for more than a hundred classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Vec<Vec<u64>>>,
    /// The most frequent mistakes.
    pub mistakes: Vec<Mistaken>,
    /// What the probabilities tell beyond that.
    #[serde(flatten)]
    pub figures: Option<Figures>,
}

/// The kept model on a set of images, with averaged probabilities of several views of each.
#[derive(Clone, Debug, Serialize)]
pub struct MetricsOfViews {
    /// The views of each image: `crops` and `scales`.
    #[serde(flatten)]
    pub views: Views,
    /// The figures.
    #[serde(flatten)]
    pub measured: Metrics,
}

/// One class taken for another.
#[derive(Clone, Debug, Serialize)]
pub struct Mistaken {
    /// The true class.
    pub truth: String,
    /// The predicted class.
    pub prediction: String,
    /// Number of images.
    pub images: u64,
}

/// With more classes than this a report has no confusion matrix: it would dominate the file.
const MATRIX_CLASSES: usize = 100;
/// Mistakes listed in a report.
const MISTAKES: usize = 50;

impl Metrics {
    /// The figures of an evaluation on `images` images.
    pub fn of(evaluation: &Evaluation, images: usize, classes: &[String]) -> Self {
        let mistaken = |(truth, prediction, images): (usize, usize, u64)| Mistaken {
            truth: classes[truth].clone(),
            prediction: classes[prediction].clone(),
            images,
        };
        Metrics {
            images,
            accuracy: evaluation.accuracy,
            interval: Interval::wilson(evaluation.confusion.right(), evaluation.confusion.total()),
            loss: evaluation.loss,
            recall: classes.iter().cloned().zip(evaluation.confusion.recall()).collect(),
            confusion: (classes.len() <= MATRIX_CLASSES).then(|| evaluation.confusion.matrix()),
            mistakes: evaluation.confusion.mistakes(MISTAKES).into_iter().map(mistaken).collect(),
            figures: evaluation.figures(classes),
        }
    }
}

/// The epoch whose model is kept.
#[derive(Clone, Debug, Serialize)]
pub struct Best {
    /// Counted from 1.
    pub epoch: usize,
    /// Its accuracy.
    pub val_accuracy: f64,
}

/// The frozen part of the network.
#[derive(Clone, Debug, Serialize)]
pub struct Frozen {
    /// Its stages.
    pub stages: Vec<String>,
    /// sha256 of its weights and running statistics, the same before and after training.
    pub sha256: String,
}

/// The fit of the head of `linear`.
#[derive(Clone, Debug, Serialize)]
pub struct LinearReport {
    /// The inverse L2 strength, scikit-learn's `C`.
    pub c: f64,
    /// The values of C that cross-validation compared; empty if the recipe fixed it.
    pub cross_validation: Vec<CrossValidated>,
    /// Steps of Newton's method in the last fit.
    pub iterations: usize,
    /// Whether the last fit reached its tolerance.
    pub converged: bool,
}

/// One value of C, cross-validated inside `train`.
#[derive(Clone, Debug, Serialize)]
pub struct CrossValidated {
    /// The inverse L2 strength.
    pub c: f64,
    /// Mean accuracy over the folds.
    pub accuracy: f64,
    /// Mean cross-entropy over the folds.
    pub loss: f64,
}

/// A linear head on the features of a stage, or of several.
#[derive(Clone, Debug, Serialize)]
pub struct StageRow {
    /// The stages that it reads.
    pub stages: Vec<String>,
    /// Number of features of an image.
    pub features: i64,
    /// The inverse L2 strength, scikit-learn's `C`.
    pub c: f64,
    /// Accuracy on held-out folds of `train`, by which the stages are compared; null if no class
    /// has two images.
    pub cv_accuracy: Option<f64>,
    /// Mean cross-entropy on the same.
    pub cv_loss: Option<f64>,
    /// Accuracy on the validation images, which had no part in the choice.
    pub val_accuracy: f64,
    /// Whether it is best on the held-out folds: then it is the model's head, unless that is the
    /// mean of all.
    pub chosen: bool,
    /// Its weight in the mean of all heads, if that is the model's head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

/// The mean of all heads, if that is the model's head.
#[derive(Clone, Debug, Serialize)]
pub struct HeadsReport {
    /// Its accuracy on held-out folds of `train`.
    pub cv_accuracy: Option<f64>,
}

impl fmt::Display for StageRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.stages[..] {
            [single] => single.clone(),
            stages => format!("all {} together", stages.len()),
        };
        let share = self.cv_accuracy.map_or("-".into(), |accuracy| format!("{accuracy:.4}"));
        let mark = match self.share {
            Some(share) => format!("  counts {share:.2}"),
            None if self.chosen => "  <- chosen".into(),
            None => String::new(),
        };
        write!(
            f,
            "  {name:<24} {:>6} features  cross-validated {share}  val {:.4}{mark}",
            self.features, self.val_accuracy
        )
    }
}

impl LinearReport {
    /// The report of a fit.
    pub fn of(fit: &LinearFit) -> Self {
        let row = |row: &crate::linear::CvRow| CrossValidated {
            c: row.c,
            accuracy: row.accuracy,
            loss: row.log_loss,
        };
        LinearReport {
            c: fit.c,
            cross_validation: fit.cv.iter().map(row).collect(),
            iterations: fit.iterations,
            converged: fit.converged,
        }
    }
}

impl fmt::Display for LinearReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linear head: C = {}", self.c)?;
        if let Some(chosen) = self.cross_validation.iter().find(|row| row.c == self.c) {
            write!(f, ", cross-validated accuracy {:.4} inside train", chosen.accuracy)?;
        }
        if !self.converged {
            write!(f, " (stopped after {} iterations, before its tolerance)", self.iterations)?;
        }
        Ok(())
    }
}

/// What the page shows besides the report.
pub struct Shown<'a> {
    /// The kept model on the test images or, without any, on the validation images.
    pub evaluation: &'a Evaluation,
    /// Training images of each class.
    pub trained_on: Vec<usize>,
    /// Its mistakes.
    pub mistakes: Mistakes,
    /// The training images.
    pub examples: Examples,
    /// A name for the images.
    pub data: String,
    /// The command that repeats the run.
    pub command: String,
}

impl Shown<'_> {
    fn judged<'a>(&'a self, report: &'a Report) -> Judged<'a> {
        // The test set if there is one: its images had no part in choosing the model.
        let (part, metrics) = report.test.as_ref().map_or(("validation", &report.val), |test| ("test", test));
        let calibrated = report.calibration.as_ref().and_then(|it| {
            let figures = if part == "test" { it.test.as_ref()? } else { &it.val };
            Some((it.temperature, figures))
        });
        Judged {
            calibrated,
            part,
            metrics,
            confusion: &self.evaluation.confusion,
            classes: &report.classes,
            trained_on: &self.trained_on,
            mistakes: &self.mistakes,
        }
    }
}

impl Report {
    /// Writes all forms; `report.json` last, because it marks the run as finished.
    pub fn write(&self, folder: &RunFolder, shown: &Shown) -> Result<()> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| Error::run(format!("cannot write the report as JSON: {error}")))?;
        folder.check_lock()?;
        AtomicFile::write(folder.page(), self.to_html(shown).as_bytes())?;
        let card = self.model_card(&shown.judged(self), &shown.data);
        AtomicFile::write(folder.path().join(CARD_FILE), card.as_bytes())?;
        AtomicFile::write(folder.report(), (json + "\n").as_bytes())
    }
}
