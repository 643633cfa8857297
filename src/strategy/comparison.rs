//! Comparison of methods on the same images. Of two that are right on nine in ten, only the few
//! images on which they differ tell which is better.
//!
//! The intervals are about other images, not other training sets: no unbiased estimate of that
//! variance exists (Bengio and Grandvalet, JMLR 5, 2004; Dietterich, Neural Computation 10, 1998,
//! compares tests for it). So a difference whose interval barely excludes 0 is no proof, and one
//! whose interval includes 0 is no proof of equality.

use serde::Serialize;

use crate::recipe::Method;
use crate::stats::significance::Interval;

/// Results of a method on each held-out image.
#[derive(Clone, Debug)]
pub struct MethodAnswers {
    /// The method.
    pub method: Method,
    /// Whether it was right on each image; in the same order for all methods.
    pub right: Vec<bool>,
    /// Total seconds of training and evaluation.
    pub seconds: f64,
}

impl MethodAnswers {
    /// Number of images it was right on.
    pub fn right(&self) -> usize {
        self.right.iter().filter(|right| **right).count()
    }

    /// Number of images on which only it was right, and on which only `other` was.
    pub fn against(&self, other: &MethodAnswers) -> (usize, usize) {
        let pairs = || self.right.iter().zip(&other.right);
        (pairs().filter(|(s, o)| **s && !**o).count(), pairs().filter(|(s, o)| !**s && **o).count())
    }
}

/// A row of the comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The method.
    pub method: Method,
    /// Its accuracy on held-out images.
    pub accuracy: f64,
    /// The 95 % interval of that accuracy on other images.
    pub interval: Interval,
    /// Its accuracy minus the first one's; absent for the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// Total seconds of training and evaluation.
    pub seconds: f64,
}

/// A difference of accuracies on the same images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The mean over the images.
    pub mean: f64,
    /// The 95 % interval on other images.
    pub interval: Interval,
    /// The interval's lower end, as reports had it before `interval`.
    low: f64,
    /// Its upper end.
    high: f64,
}

impl Difference {
    fn new(mean: f64, interval: Interval) -> Self {
        let Interval(low, high) = interval;
        Difference { mean, interval, low, high }
    }
}

/// A row for each method, all compared with the first one.
pub fn rows(outcomes: &[MethodAnswers]) -> Vec<Row> {
    let row = |(place, of): (usize, &MethodAnswers)| {
        let (images, right) = (of.right.len(), of.right());
        let (won, lost) = of.against(&outcomes[0]);
        Row {
            method: of.method,
            accuracy: right as f64 / images.max(1) as f64,
            interval: Interval::wilson(right as u64, images as u64),
            difference: (place > 0).then(|| {
                let mean = (won as f64 - lost as f64) / images.max(1) as f64;
                Difference::new(mean, Interval::of_difference(won, lost, images))
            }),
            seconds: of.seconds,
        }
    };
    outcomes.iter().enumerate().map(row).collect()
}

impl Row {
    /// Whether it may be as good as the winner.
    pub fn is_alike(&self) -> bool {
        self.difference.is_some_and(|difference| difference.low <= 0. && 0. <= difference.high)
    }

    /// `partial -0.0130 (-0.0310 to +0.0050): not told apart`
    pub fn line(&self) -> String {
        let Some(Difference { mean, low, high, .. }) = self.difference else {
            return format!("{} {:.4}", self.method, self.accuracy);
        };
        let told = if self.is_alike() { ": not told apart" } else { "" };
        format!("{} {mean:+.4} ({low:+.4} to {high:+.4}){told}", self.method)
    }
}
