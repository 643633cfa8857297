//! How strange an image is beside those that a network learnt from.
//!
//! A softmax names a class for anything. Two numbers tell more:
//!
//! - The **distance** of its features from the nearest class: Mahalanobis's, with one covariance
//!   for all classes (Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution
//!   Samples", NeurIPS 2018), on features of length 1, as for nearest neighbours (Sun et al., ICML
//!   2022). The covariance is a few directions of large spread and an even rest (probabilistic
//!   principal components: Tipping and Bishop, JRSS B 61, 1999): that is enough, and small.
//! - The **doubt** of the classifier: the mean over classes of `ln p`. This is the energy (Liu et
//!   al., "Energy-based Out-of-distribution Detection", NeurIPS 2020) of logits with a mean of 0,
//!   so that a number added to all of them changes nothing.
//!
//! Each is measured in deviations of the validation images, and they are added. [`Unknown::share`]
//! is the share of images like the validation images that are expected to be less strange than
//! this: Student's t distribution, which knows how few there were. Above [`LIMIT`] an image is
//! called unknown.

mod fit;
mod packed;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::fit::{Reading, fit};
use self::packed::Packed;
use crate::stats::student;

/// Above this share an image is unknown: one in twenty of those that are known is, too.
pub const LIMIT: f32 = 0.95;

/// The label of such an image.
pub const LABEL: &str = "unknown";

/// More than anybody reads: the distribution is a sum of as many terms.
const MOST_IMAGES: u64 = 1_000_000;

/// What tells how strange an image is to a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unknown {
    /// Rows of `width` numbers: axes of the means of the classes, then directions of large spread
    /// within them.
    axes: Packed,
    /// For each class its mean along each axis.
    classes: Packed,
    /// For each direction of large spread, what of a squared distance along it does not count.
    damped: Vec<f64>,
    /// Distance of the validation images.
    distance: Spread,
    /// Doubt on the validation images.
    doubt: Spread,
    /// Number of validation images.
    images: u64,
    /// Deviation of their sums of both.
    sum: f64,
    /// Length of a feature vector.
    width: usize,
}

/// Mean and deviation of a number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Spread {
    deviation: f64,
    mean: f64,
}

impl Spread {
    /// Of at least two numbers that differ.
    fn of(values: &[f64]) -> Option<Spread> {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (squares / (n - 1.)).sqrt();
        // Rounding leaves something of equal numbers.
        let differ = deviation.is_finite() && deviation > 1e-9 * mean.abs();
        differ.then_some(Spread { deviation, mean })
    }

    fn deviations(self, value: f64) -> f64 {
        (value - self.mean) / self.deviation
    }
}

impl Unknown {
    /// The share of images like the validation images that are expected to be less strange than one
    /// with these features and logits, in [0, 1]; not a number if they are not finite.
    pub fn share(&self, features: &[f32], logits: &[f32]) -> f32 {
        let n = self.images as f64;
        let t = self.sum_of(features, logits) / (self.sum * (1. + 1. / n).sqrt());
        if t.is_nan() { f32::NAN } else { student::cumulative(t, self.images - 1) as f32 }
    }

    fn sum_of(&self, features: &[f32], logits: &[f32]) -> f64 {
        let distance = distance(&self.axes, &self.classes, &self.damped, features);
        self.distance.deviations(distance) + self.doubt.deviations(doubt(logits))
    }

    /// Length of the feature vectors that it is for.
    pub fn width(&self) -> usize {
        self.width
    }

    /// What is wrong with values that were read from a file.
    pub fn mistake(&self) -> Option<String> {
        let wrong = |key: &str, expected: &str| Some(format!("{key}: expected {expected}"));
        let (axes, classes) = (self.axes.values(), self.classes.values());
        let rows = axes.len() / self.width.max(1);
        let positive = |number: f64| number.is_finite() && number > 0.;
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        if rows == 0 || axes.len() != rows * self.width || !finite(axes) {
            return wrong("axes", &format!("rows of {} finite numbers", self.width));
        }
        if classes.is_empty() || !classes.len().is_multiple_of(rows) || !finite(classes) {
            return wrong("classes", &format!("rows of {rows} finite numbers"));
        }
        if self.damped.len() > rows || self.damped.iter().any(|share| !(0. ..=1.).contains(share)) {
            return wrong("damped", &format!("at most {rows} numbers between 0 and 1"));
        }
        for (key, spread) in [("distance", self.distance), ("doubt", self.doubt)] {
            if !(positive(spread.deviation) && spread.mean.is_finite()) {
                return wrong(key, "a finite mean and a positive deviation");
            }
        }
        if !positive(self.sum) {
            return wrong("sum", "a positive number");
        }
        match self.images {
            2..=MOST_IMAGES => None,
            _ => wrong("images", &format!("2 to {MOST_IMAGES}")),
        }
    }
}

/// The least Mahalanobis distance from a class, squared and times a constant, of `features` at
/// length 1.
fn distance(axes: &Packed, classes: &Packed, damped: &[f64], features: &[f32]) -> f64 {
    let length = features.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    let along = |axis: &[f32]| {
        let product: f64 = axis.iter().zip(features).map(|(&a, &x)| f64::from(a) * f64::from(x)).sum();
        if length > 0. { product / length } else { 0. }
    };
    let place: Vec<f64> = axes.values().chunks_exact(features.len().max(1)).map(along).collect();
    let (of_means, of_spread) = place.split_at(place.len().saturating_sub(damped.len()));
    let from = |class: &[f32]| {
        let (mean, spread) = class.split_at(of_means.len());
        let inner = of_means.iter().zip(mean).map(|(&a, &c)| f64::from(c) * (f64::from(c) - 2. * a));
        let off = of_spread.iter().zip(spread).map(|(&a, &c)| (a - f64::from(c)).powi(2));
        inner.sum::<f64>() - off.zip(damped).map(|(square, share)| square * share).sum::<f64>()
    };
    let least = classes.values().chunks_exact(place.len().max(1)).map(from).fold(f64::INFINITY, f64::min);
    let own = if length > 0. { 1. } else { 0. };
    if length.is_finite() { own + least } else { f64::NAN }
}

/// The mean over classes of `ln p`: the greater, the less the classifier prefers any of them.
fn doubt(logits: &[f32]) -> f64 {
    let greatest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let (mut total, mut mean) = (0., 0.);
    for &logit in logits {
        let below = f64::from(logit) - greatest;
        total += below.exp();
        mean += below / logits.len() as f64;
    }
    mean - total.ln()
}
