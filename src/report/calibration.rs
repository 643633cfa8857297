//! How well confidences hold, before and after the temperature.

use std::sync::Arc;

use serde::Serialize;

use crate::stats::calibration::ece;
use crate::stats::scores::Scores;

/// The temperature of the kept model's probabilities, and what it changes. `predict` gives those
/// after it.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    /// Logits are divided by it.
    pub temperature: f64,
    /// On the validation images, which it was fitted to.
    pub val: BeforeAndAfter,
    /// On the test images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<BeforeAndAfter>,
}

/// Figures of the same images without and with a temperature.
#[derive(Clone, Debug, Serialize)]
pub struct BeforeAndAfter {
    /// Number of images.
    pub images: usize,
    /// As the network's softmax has it.
    pub before: Confidence,
    /// With the temperature.
    pub after: Confidence,
}

/// How far confidences are from what is right.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Confidence {
    /// Expected calibration error, of 15 bins.
    pub ece: f64,
    /// Mean of `-ln p` of the label's probability.
    pub log_loss: f64,
}

impl Calibration {
    /// From probabilities before and after it.
    pub fn of(temperature: f64, val: [Arc<Scores>; 2], test: Option<[Arc<Scores>; 2]>) -> Self {
        Calibration {
            temperature,
            val: BeforeAndAfter::of(&val),
            test: test.as_ref().map(BeforeAndAfter::of),
        }
    }
}

impl BeforeAndAfter {
    fn of([before, after]: &[Arc<Scores>; 2]) -> Self {
        let confidence = |scores: &Scores| Confidence { ece: ece(scores), log_loss: scores.log_loss() };
        BeforeAndAfter { images: before.images(), before: confidence(before), after: confidence(after) }
    }
}
