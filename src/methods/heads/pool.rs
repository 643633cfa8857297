//! The heads on all stages, averaged, each by what it is worth: less is lost than by choosing one of them by a few images.
//!
//! Logits are averaged, which is the logarithm of the geometric mean of the probabilities (a logarithmic opinion pool: Genest
//! and Zidek, Statistical Science 1, 1986). A mean of linear heads is a linear head on all of their features, so that the
//! model stays one network with one head.

use tch::{Kind, Tensor};

use super::fits::{Fit, chosen};
use crate::error::{Error, Result};
use crate::linear::LinearFit;

/// A head counts in proportion to `exp` of so many times its cross-validated accuracy: one that is 5 points behind counts a
/// third. On development tasks with 4 and 16 images a class 10 to 40 did as well.
const SHARPNESS: f64 = 20.;

/// A head that would count less is left out, and need not be fitted to more images.
const LEAST_SHARE: f64 = 0.02;

/// Heads that are averaged.
pub(super) struct Pool {
    /// What each of them counts; they sum to 1.
    pub(super) shares: Vec<f64>,
    /// The share of the held-out training images that they are right on together.
    pub(super) accuracy: f64,
    /// One head that does what they do, on all readings; its C, and what cross-validation said of it, are the best one's.
    pub(super) head: Fit,
}

impl Pool {
    /// Of `candidates`, on features of these `widths`; the candidates come back where nothing could be held out.
    pub(super) fn of(
        mut candidates: Vec<Fit>,
        widths: &[i64],
        labels: &Tensor,
    ) -> Result<Result<Pool, Vec<Fit>>> {
        let known = shares_of(&candidates);
        let Some(shares) = known.filter(|_| candidates.iter().all(|it| it.fit.held_out.is_some())) else {
            return Ok(Err(candidates));
        };
        let pooled = Error::torch("average the heads");
        let (accuracy, weight, bias) = (|| {
            let accuracy = held_out(&candidates, &shares, labels)?;
            let (weight, bias) = mean(&candidates, &shares, widths)?;
            Ok((accuracy, weight, bias))
        })()
        .map_err(pooled)?;
        let best = candidates.swap_remove(chosen(&candidates));
        let fit = LinearFit { weight, bias, held_out: None, ..best.fit };
        let head = Fit { readings: (0..widths.len()).collect(), fit };
        Ok(Ok(Pool { shares, accuracy, head }))
    }
}

/// What each of them counts, where all were cross-validated; they sum to 1.
pub(super) fn shares_of(candidates: &[Fit]) -> Option<Vec<f64>> {
    let accuracies = candidates.iter().map(|it| Some(it.cross_validated()?.accuracy));
    Some(shares(&accuracies.collect::<Option<Vec<f64>>>()?))
}

fn shares(accuracies: &[f64]) -> Vec<f64> {
    let best = accuracies.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = accuracies.iter().map(|accuracy| (SHARPNESS * (accuracy - best)).exp()).collect();
    let least = LEAST_SHARE * weights.iter().sum::<f64>();
    let weights: Vec<f64> =
        weights.into_iter().map(|weight| if weight < least { 0. } else { weight }).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// The accuracy of the mean of held-out logits: all candidates were cut into the same folds.
fn held_out(candidates: &[Fit], shares: &[f64], labels: &Tensor) -> Result<f64, tch::TchError> {
    let mut known =
        candidates.iter().zip(shares).filter_map(|(it, share)| Some((it.fit.held_out.as_ref()?, share)));
    let Some((first, share)) = known.next() else { return Ok(0.) };
    let mut mean = first.logits.f_mul_scalar(*share)?;
    for (other, share) in known {
        let _ = mean.f_add_(&other.logits.f_mul_scalar(*share)?)?;
    }
    let images: Vec<i64> = first.images.iter().map(|&image| image as i64).collect();
    let labels = labels.f_index_select(0, &Tensor::f_from_slice(&images)?)?;
    mean.f_argmax(1, false)?.f_eq_tensor(&labels)?.f_mean(Kind::Double)?.f_double_value(&[])
}

/// Weight `[K, D]` and bias `[K]` of the mean, on the features of all readings one after the other.
fn mean(candidates: &[Fit], shares: &[f64], widths: &[i64]) -> Result<(Tensor, Tensor), tch::TchError> {
    let classes = candidates.first().map_or(0, |candidate| candidate.fit.bias.size()[0]);
    let options = (Kind::Double, tch::Device::Cpu);
    let weight = Tensor::f_zeros([classes, widths.iter().sum()], options)?;
    let mut bias = Tensor::f_zeros([classes], options)?;
    for (Fit { readings, fit }, &share) in candidates.iter().zip(shares) {
        let mut from = 0;
        for &reading in readings {
            let (to, width) = (widths[..reading].iter().sum(), widths[reading]);
            let part = fit.weight.f_narrow(1, from, width)?.f_to_kind(Kind::Double)?.f_mul_scalar(share)?;
            let _ = weight.f_narrow(1, to, width)?.f_add_(&part)?;
            from += width;
        }
        let _ = bias.f_add_(&fit.bias.f_to_kind(Kind::Double)?.f_mul_scalar(share)?)?;
    }
    Ok((weight.f_to_kind(Kind::Float)?, bias.f_to_kind(Kind::Float)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::{CvRow, HeldOut};

    fn candidate(
        readings: &[usize],
        weight: &[f32],
        bias: [f32; 2],
        accuracy: f64,
        held_out: [f32; 4],
    ) -> Fit {
        let nothing = || Tensor::zeros([0], (Kind::Double, tch::Device::Cpu));
        let fit = LinearFit {
            weight: Tensor::from_slice(weight).view([2, -1]),
            bias: Tensor::from_slice(&bias),
            standardised_weight: nothing(),
            standardised_bias: nothing(),
            c: 1.,
            cv: vec![CvRow { c: 1., accuracy, log_loss: 1. }],
            held_out: Some(HeldOut {
                images: vec![1, 0],
                logits: Tensor::from_slice(&held_out).view([2, 2]),
            }),
            folds: 2,
            note: None,
            iterations: 1,
            converged: true,
        };
        Fit { readings: readings.to_vec(), fit }
    }

    #[test]
    fn one_head_gives_the_mean_of_all_logits() {
        let candidates = || {
            vec![
                candidate(&[0], &[1., 2., 3., 4.], [0.5, -0.5], 0.5, [1., 0., 1., 0.]),
                candidate(&[1], &[5., -6.], [0., 0.25], 0.6, [0., 3., 0., 2.]),
                candidate(&[0, 1], &[1., 0., -1., 0., 1., 2.], [1., 2.], 0.4, [0., 1., 0., 1.]),
            ]
        };
        let x = [Tensor::from_slice(&[1.5f32, -2.]), Tensor::from_slice(&[0.75f32])];
        // Image 1 is of class 1, image 0 of class 0, and all of them say class 1.
        let pool = Pool::of(candidates(), &[2, 1], &Tensor::from_slice(&[0i64, 1])).unwrap().ok().unwrap();
        assert_eq!(pool.head.readings, [0, 1]);
        assert_eq!(pool.accuracy, 0.5);
        assert!((pool.shares.iter().sum::<f64>() - 1.).abs() < 1e-12);
        assert!((pool.shares[1] / pool.shares[0] - 2f64.exp()).abs() < 1e-9);
        let logits = |candidate: &Fit| {
            let parts: Vec<&Tensor> = candidate.readings.iter().map(|&reading| &x[reading]).collect();
            candidate.fit.weight.mv(&Tensor::cat(&parts, 0)) + &candidate.fit.bias
        };
        let mean = candidates()
            .iter()
            .zip(&pool.shares)
            .fold(Tensor::zeros([2], (Kind::Float, tch::Device::Cpu)), |sum, (it, &share)| {
                sum + logits(it) * share
            });
        assert!((logits(&pool.head) - mean).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn a_head_that_hardly_counts_is_left_out() {
        let shares = shares(&[0.8, 0.55, 0.75]);
        assert_eq!(shares[1], 0.);
        assert!((shares[0] + shares[2] - 1.).abs() < 1e-12);
        assert!((shares[0] / shares[2] - 1f64.exp()).abs() < 1e-9);
    }

    #[test]
    fn without_held_out_images_there_is_nothing_to_average_by() {
        let mut candidates = vec![candidate(&[0], &[1., 2.], [0., 0.], 0.5, [0.; 4])];
        candidates[0].fit.held_out = None;
        assert!(Pool::of(candidates, &[1], &Tensor::from_slice(&[0i64, 1])).unwrap().is_err());
    }
}
