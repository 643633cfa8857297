//! Temperature scaling: one number that makes confidences hold (Guo et al., "On Calibration of
//! Modern Neural Networks", ICML 2017).
//!
//! Logits are divided by the temperature. Of probabilities `p` this makes `p^(1/T)`, normalised,
//! which is the same for a softmax and is also defined for a mean of several.

use super::confidence::{calibration_error, reliability};
use super::scores::Scores;

/// Variance of `ln T` before any image was seen: a temperature of 1.4 or 0.7 is one deviation away.
/// On ten tasks with 5, 20 and 100 images a class this is best or within 0.002 nats of it among
/// 0.03, 0.1, 0.3 and 1; without it, few images that are all right would ask for certainty.
const PRIOR_VARIANCE: f64 = 0.1;
/// Steps at most; Newton's take about five.
const STEPS: usize = 100;
/// Ends the search: far below what a float32 probability shows.
const SMALL: f64 = 1e-10;

/// The temperature with the lowest sum of log-loss on `scores` and `(ln T)² / (2 v)`, for the prior
/// variance `v`; `None` if nothing can be fitted, without images or with a single class.
pub fn temperature(scores: &Scores) -> Option<f64> {
    if scores.images() == 0 || scores.classes() < 2 {
        return None;
    }
    // The root of the derivative in `a = -ln T`: by Newton's method where its step stays in the
    // interval that holds the root, else by halving it.
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
    let mut a = 0.;
    for _ in 0..STEPS {
        let (slope, curvature) = derivatives(scores, a);
        if slope > 0. {
            high = a
        } else {
            low = a
        }
        let newton = a - slope / curvature;
        let next = match curvature > 0. && newton > low && newton < high {
            true => newton.clamp(a - 1., a + 1.),
            false if low.is_infinite() => a - 1.,
            false if high.is_infinite() => a + 1.,
            false => (low + high) / 2.,
        };
        let step = next - a;
        a = next;
        if step.abs() < SMALL {
            break;
        }
    }
    Some((-a).exp())
}

/// First and second derivative of the sum that [`temperature`] minimises, at `T = e^-a`.
fn derivatives(scores: &Scores, a: f64) -> (f64, f64) {
    let factor = a.exp();
    let (mut slope, mut curvature) = (a / PRIOR_VARIANCE, 1. / PRIOR_VARIANCE);
    for (label, row) in scores.rows() {
        let greatest = row.iter().copied().fold(0., f32::max);
        let (mut total, mut first, mut second) = (0., 0., 0.);
        for &p in row {
            let z = logit(p, greatest);
            let share = (factor * z).exp();
            total += share;
            first += share * z;
            second += share * z * z;
        }
        let (mean, own) = (first / total, logit(row[label], greatest));
        let variance = second / total - mean * mean;
        slope += factor * (mean - own);
        curvature += factor * (mean - own) + factor * factor * variance;
    }
    (slope, curvature)
}

/// A probability as a logit: 0 for the greatest one. An underflown one counts as the smallest
/// positive number.
fn logit(p: f32, greatest: f32) -> f64 {
    (f64::from(p.max(f32::MIN_POSITIVE)) / f64::from(greatest.max(f32::MIN_POSITIVE))).ln()
}

/// The probabilities of one image at a temperature.
pub fn temper(probabilities: &mut [f32], temperature: f64) {
    let greatest = probabilities.iter().copied().fold(0., f32::max);
    // Not finite, or no probabilities: they stay what they are.
    if greatest.is_nan() || greatest <= 0. || probabilities.iter().any(|p| !p.is_finite()) {
        return;
    }
    let powers: Vec<f64> = probabilities
        .iter()
        .map(|&p| if p > 0. { (logit(p, greatest) / temperature).exp() } else { 0. })
        .collect();
    let total: f64 = powers.iter().sum();
    probabilities.iter_mut().zip(powers).for_each(|(p, power)| *p = (power / total) as f32);
}

/// Expected calibration error of probabilities, in 15 bins.
pub fn ece(scores: &Scores) -> f64 {
    calibration_error(&reliability(&scores.answers().collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(rows: &[([f32; 3], usize)]) -> Scores {
        let mut scores = Scores::new(3);
        let softmax = |logits: &[f32; 3]| {
            let total: f32 = logits.iter().map(|z| z.exp()).sum();
            logits.map(|z| z.exp() / total)
        };
        rows.iter().for_each(|(logits, label)| scores.add([*label], &softmax(logits)));
        scores
    }

    /// scipy 1.17: `minimize_scalar(lambda t: -log_softmax(z / e^t)[label].sum() + t * t / 0.2)`,
    /// `method="bounded"`, `xatol=1e-12`.
    const FITTED: [(usize, f64); 3] =
        [(6, 1.5070313347680848), (4, 0.9331025011687164), (1, 0.9802332890994248)];

    const ROWS: [([f32; 3], usize); 6] = [
        ([4., 0., 1.], 0),
        ([0., 5., 0.5], 1),
        ([3., 2.5, 0.], 0),
        ([0., 1., 4.], 2),
        ([6., 0., 0.], 1),
        ([0., 0.5, 3.], 0),
    ];

    #[test]
    fn the_temperature_is_the_minimum_that_scipy_finds() {
        for (images, expected) in FITTED {
            let found = temperature(&scores(&ROWS[..images])).unwrap();
            assert!((found - expected).abs() < 1e-6, "{images} images: {found} {expected}");
        }
    }

    #[test]
    fn images_that_are_all_right_ask_for_no_certainty() {
        let sure: Vec<_> = (0..1000).map(|image| ([0., 12., 0.], 1 + image / 1000)).collect();
        let found = temperature(&scores(&sure)).unwrap();
        assert!((0.3..1.).contains(&found), "{found}");
        assert_eq!(temperature(&Scores::new(3)), None);
        let mut single = Scores::new(1);
        single.add([0, 0], &[1., 1.]);
        assert_eq!(temperature(&single), None);
    }

    #[test]
    fn probabilities_at_a_temperature_are_the_softmax_of_divided_logits() {
        let logits = [2f64, -1., 0.5];
        let softmax = |t: f64| {
            let total: f64 = logits.iter().map(|z| (z / t).exp()).sum();
            logits.map(|z| ((z / t).exp() / total) as f32)
        };
        for t in [0.5, 1., 3.] {
            let mut found = softmax(1.);
            temper(&mut found, t);
            let worst = found.iter().zip(softmax(t)).map(|(a, b)| (a - b).abs()).fold(0., f32::max);
            assert!(worst < 1e-6, "{t}: {worst}");
        }
        let mut odd = [f32::NAN, 0.5, 0.5];
        temper(&mut odd, 2.);
        assert!(odd[0].is_nan() && odd[1] == 0.5);
        let mut certain = [0., 1., 0.];
        temper(&mut certain, 2.);
        assert_eq!(certain, [0., 1., 0.]);
    }
}
