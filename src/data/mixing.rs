//! Training on mixtures of images: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), as in
//! torchvision's `transforms/v2/_augment.py`.
//!
//! Each image of a batch is mixed with the one before it, the first with the last. Draws are a
//! function of the seed and the step. The targets become shares of two classes, and the loss is
//! PyTorch's `cross_entropy` with probabilities. Label smoothing spreads a part of these shares
//! over all classes; with class weights each share counts by its class's weight. Unlike the loss of
//! whole labels, this one is divided by the number of images, not by the sum of their weights.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_distr::{Beta, Distribution};
use serde::Serialize;
use tch::{Kind, Tensor};

use crate::error::{Error, Result};

/// How batches are mixed. With both, a coin decides for each batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Mixing {
    /// Mixup's alpha, if used: the weight of an image is drawn from Beta(alpha, alpha).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixup: Option<f64>,
    /// CutMix's alpha, if used; the weight is a share of the area.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutmix: Option<f64>,
}

/// The mixture of one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mixture {
    /// `own` × the image + (1 - `own`) × the one before it.
    Mixup {
        /// From 0 to 1.
        own: f64,
    },
    /// A rectangle of each image is taken from the one before it.
    CutMix {
        /// The first column and the one after the last.
        columns: [i64; 2],
        /// The same of rows.
        rows: [i64; 2],
        /// The share of the area outside the rectangle.
        own: f64,
    },
}

impl Mixing {
    /// Whether batches stay unchanged.
    pub fn is_none(&self) -> bool {
        self.mixup.is_none() && self.cutmix.is_none()
    }

    /// The mixture of a step (counted over the whole run) for images of `side` × `side`; `None` if
    /// it is unchanged.
    pub fn draw(&self, seed: u64, step: u64, side: u32) -> Option<Mixture> {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&step.to_le_bytes());
        key[24..].copy_from_slice(b"mixing\0\0");
        let mut generator = ChaCha8Rng::from_seed(key);
        let coin = generator.next_u64() >> 63 == 0;
        match (self.mixup, self.cutmix) {
            (Some(alpha), other) if other.is_none() || coin => {
                Some(Mixture::Mixup { own: beta(alpha, &mut generator) })
            }
            (_, Some(alpha)) => {
                let own = beta(alpha, &mut generator);
                let mut pixel = || ((u128::from(generator.next_u64()) * u128::from(side)) >> 64) as i64;
                let [x, y] = [pixel(), pixel()];
                Some(Mixture::cut(own, [x, y], i64::from(side)))
            }
            _ => None,
        }
    }
}

/// A number from Beta(alpha, alpha).
fn beta(alpha: f64, generator: &mut ChaCha8Rng) -> f64 {
    let drawn = Beta::new(alpha, alpha).map(|beta| beta.sample(generator));
    // For an alpha so small that its powers leave double precision, the limit is a coin.
    drawn.ok().filter(|number| number.is_finite()).unwrap_or_else(|| (generator.next_u64() >> 63) as f64)
}

impl Mixture {
    /// `CutMix.make_params`: a square of area `1 - own` around `centre`, clipped to the image.
    fn cut(own: f64, centre: [i64; 2], side: i64) -> Mixture {
        let half = (0.5 * (1.0 - own).sqrt() * side as f64) as i64;
        let [columns, rows] = centre.map(|at| [(at - half).max(0), (at + half).min(side)]);
        let area = (columns[1] - columns[0]) * (rows[1] - rows[0]);
        Mixture::CutMix { columns, rows, own: 1.0 - area as f64 / (side * side) as f64 }
    }

    /// The mixed images `[N, 3, side, side]`, and their targets `[N, classes]`, whose rows sum to
    /// 1. `labels` are int64 `[N]`.
    pub fn apply(&self, images: &Tensor, labels: &Tensor, classes: usize) -> Result<(Tensor, Tensor)> {
        self.mix(images, labels, classes).map_err(Error::torch("mix a batch"))
    }

    fn mix(
        &self,
        images: &Tensor,
        labels: &Tensor,
        classes: usize,
    ) -> Result<(Tensor, Tensor), tch::TchError> {
        let blend = |whole: &Tensor, own: f64| {
            whole.f_roll([1], [0])?.f_mul_scalar(1.0 - own)?.f_add(&whole.f_mul_scalar(own)?)
        };
        let targets = labels.f_one_hot(classes as i64)?.f_to_kind(Kind::Float)?;
        match *self {
            Mixture::Mixup { own } => Ok((blend(images, own)?, blend(&targets, own)?)),
            Mixture::CutMix { columns, rows, own } => {
                let ([left, right], [top, bottom]) = (columns, rows);
                let rectangle =
                    |whole: &Tensor| whole.f_narrow(2, top, bottom - top)?.f_narrow(3, left, right - left);
                let mut mixed = images.f_empty_like()?;
                mixed.f_copy_(images)?;
                rectangle(&mixed)?.f_copy_(&rectangle(&images.f_roll([1], [0])?)?)?;
                Ok((mixed, blend(&targets, own)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use tch::{Device, Reduction};

    fn fixture(name: &str) -> Vec<Value> {
        let path = format!("{}/tests/fixtures/augment/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    }

    fn tensor(value: &Value, shape: &[i64]) -> Tensor {
        Tensor::from_slice(&numbers(value)).to_kind(Kind::Float).reshape(shape)
    }

    const SIDE: i64 = 6;
    const CLASSES: i64 = 4;

    #[test]
    fn mixtures_and_their_losses_equal_torchvisions() {
        for case in fixture("mixing") {
            let labels: Vec<i64> = numbers(&case["labels"]).into_iter().map(|label| label as i64).collect();
            let count = labels.len() as i64;
            let lambda = case["lambda"].as_f64().unwrap();
            let mixture = if case["kind"] == "mixup" {
                Mixture::Mixup { own: lambda }
            } else {
                let centre = numbers(&case["centre"]);
                let mixture = Mixture::cut(lambda, [centre[0] as i64, centre[1] as i64], SIDE);
                let Mixture::CutMix { columns, rows, own } = mixture else { panic!() };
                let corners = [columns[0], rows[0], columns[1], rows[1]].map(|at| at as f64);
                assert_eq!(corners.to_vec(), numbers(&case["box"]));
                assert_eq!(own, case["lambda_adjusted"].as_f64().unwrap());
                mixture
            };
            let images = tensor(&case["images"], &[count, 3, SIDE, SIDE]);
            let labels = Tensor::from_slice(&labels);
            let (mixed, targets) = mixture.apply(&images, &labels, CLASSES as usize).unwrap();
            assert_eq!(mixed, tensor(&case["mixed"], &[count, 3, SIDE, SIDE]));
            assert_eq!(targets, tensor(&case["targets"], &[count, CLASSES]));
            let logits = tensor(&case["logits"], &[count, CLASSES]);
            let weights = tensor(&case["weights"], &[CLASSES]);
            for loss in case["losses"].as_array().unwrap() {
                let weights = loss["weighted"].as_bool().unwrap().then_some(&weights);
                let smoothing = loss["smoothing"].as_f64().unwrap();
                let found = logits.cross_entropy_loss(&targets, weights, Reduction::Mean, -100, smoothing);
                let expected = loss["loss"].as_f64().unwrap();
                assert!(
                    (found.double_value(&[]) - expected).abs() < 1e-6 * expected.abs().max(1.0),
                    "{loss}"
                );
            }
        }
    }

    /// Each of 20 equally likely intervals is as frequent as the others, within five standard
    /// errors.
    #[test]
    fn weights_are_drawn_from_the_beta_distribution() {
        const DRAWS: u64 = 20_000;
        for case in fixture("beta") {
            let (alpha, quantiles) = (case["alpha"].as_f64().unwrap(), numbers(&case["quantiles"]));
            let mixing = Mixing { mixup: Some(alpha), cutmix: None };
            let mut counts = [0u64; 20];
            for step in 0..DRAWS {
                let Some(Mixture::Mixup { own }) = mixing.draw(9, step, 224) else { panic!() };
                assert!((0.0..=1.0).contains(&own));
                counts[quantiles.partition_point(|&quantile| quantile < own)] += 1;
            }
            let expected = DRAWS as f64 / 20.0;
            let allowed = 5.0 * (expected * 0.95).sqrt();
            assert!(
                counts.iter().all(|&count| (count as f64 - expected).abs() < allowed),
                "{alpha}: {counts:?}"
            );
        }
    }

    #[test]
    fn draws_depend_on_seed_and_step_and_a_coin_chooses_between_both() {
        let both = Mixing { mixup: Some(0.2), cutmix: Some(1.0) };
        assert_eq!(both.draw(1, 2, 224), both.draw(1, 2, 224));
        assert_ne!(both.draw(1, 2, 224), both.draw(1, 3, 224));
        assert_ne!(both.draw(1, 2, 224), both.draw(2, 2, 224));
        let mixups =
            (0..1000).filter(|&step| matches!(both.draw(0, step, 224), Some(Mixture::Mixup { .. }))).count();
        assert!((420..580).contains(&mixups), "{mixups}");
        assert_eq!(Mixing::default().draw(0, 0, 224), None);
        assert!(Mixing::default().is_none() && !both.is_none());
    }

    /// The rectangle's share of the area is 1 - lambda if it lies inside, and its centre is
    /// uniform.
    #[test]
    fn rectangles_lie_inside_and_their_area_is_what_the_targets_say() {
        let mixing = Mixing { mixup: None, cutmix: Some(1.0) };
        let mut centres = 0.0;
        for step in 0..2000 {
            let Some(Mixture::CutMix { columns, rows, own }) = mixing.draw(3, step, 32) else { panic!() };
            for [from, to] in [columns, rows] {
                assert!(0 <= from && from <= to && to <= 32);
            }
            let area = (columns[1] - columns[0]) * (rows[1] - rows[0]);
            assert_eq!(own, 1.0 - area as f64 / 1024.0);
            centres += (columns[0] + columns[1]) as f64 / 2.0 / 2000.0;
        }
        assert!((centres - 16.0).abs() < 1.0, "{centres}");
    }

    #[test]
    fn the_smallest_and_largest_alphas_give_weights_between_0_and_1() {
        let images = Tensor::ones([2, 3, 4, 4], (Kind::Float, Device::Cpu));
        let labels = Tensor::from_slice(&[0i64, 1]);
        for alpha in [f64::MIN_POSITIVE, 1e-9, 1e-3, 1e3, 1e300] {
            for step in 0..200 {
                for mixing in
                    [Mixing { mixup: Some(alpha), cutmix: None }, Mixing { mixup: None, cutmix: Some(alpha) }]
                {
                    let mixture = mixing.draw(0, step, 4).unwrap();
                    let (Mixture::Mixup { own } | Mixture::CutMix { own, .. }) = mixture;
                    assert!((0.0..=1.0).contains(&own), "{alpha}: {own}");
                    let (mixed, targets) = mixture.apply(&images, &labels, 2).unwrap();
                    assert!((mixed - 1.0).abs().max().double_value(&[]) < 1e-6);
                    let sums = targets.sum_dim_intlist([1i64].as_slice(), false, Kind::Float) - 1.0;
                    assert!(sums.abs().max().double_value(&[]) < 1e-6);
                }
            }
        }
    }
}
