//! Similarity of a dataset to the source data, by the pretrained network's response to some of its
//! images.
//!
//! A network with BatchNorm contains a description of its source data: the running mean and
//! variance of every channel. The distance of activations on new images from them is the measure
//! ([`Measure::Statistics`]). For a network without BatchNorm its classifier is used
//! ([`Measure::Information`]): on images of the source's kind it is confident, and differs from
//! image to image. `docs/strategy.md` has the alternatives that were tried.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::data::loader::Batching;
use crate::data::{Sample, draw};
use crate::error::{Error, Result};
use crate::inference::Inference;
use crate::models::layers::moments::{Moments, merge, moments};
use crate::models::{Folding, Network, Tap};
use crate::preprocess::{DecodeLimits, Preprocessing};
use crate::recipe::Similarity;
use crate::text::words::counted;

/// Images used at most: 50 and 400 agree within a fifth on all development tasks.
pub const SAMPLE: usize = 200;
/// Images used first for statistics, which is usually enough.
const FIRST: usize = 64;
/// Statistics that differ from the threshold by more than this factor would be on the same side of
/// it on all images.
const CLEAR: f64 = 1.5;
/// Statistics below this are similar. On the development tasks of `docs/strategy.md` the source's
/// own images had 0.004 and 0.006, those on which the top features were as good as any had up to
/// 0.015, and those on which other stages or fine-tuning were better at least 0.060.
pub const SIMILAR_BELOW: f64 = 0.03;
/// Information above this share means similar images: on the same tasks 0.88, against 0.74 at most.
/// It separates them less clearly: on one source's own images it is 0.74.
pub const SIMILAR_ABOVE: f64 = 0.75;

/// Images in a batch of the sample.
const BATCH: usize = 32;

/// Measure of similarity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// The distance of the activations' statistics from BatchNorm's running ones: for each channel
    /// the Kullback-Leibler divergence of two normal distributions, in nats; the median over the
    /// channels of a layer, then over the layers. 0 on the source data itself; the smaller, the
    /// more similar.
    Statistics,
    /// Information of the source classifier about an image: the mutual information of image and
    /// predicted class, `H(mean p) - mean H(p)`, as a share of the logarithm of the number of
    /// classes, the source's or the dataset's, whichever is smaller. From 0 to about 1; the
    /// greater, the more similar.
    Information,
}

/// Similarity of the images to the source data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimilarityEstimate {
    /// `similar` or `different`.
    pub verdict: Similarity,
    /// The measurement; absent if the recipe decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
}

/// A measured value and its interpretation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The measure.
    pub measure: Measure,
    /// Its value.
    pub value: f64,
    /// The threshold of similarity.
    pub threshold: f64,
    /// Number of images used.
    pub images: usize,
}

/// The measure for the architecture of `network`.
pub fn measure_for(network: &Network) -> Measure {
    match network.has_running_statistics() {
        true => Measure::Statistics,
        false => Measure::Information,
    }
}

impl Measured {
    /// Its side of the threshold.
    pub fn verdict(&self) -> Similarity {
        let similar = match self.measure {
            Measure::Statistics => self.value < self.threshold,
            Measure::Information => self.value > self.threshold,
        };
        if similar { Similarity::Similar } else { Similarity::Different }
    }
}

impl SimilarityEstimate {
    /// The estimate from a measurement.
    pub fn of(measured: Measured) -> Self {
        SimilarityEstimate { verdict: measured.verdict(), measured: Some(measured) }
    }

    /// The verdict of the recipe.
    pub fn forced(verdict: Similarity) -> Self {
        SimilarityEstimate { verdict, measured: None }
    }

    /// One line for a person.
    pub fn line(&self) -> String {
        let Some(Measured { measure, value, threshold, images }) = self.measured else {
            return format!("{} to the source data, as the recipe says", self.verdict);
        };
        match measure {
            Measure::Statistics => format!(
                "distance from the source data {value:.3} (BatchNorm's statistics on {images} training images; 0 is \
                 the source data itself): {}, {} {threshold}",
                self.verdict,
                if self.verdict == Similarity::Similar { "below" } else { "not below" }
            ),
            Measure::Information => format!(
                "the source's classifier tells {:.0} % of what it could of {images} training images: {}, {} {:.0} %",
                value * 100.,
                self.verdict,
                if self.verdict == Similarity::Similar { "above" } else { "not above" },
                threshold * 100.
            ),
        }
    }

    /// For the reason of a choice: `different images (0.28)`.
    pub fn short(&self) -> String {
        match self.measured {
            None => format!("{} images (as the recipe says)", self.verdict),
            Some(Measured { value, measure: Measure::Statistics, .. }) => {
                format!("{} images (distance {value:.2})", self.verdict)
            }
            Some(Measured { value, .. }) => format!("{} images (information {value:.2})", self.verdict),
        }
    }
}

/// Inputs of a measurement.
pub struct SimilarityJob<'a> {
    /// The pretrained network, with the head of its weights.
    pub network: &'a Network,
    /// Preprocessing of images.
    pub preprocessing: &'a Preprocessing,
    /// Pixels of an image at most.
    pub limits: DecodeLimits,
    /// Seed of the sample.
    pub seed: u64,
    /// Decoding threads.
    pub threads: usize,
    /// Number of classes of the dataset.
    pub classes: usize,
}

impl SimilarityJob<'_> {
    /// Measures on at most [`SAMPLE`] of `samples`, on fewer if those are clear; unreadable images
    /// are skipped. `progress` is called before each batch with the number of finished images, and
    /// may stop the work with an error.
    pub fn measure(
        &self,
        samples: &[Sample],
        threshold: f64,
        mut progress: impl FnMut(usize) -> Result<()>,
    ) -> Result<Measured> {
        let measure = measure_for(self.network);
        let chosen = draw(samples.len(), SAMPLE, self.seed, "similarity");
        let batching = Batching {
            preprocessing: self.preprocessing,
            batch_size: BATCH,
            join_single: false,
            threads: self.threads,
        };
        let (preprocessing, limits) = (self.preprocessing, self.limits);
        let (mut chances, mut layers, mut images) = (Vec::new(), Vec::new(), 0);
        // Not folded: the inputs of each BatchNorm are measured.
        let inference = Inference::new(&[self.network], chosen.len(), self.threads, Folding::Unfolded)?;
        let first = match measure {
            Measure::Statistics => FIRST.min(chosen.len()),
            Measure::Information => chosen.len(),
        };
        for range in [0..first, first..chosen.len()] {
            inference.images(
                &batching,
                range,
                |index| preprocessing.read_eval(samples[chosen[index]].image(), limits),
                |network, images, _| {
                    let (logits, layers) = moments(|| network.read(images, Tap::Logits));
                    Ok((logits?, layers))
                },
                |_, _| Ok(()),
                |indices, (logits, seen)| {
                    progress(images)?;
                    images += indices.len();
                    chances.push(logits.f_softmax(1, Kind::Double)?);
                    Ok(merge(&mut layers, seen)?)
                },
            )?;
            // If few of them were readable, they are not enough.
            let enough = measure == Measure::Statistics && images > 0 && 2 * images >= first;
            if enough && is_clear(distance(&layers)?, threshold) {
                break;
            }
        }
        if images == 0 {
            return Err(none_readable(chosen.len()));
        }
        let value = match measure {
            Measure::Statistics => distance(&layers)?,
            Measure::Information => information(&Tensor::f_cat(&chances, 0)?, self.classes)?,
        };
        finite(value).map(|value| Measured { measure, value, threshold, images })
    }
}

fn finite(value: f64) -> Result<f64> {
    match value.is_finite() {
        true => Ok(value),
        false => Err(Error::run(
            "the network gives numbers that are not finite on the training images: check the weights and the \
             preprocessing",
        )),
    }
}

/// The error of a sample of which nothing can be read.
fn none_readable(chosen: usize) -> Error {
    Error::run(format!(
        "none of {} can be read, so that their similarity to the source data cannot be measured",
        counted(chosen, "training image that was looked at", "training images that were looked at")
    ))
}

/// Whether more images would not change the verdict. Never for NaN.
fn is_clear(distance: f64, threshold: f64) -> bool {
    distance > CLEAR * threshold || distance * CLEAR < threshold
}

/// The median of the layers' divergences.
fn distance(layers: &[Moments]) -> Result<f64> {
    let mut divergences = layers.iter().map(Moments::divergence).collect::<Result<Vec<_>, _>>()?;
    divergences.sort_by(f64::total_cmp);
    let middle = divergences.len() / 2;
    match divergences.len() {
        0 => Err(Error::run("the network has no BatchNorm layer that ran")),
        odd if odd % 2 == 1 => Ok(divergences[middle]),
        _ => Ok((divergences[middle - 1] + divergences[middle]) / 2.),
    }
}

/// The mutual information of image and predicted class, for class probabilities `[N, K]`, as a
/// share of the maximum for `classes` classes.
fn information(chances: &Tensor, classes: usize) -> Result<f64> {
    let entropy = |p: &Tensor| -> Result<Tensor, tch::TchError> {
        p.f_mul(&p.f_clamp_min(1e-300)?.f_log()?)?.f_sum_dim_intlist(-1, false, Kind::Double)?.f_neg()
    };
    let of_mean = entropy(&chances.f_mean_dim(0, false, Kind::Double)?)?.f_double_value(&[])?;
    let mean = entropy(chances)?.f_mean(Kind::Double)?.f_double_value(&[])?;
    let most = (chances.size()[1] as f64).min(classes as f64).ln();
    Ok((of_mean - mean) / most.max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sure_and_varied_answers_carry_information_and_others_none() {
        let sure = Tensor::eye(4, (Kind::Double, tch::Device::Cpu));
        assert!((information(&sure, 4).unwrap() - 1.).abs() < 1e-9);
        // The maximum for two classes is all of it.
        let two = Tensor::from_slice(&[1., 0., 0., 0., 1., 0.]).view([2, 3]);
        assert!((information(&two, 2).unwrap() - 1.).abs() < 1e-9);
        let always_the_same = Tensor::from_slice(&[1., 0., 1., 0.]).view([2, 2]);
        assert!(information(&always_the_same, 2).unwrap().abs() < 1e-9);
        let undecided = Tensor::from_slice(&[0.5, 0.5, 0.5, 0.5]).view([2, 2]);
        assert!(information(&undecided, 2).unwrap().abs() < 1e-9);
    }

    #[test]
    fn near_the_threshold_all_images_are_looked_at() {
        let clear = [0., 0.019, 0.021, 0.03, 0.044, 0.046, f64::NAN].map(|distance| is_clear(distance, 0.03));
        assert_eq!(clear, [true, true, false, false, false, true, false]);
    }

    #[test]
    fn thresholds_are_read_the_right_way_round() {
        let measured = |measure, value| Measured { measure, value, threshold: 0.5, images: 1 }.verdict();
        assert_eq!(measured(Measure::Statistics, 0.4), Similarity::Similar);
        assert_eq!(measured(Measure::Statistics, 0.5), Similarity::Different);
        assert_eq!(measured(Measure::Information, 0.4), Similarity::Different);
        assert_eq!(measured(Measure::Information, 0.6), Similarity::Similar);
    }
}
