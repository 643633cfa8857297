//! Averages the heads on all stages: this loses less than choosing one of them by a few images.
//!
//! Logits are averaged, which is the logarithm of the geometric mean of the probabilities (a
//! logarithmic opinion pool: Genest and Zidek, Statistical Science 1, 1986). A mean of linear heads
//! is a linear head on all of their features, so that the model stays one network with one head.
//! The weights are those that explain the held-out images best (stacking: Wolpert, Neural Networks
//! 5, 1992; Yao et al., Bayesian Analysis 13, 2018).

use tch::{Device, Kind, TchError, Tensor};

use super::fits::{Fit, FittedHead};
use crate::error::{Error, Result};
use crate::linear::temper;

/// A head with a lower weight is left out, and need not be fitted to more images.
const LEAST_WEIGHT: f64 = 0.02;
/// Maximum number of steps of the search for the weights; it usually takes a few dozen.
const STEPS: usize = 300;
/// The search ends after a step that lowers the log loss by less than this, in nats.
const SMALL: f64 = 1e-6;

/// The mean of modest heads may be twice too modest; a larger factor is not believed if all
/// held-out images are right.
const MOST_TEMPER: f64 = 2.;

/// The weights, not negative and with a sum of 1, of the mean of held-out logits with the lowest
/// log loss, and the best factor for this mean; `None` if there is only one head, or nothing could
/// be held out. `labels` are those of all images.
pub(super) fn weights(fits: &[Fit], labels: &Tensor) -> Result<Option<(Vec<f64>, f64)>> {
    if fits.len() < 2 || fits.iter().any(|it| it.fit.held_out.is_none()) {
        return Ok(None);
    }
    let found = (|| {
        let (logits, truths) = held_out(fits, labels)?;
        let weights = search(&logits, &truths)?;
        let (factor, _) = temper(&combined(&logits, &weights)?, &truths, MOST_TEMPER)?;
        Ok((weights, factor))
    })();
    found.map(Some).map_err(Error::torch("average the heads"))
}

/// The accuracy of the mean on held-out images.
pub(super) fn accuracy(fits: &[Fit], weights: &[f64], labels: &Tensor) -> Result<f64> {
    let accuracy = || {
        let (logits, truths) = held_out(fits, labels)?;
        let mean = combined(&logits, weights)?;
        mean.f_argmax(1, false)?.f_eq_tensor(&truths)?.f_mean(Kind::Double)?.f_double_value(&[])
    };
    accuracy().map_err(Error::torch("average the heads"))
}

/// One head equivalent to the sum of `counting`, each times its factor, on the features of all
/// readings that any of them has. `widths` are those of all readings.
pub(super) fn mean(mut counting: Vec<(FittedHead, f64)>, widths: &[i64]) -> Result<FittedHead> {
    match counting.len() {
        // Keeps the same bits.
        1 if counting[0].1 == 1. => Ok(counting.remove(0).0),
        _ => averaged(&counting, widths).map_err(Error::torch("average the heads")),
    }
}

/// Held-out logits of all heads, float64 `[S, M, K]`, and the true class of each row.
fn held_out(fits: &[Fit], labels: &Tensor) -> Result<(Tensor, Tensor), TchError> {
    let known: Vec<_> = fits.iter().filter_map(|it| it.fit.held_out.as_ref()).collect();
    let logits: Vec<&Tensor> = known.iter().map(|it| &it.logits).collect();
    // All heads have the same folds.
    let images = known.first().map(|it| it.images.iter().map(|&image| image as i64).collect());
    let index = Tensor::f_from_slice(&images.unwrap_or_else(Vec::new))?;
    Ok((Tensor::f_stack(&logits, 0)?.f_to_kind(Kind::Double)?, labels.f_index_select(0, &index)?))
}

fn combined(logits: &Tensor, weights: &[f64]) -> Result<Tensor, TchError> {
    logits.f_tensordot(&Tensor::f_from_slice(weights)?, [0], [0])
}

/// Exponentiated gradient descent (Kivinen and Warmuth, Information and Computation 132, 1997); the
/// step grows while the loss falls, and is halved otherwise. The problem is convex.
fn search(logits: &Tensor, truths: &Tensor) -> Result<Vec<f64>, TchError> {
    let count = logits.size()[0] as usize;
    let rows = logits.size()[1] as f64;
    let hot = truths.f_one_hot(logits.size()[2])?.f_to_kind(Kind::Double)?;
    let evaluate = |weights: &[f64]| -> Result<(f64, Vec<f64>), TchError> {
        let shares = combined(logits, weights)?.f_log_softmax(1, Kind::Double)?;
        let loss = -shares.f_mul(&hot)?.f_sum(Kind::Double)?.f_double_value(&[])? / rows;
        let errors = shares.f_exp()?.f_sub(&hot)?.f_div_scalar(rows)?;
        let slopes = logits.f_mul(&errors)?.f_sum_dim_intlist([1i64, 2].as_slice(), false, Kind::Double)?;
        Ok((loss, Vec::try_from(slopes)?))
    };
    let mut weights = vec![1. / count as f64; count];
    let (mut loss, mut slopes) = evaluate(&weights)?;
    let mut step = 1.;
    for _ in 0..STEPS {
        let least = slopes.iter().copied().fold(f64::INFINITY, f64::min);
        let moved =
            weights.iter().zip(&slopes).map(|(weight, slope)| weight * (-step * (slope - least)).exp());
        let moved = normalised(moved.collect());
        let (moved_loss, moved_slopes) = evaluate(&moved)?;
        if moved_loss >= loss || moved_loss.is_nan() {
            step /= 2.;
            if step < 1e-6 {
                break;
            }
            continue;
        }
        let gain = loss - moved_loss;
        (weights, loss, slopes) = (moved, moved_loss, moved_slopes);
        step *= 2.;
        if gain < SMALL {
            break;
        }
    }
    weights.iter_mut().filter(|weight| **weight < LEAST_WEIGHT).for_each(|weight| *weight = 0.);
    Ok(normalised(weights))
}

fn normalised(weights: Vec<f64>) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

fn averaged(counting: &[(FittedHead, f64)], widths: &[i64]) -> Result<FittedHead, TchError> {
    let read = |tap: &usize| counting.iter().any(|(it, _)| it.taps.contains(tap));
    let taps: Vec<usize> = (0..widths.len()).filter(read).collect();
    let start = |tap: usize| taps.iter().filter(|&&it| it < tap).map(|&it| widths[it]).sum();
    let classes = counting.first().map_or(0, |(it, _)| it.bias.size()[0]);
    let options = (Kind::Double, Device::Cpu);
    let weight = Tensor::f_zeros([classes, taps.iter().map(|&it| widths[it]).sum()], options)?;
    let mut bias = Tensor::f_zeros([classes], options)?;
    for (head, share) in counting {
        let mut from = 0;
        for &tap in &head.taps {
            let width = widths[tap];
            let part = head.weight.f_narrow(1, from, width)?.f_to_kind(Kind::Double)?.f_mul_scalar(*share)?;
            let _ = weight.f_narrow(1, start(tap), width)?.f_add_(&part)?;
            from += width;
        }
        let _ = bias.f_add_(&head.bias.f_to_kind(Kind::Double)?.f_mul_scalar(*share)?)?;
    }
    Ok(FittedHead { taps, weight: weight.f_to_kind(Kind::Float)?, bias: bias.f_to_kind(Kind::Float)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::{CvRow, HeldOut, LinearFit};

    fn fit(held_out: [f32; 8]) -> Fit {
        let nothing = || Tensor::zeros([0], (Kind::Double, Device::Cpu));
        let held_out =
            HeldOut { images: vec![2, 0, 1, 3], logits: Tensor::from_slice(&held_out).view([4, 2]) };
        let fit = LinearFit {
            weight: nothing(),
            bias: nothing(),
            scaled_weight: nothing(),
            scaled_bias: nothing(),
            c: 1.,
            temper: 1.,
            cv: vec![CvRow { c: 1., accuracy: 0.5, log_loss: 0.5 }],
            held_out: Some(held_out),
            folds: 2,
            note: None,
            iterations: 1,
            converged: true,
        };
        Fit { taps: vec![0], fit }
    }

    /// Images 2, 0, 1 and 3 of classes 0, 0, 1 and 1.
    fn labels() -> Tensor {
        Tensor::from_slice(&[0i64, 1, 0, 1])
    }

    const SURE: [f32; 8] = [3., 0., 3., 0., 0., 3., 0., 3.];
    const WRONG: [f32; 8] = [0., 3., 0., 3., 3., 0., 3., 0.];

    #[test]
    fn a_head_that_explains_nothing_counts_nothing() {
        let fits = [fit(SURE), fit(WRONG)];
        let (found, factor) = weights(&fits, &labels()).unwrap().unwrap();
        assert_eq!((&found[..], factor), (&[1., 0.][..], MOST_TEMPER));
        assert_eq!(accuracy(&fits, &found, &labels()).unwrap(), 1.);
        assert!(weights(&fits[..1], &labels()).unwrap().is_none());
    }

    #[test]
    fn the_weights_have_the_lowest_loss() {
        // Each is sure of two images and wrong on one.
        let fits = [fit([4., 0., 4., 0., 1., 0., 0., 1.]), fit([0., 1., 1., 0., 0., 4., 0., 4.])];
        let (found, _) = weights(&fits, &labels()).unwrap().unwrap();
        let (logits, truths) = held_out(&fits, &labels()).unwrap();
        let loss = |weight: f64| {
            let mean = combined(&logits, &[weight, 1. - weight]).unwrap();
            mean.cross_entropy_for_logits(&truths).double_value(&[])
        };
        let best = (0..=1000).map(|it| f64::from(it) / 1000.).min_by(|a, b| loss(*a).total_cmp(&loss(*b)));
        assert!((found[0] - best.unwrap()).abs() < 0.02, "{found:?} {best:?}");
        assert_eq!(accuracy(&fits, &found, &labels()).unwrap(), 1.);
    }

    #[test]
    fn the_mean_is_one_head_on_the_readings_that_count() {
        let head = |taps: &[usize], weight: &[f32], bias: [f32; 2]| FittedHead {
            taps: taps.to_vec(),
            weight: Tensor::from_slice(weight).view([2, -1]),
            bias: Tensor::from_slice(&bias),
        };
        let one = head(&[0], &[1., 2., 3., 4.], [1., 0.]);
        let two = head(&[0, 2], &[1., 1., 1., 2., 2., 2.], [0., 1.]);
        let found = mean(vec![(one, 0.25), (two, 0.75)], &[2, 5, 1]).unwrap();
        assert_eq!(found.taps, [0, 2]);
        let values = Vec::<f32>::try_from(found.weight.flatten(0, -1)).unwrap();
        assert_eq!(values, [1., 1.25, 0.75, 2.25, 2.5, 1.5]);
        assert_eq!(Vec::<f32>::try_from(&found.bias).unwrap(), [0.25, 0.75]);
    }
}
