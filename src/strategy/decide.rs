//! Heads on fixed features, fine-tuning, or both: decided by their predictions on the same
//! validation images.
//!
//! No prior measurement tells which does better: on tasks of one size and distance either was ahead
//! by 20 points (`docs/strategy.md`). Heads cost one pass over the images, so they are always
//! fitted first. Fine-tuning follows unless they leave nothing to gain. The two err on different
//! images, so their mean is better than either; it is a mixture of two experts, with the most
//! probable weights given the validation images.

use serde::Serialize;

use crate::recipe::Method;
use crate::stats::metrics::Evaluation;
use crate::strategy::comparison::{MethodAnswers, Row, rows};

/// The prior, that both are worth the same, counts as much as this many validation images. With 1
/// to 4 validation images a class anything from 2 to 50 did as well on ten tasks of photographs,
/// and nothing did worse by 1.3 points.
const PRIOR_IMAGES: f64 = 10.;

/// A method with a smaller weight is left out: each of the two is a network to run.
const LEAST_SHARE: f64 = 0.15;

/// The heads' share of wrong answers that leaves nothing to gain: on steel, 99.2 % right,
/// fine-tuning was level. Traffic signs, many of which are frames of one sign, seemed 98.2 % right,
/// and were 92 on others, where fine-tuning reached 95.
const NOTHING_TO_GAIN: f64 = 0.01;

/// Results of a method.
#[derive(Clone, Debug)]
pub struct MethodResult {
    /// The method.
    pub method: Method,
    /// Its model's metrics on the validation images.
    pub val: Evaluation,
    /// Its accuracy on held-out training images, if cross-validated, and their number.
    pub held_out: Option<(f64, usize)>,
    /// Seconds taken.
    pub seconds: f64,
}

impl MethodResult {
    /// Its accuracy on all images that it has not learnt from.
    fn right(&self) -> f64 {
        let images = self.val.losses.len();
        let (known, of) = self.held_out.unwrap_or_default();
        (self.val.accuracy * images as f64 + known * of as f64) / (images + of).max(1) as f64
    }
}

/// Why fine-tuning can be skipped, if so.
pub fn nothing_to_gain(heads: &MethodResult) -> Option<String> {
    let right = heads.right();
    (1. - right <= NOTHING_TO_GAIN).then(|| {
        format!("`{}` is right on {right:.4} of the images that it has not learnt from, which leaves nothing to gain", heads.method)
    })
}

/// The weight of `tuned` in a mixture with `heads`, by the cross-entropies of the same images in
/// nats: the most probable one under a Dirichlet prior of [`PRIOR_IMAGES`]. Expectation
/// maximisation (Dempster, Laird and Rubin, JRSS B 39, 1977) finds it, because there is only one
/// maximum.
fn weight(heads: &[f64], tuned: &[f64]) -> f64 {
    let mut weight = 0.5;
    for _ in 0..1000 {
        // Fine-tuning's responsibility for an image.
        let explained =
            |(heads, tuned): (&f64, &f64)| 1. / (1. + (1. - weight) / weight * (tuned - heads).exp());
        let sum: f64 = heads.iter().zip(tuned).map(explained).sum();
        let next = (sum + PRIOR_IMAGES / 2.) / (heads.len() as f64 + PRIOR_IMAGES);
        if (next - weight).abs() < 1e-9 {
            break;
        }
        weight = next;
    }
    weight
}

/// Result of the two methods, for the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contest {
    /// Validation images.
    pub images: usize,
    /// The two, the one of larger weight first; the other is missing if it was not trained.
    pub methods: Vec<Row>,
    /// Mean cross-entropies on the validation images, in the same order, in nats.
    pub compared_by: Vec<f64>,
    /// The weight of each, in the same order: 1 for one that is kept alone.
    pub shares: Vec<f64>,
}

impl Contest {
    /// Only one of the two.
    pub fn alone(kept: &MethodResult) -> Self {
        Contest::of(&[kept], vec![1.])
    }

    /// Weighs fine-tuning against heads, on the same images in the same order. Unless `averaged`,
    /// only the one of larger weight is kept.
    pub fn between(heads: &MethodResult, tuned: &MethodResult, averaged: bool) -> Self {
        let tuned_share = match weight(&heads.val.losses, &tuned.val.losses) {
            share if !averaged => f64::from(share > 0.5),
            ..LEAST_SHARE => 0.,
            share if share > 1. - LEAST_SHARE => 1.,
            share => share,
        };
        match tuned_share > 0.5 {
            true => Contest::of(&[tuned, heads], vec![tuned_share, 1. - tuned_share]),
            false => Contest::of(&[heads, tuned], vec![1. - tuned_share, tuned_share]),
        }
    }

    fn of(candidates: &[&MethodResult], shares: Vec<f64>) -> Self {
        let outcomes = |it: &&MethodResult| MethodAnswers {
            method: it.method,
            right: it.val.confusion.outcomes().to_vec(),
            seconds: it.seconds,
        };
        Contest {
            images: candidates.first().map_or(0, |kept| kept.val.losses.len()),
            methods: rows(&candidates.iter().map(outcomes).collect::<Vec<_>>()),
            compared_by: candidates.iter().map(|it| it.val.loss).collect(),
            shares,
        }
    }

    /// The method that is kept, or has the larger weight.
    pub fn kept(&self) -> Option<Method> {
        self.methods.first().map(|row| row.method)
    }

    /// The weight of the other one, if used.
    pub fn partner(&self) -> Option<f64> {
        self.shares.get(1).copied().filter(|&share| share > 0.)
    }

    /// The comparison in a sentence. No seconds: two runs of the same recipe say the same.
    pub fn reason(&self) -> String {
        let line = |(row, loss): (&Row, &f64)| {
            format!("`{}` is right on {:.4} (loss {loss:.4})", row.method, row.accuracy)
        };
        let lines: Vec<String> = self.methods.iter().zip(&self.compared_by).map(line).collect();
        let both = match (self.partner(), &self.shares[..]) {
            (Some(_), &[first, second]) => {
                format!(": both are kept and averaged, and count {first:.2} and {second:.2}")
            }
            _ => String::new(),
        };
        format!("on {} validation images {}{both}", self.images, lines.join(", "))
    }
}
