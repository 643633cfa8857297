//! What a run has come to: `report.json` for programs, `report.html` for people.

mod html;
mod race;

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
use crate::stats::metrics::Evaluation;
use crate::stats::significance::Interval;
use crate::strategy::{Contest, Strategy};
use crate::trainer::{ForwardCount, StoppedEarly};
use crate::util::atomic::AtomicFile;

pub use race::Race;

/// `report.json`. Accuracies are in [0, 1], losses in nats.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of tl.
    pub tl: &'static str,
    /// How much of the network was trained, and how.
    pub method: Method,
    /// Why this method.
    pub reason: String,
    /// How much data there was, and how like the source data it was.
    pub strategy: Strategy,
    /// For `race`: how the method was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub race: Option<Race>,
    /// Where two methods were trained: what each did on the validation images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contest: Option<Contest>,
    /// torchvision's name of the network.
    pub model: String,
    /// Where its first values came from.
    pub weights: String,
    /// Class names, in the order of the logits.
    pub classes: Vec<String>,
    /// Where all randomness came from.
    pub seed: u64,
    /// Where it was computed.
    pub device: DeviceChoice,
    /// CPU threads.
    pub threads: usize,
    /// How much of a JPEG was decoded.
    pub decode: Decode,
    /// Trained on.
    pub train: ImageCounts,
    /// Measured on after each epoch; the figures are the kept model's.
    pub val: Measured,
    /// Measured on once, at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Measured>,
    /// The kept model on the validation images once more, as the recipe's `eval` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_views: Option<MeasuredViews>,
    /// The same on the test images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_views: Option<MeasuredViews>,
    /// Every epoch.
    pub epochs: Vec<EpochRow>,
    /// The epoch whose model is kept.
    pub best: Best,
    /// Why this epoch.
    pub best_reason: String,
    /// Where `early_stopping` ended the training before its last epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_early: Option<StoppedEarly>,
    /// For `linear`: how the head was fitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear: Option<LinearReport>,
    /// For `stages`: what the features of each stage are worth, and those of all together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageRow>,
    /// For `stages`, where the model's head is the mean of all heads: what that is worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<HeadsReport>,
    /// For fine-tuning from a fitted head: what it was worth before the first epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear_head: Option<LinearHead>,
    /// How many images went through which stages how often.
    pub passes: Vec<ForwardCount>,
    /// The part of the network that did not move.
    pub frozen: Frozen,
    /// Images that were left out.
    pub bad_images: Vec<BadImage>,
    /// Things to know.
    pub notes: Vec<String>,
    /// Seconds by phase.
    pub seconds: BTreeMap<&'static str, f64>,
}

/// A number of images.
#[derive(Clone, Debug, Serialize)]
pub struct ImageCounts {
    /// How many.
    pub images: usize,
}

/// The kept model on a set of images.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// How many images.
    pub images: usize,
    /// The share of right predictions.
    pub accuracy: f64,
    /// Wilson's 95 % interval of that share: so few images say it no better.
    pub interval: Interval,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Each class's share of right predictions among its own images; null where it has none.
    pub recall: BTreeMap<String, Option<f64>>,
    /// A row a true class, a column a predicted one, in the order of `classes`; left out where there are
    /// more than a hundred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Vec<Vec<u64>>>,
    /// The most frequent mistakes.
    pub mistakes: Vec<Mistaken>,
}

/// The kept model on a set of images, with the probabilities of several views of each averaged.
#[derive(Clone, Debug, Serialize)]
pub struct MeasuredViews {
    /// What it saw of each image: `crops` and `scales`.
    #[serde(flatten)]
    pub views: Views,
    /// The figures.
    #[serde(flatten)]
    pub measured: Measured,
}

/// One class taken for another.
#[derive(Clone, Debug, Serialize)]
pub struct Mistaken {
    /// The true class.
    pub truth: String,
    /// The predicted class.
    pub prediction: String,
    /// How often.
    pub images: u64,
}

/// More classes than this have no confusion matrix in a report: it would be most of it.
const MATRIX_CLASSES: usize = 100;
/// Mistakes in a report.
const MISTAKES: usize = 50;

impl Measured {
    /// The figures of an evaluation on `images` images.
    pub fn of(evaluation: &Evaluation, images: usize, classes: &[String]) -> Self {
        let mistaken = |(truth, prediction, images): (usize, usize, u64)| Mistaken {
            truth: classes[truth].clone(),
            prediction: classes[prediction].clone(),
            images,
        };
        Measured {
            images,
            accuracy: evaluation.accuracy,
            interval: Interval::wilson(evaluation.confusion.right(), evaluation.confusion.total()),
            loss: evaluation.loss,
            recall: classes.iter().cloned().zip(evaluation.confusion.recall()).collect(),
            confusion: (classes.len() <= MATRIX_CLASSES).then(|| evaluation.confusion.matrix()),
            mistakes: evaluation.confusion.mistakes(MISTAKES).into_iter().map(mistaken).collect(),
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
    /// sha256 of its weights and running statistics, the same before and after.
    pub sha256: String,
}

/// How the head of `linear` was fitted.
#[derive(Clone, Debug, Serialize)]
pub struct LinearReport {
    /// The inverse L2 strength, scikit-learn's `C`.
    pub c: f64,
    /// The values of C that cross-validation compared; empty where the recipe fixed it.
    pub cross_validation: Vec<CrossValidated>,
    /// Steps of Newton's method in the last fit.
    pub iterations: usize,
    /// Whether the last fit reached its tolerance.
    pub converged: bool,
}

/// One value of C, measured inside `train`.
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
    /// How many numbers that is for an image.
    pub features: i64,
    /// The inverse L2 strength, scikit-learn's `C`.
    pub c: f64,
    /// Accuracy on held-out folds of `train`, which is what the stages are compared by; null where no class
    /// has two images.
    pub cv_accuracy: Option<f64>,
    /// Mean cross-entropy on the same.
    pub cv_loss: Option<f64>,
    /// Accuracy on the validation images, which had no part in the choice.
    pub val_accuracy: f64,
    /// Whether it does best on the held-out folds: then it is the head of the model, unless that is the mean of all.
    pub chosen: bool,
    /// What it counts in the mean of all heads, where that is the head of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

/// The mean of all heads, where that is the head of the model.
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
    /// What to say of a fit.
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

impl Report {
    /// Writes both forms; `report.json` last, because it marks the run as finished.
    pub fn write(&self, folder: &RunFolder) -> Result<()> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| Error::run(format!("cannot write the report as JSON: {error}")))?;
        AtomicFile::write(folder.page(), self.to_html().as_bytes())?;
        AtomicFile::write(folder.report(), (json + "\n").as_bytes())
    }
}
