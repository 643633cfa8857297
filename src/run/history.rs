//! Records of a training: its head, its epochs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Metrics of one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean training loss over the epoch, with label smoothing and class weights, in nats; without
    /// that of auxiliary classifiers.
    pub train_loss: f64,
    /// The share of right predictions while training, on augmented images; on mixed ones, right is
    /// the class with the larger share.
    pub train_accuracy: f64,
    /// Mean cross-entropy on the validation images, in nats.
    pub val_loss: f64,
    /// The share of right predictions on the validation images.
    pub val_accuracy: f64,
    /// Mean recall of the classes on the same; absent in runs of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_balanced_accuracy: Option<f64>,
    /// Mean F1 of the classes on the same; absent in runs of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_macro_f1: Option<f64>,
    /// The body's learning rate at the last step.
    pub lr: f64,
    /// Training images per second.
    pub images_per_second: f64,
    /// Seconds, validation included.
    pub seconds: f64,
}

/// The fitted head that fine-tuning started from, and its metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinearHead {
    /// The inverse L2 strength, scikit-learn's `C`.
    pub c: f64,
    /// Cross-validated accuracy inside the training images; absent if the recipe fixed `c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_validated: Option<f64>,
    /// The share of right predictions on the validation images.
    pub val_accuracy: f64,
    /// Mean cross-entropy on the validation images, in nats.
    pub val_loss: f64,
    /// Steps of Newton's method.
    pub iterations: usize,
    /// Whether the fit reached its tolerance.
    pub converged: bool,
    /// A note on the choice of `c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl fmt::Display for LinearHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linear head: C = {}", self.c)?;
        if let Some(accuracy) = self.cross_validated {
            write!(f, ", cross-validated accuracy {accuracy:.4} inside train")?;
        }
        write!(f, ", val loss {:.4}, val accuracy {:.4}", self.val_loss, self.val_accuracy)?;
        if !self.converged {
            write!(f, " (stopped after {} iterations, before its tolerance)", self.iterations)?;
        }
        Ok(())
    }
}
