//! Comparison of methods on the same images. Of two that are right on nine in ten, only the few
//! images on which they differ tell which is better.
//!
//! The intervals are about other images, not other training sets: no unbiased estimate of that
//! variance exists (Bengio and Grandvalet, JMLR 5, 2004; Dietterich, Neural Computation 10, 1998,
//! compares tests for it). So a difference whose interval barely excludes 0 is no proof, and one
//! whose interval includes 0 is no proof of equality.

use serde::Serialize;

use crate::recipe::Method;
use crate::stats::significance;

/// Results of a method on each held-out image.
#[derive(Clone, Debug)]
pub struct Outcomes {
    /// The method.
    pub method: Method,
    /// Whether it was right on each image; in the same order for all methods.
    pub right: Vec<bool>,
    /// Total seconds of training and evaluation.
    pub seconds: f64,
}

impl Outcomes {
    /// Number of images it was right on.
    pub fn right(&self) -> usize {
        self.right.iter().filter(|right| **right).count()
    }

    /// Number of images on which only it was right, and on which only `other` was.
    pub fn against(&self, other: &Outcomes) -> (usize, usize) {
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
    #[serde(flatten)]
    pub interval: Interval,
}

/// A row for each method, all compared with the first one.
pub fn rows(outcomes: &[Outcomes]) -> Vec<Row> {
    let row = |(place, of): (usize, &Outcomes)| {
        let (images, right) = (of.right.len(), of.right());
        let (won, lost) = of.against(&outcomes[0]);
        Row {
            method: of.method,
            accuracy: right as f64 / images.max(1) as f64,
            interval: significance::Interval::wilson(right as u64, images as u64).into(),
            difference: (place > 0).then(|| Difference {
                mean: (won as f64 - lost as f64) / images.max(1) as f64,
                interval: significance::Interval::of_difference(won, lost, images).into(),
            }),
            seconds: of.seconds,
        }
    };
    outcomes.iter().enumerate().map(row).collect()
}

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl From<significance::Interval> for Interval {
    fn from(significance::Interval(low, high): significance::Interval) -> Self {
        Interval { low, high }
    }
}

impl Row {
    /// Whether it may be as good as the winner.
    pub fn is_alike(&self) -> bool {
        self.difference
            .is_some_and(|difference| difference.interval.low <= 0. && 0. <= difference.interval.high)
    }

    /// `partial -0.0130 (-0.0310 to +0.0050): not told apart`
    pub fn line(&self) -> String {
        let Some(Difference { mean, interval: Interval { low, high } }) = self.difference else {
            return format!("{} {:.4}", self.method, self.accuracy);
        };
        let told = if self.is_alike() { ": not told apart" } else { "" };
        format!("{} {mean:+.4} ({low:+.4} to {high:+.4}){told}", self.method)
    }
}
