//! Each class against all others: precision, recall, F1, and their averages.

use serde::Serialize;

use super::metrics::Confusion;
use super::ranking::Ranking;
use super::scores::Scores;
use super::significance::Interval;

/// Figures of a class. Null is what has no meaning: all of it without images and answers, recall
/// and ranking without images. Precision without answers is 0, as scikit-learn's `zero_division=0`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassRow {
    /// Its name.
    pub class: String,
    /// Images of it.
    pub images: u64,
    /// Images that were taken for it, rightly or not.
    pub answers: u64,
    /// The share of its images among those taken for it.
    pub precision: Option<f64>,
    /// Wilson's 95 % interval of the precision; null without answers.
    pub precision_interval: Option<Interval>,
    /// The share of its images that were taken for it.
    pub recall: Option<f64>,
    /// Wilson's 95 % interval of the recall.
    pub recall_interval: Option<Interval>,
    /// Harmonic mean of precision and recall.
    pub f1: Option<f64>,
    /// Its 95 % interval: see [`Interval::f1`].
    pub f1_interval: Option<Interval>,
    /// Area under the ROC curve, against all other classes.
    pub auc: Option<f64>,
    /// Average precision.
    pub average_precision: Option<f64>,
}

/// A row for each class, in order.
pub fn class_rows(confusion: &Confusion, scores: &Scores, classes: &[String]) -> Vec<ClassRow> {
    let row = |(class, counts): (usize, Counts)| {
        let Counts { images, answers, right } = counts;
        let Ranking { auc, average_precision } = Ranking::of(scores, class);
        let known = images + answers > 0;
        ClassRow {
            class: classes[class].clone(),
            images,
            answers,
            precision: known.then(|| counts.precision()),
            precision_interval: (answers > 0).then(|| Interval::wilson(right, answers)),
            recall: (images > 0).then(|| counts.recall()),
            recall_interval: (images > 0).then(|| Interval::wilson(right, images)),
            f1: known.then(|| counts.f1()),
            f1_interval: known.then(|| Interval::f1(right, images, answers)),
            auc,
            average_precision,
        }
    };
    confusion.counts().into_iter().enumerate().map(row).collect()
}

/// Counts of a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Images of it.
    pub images: u64,
    /// Images that were taken for it.
    pub answers: u64,
    /// Those of both.
    pub right: u64,
}

impl Counts {
    fn precision(self) -> f64 {
        self.right as f64 / self.answers.max(1) as f64
    }

    fn recall(self) -> f64 {
        self.right as f64 / self.images.max(1) as f64
    }

    fn f1(self) -> f64 {
        2. * self.right as f64 / (self.images + self.answers).max(1) as f64
    }
}

/// Averages over classes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Averages {
    /// Mean precision.
    pub precision: f64,
    /// Mean recall.
    pub recall: f64,
    /// Mean F1.
    pub f1: f64,
}

impl Averages {
    /// Every class that has images or answers counts alike: scikit-learn's `average="macro"`.
    pub fn of_classes(confusion: &Confusion) -> Self {
        Averages::weighted(confusion, |counts| f64::from(counts.images + counts.answers > 0))
    }

    /// Every image counts alike: scikit-learn's `average="weighted"`.
    pub fn of_images(confusion: &Confusion) -> Self {
        Averages::weighted(confusion, |counts| counts.images as f64)
    }

    fn weighted(confusion: &Confusion, weight: impl Fn(&Counts) -> f64) -> Self {
        let counts = confusion.counts();
        let total: f64 = counts.iter().map(&weight).sum();
        let mean = |of: fn(Counts) -> f64| {
            let sum: f64 = counts.iter().map(|counts| weight(counts) * of(*counts)).sum();
            if total > 0. { sum / total } else { 0. }
        };
        Averages { precision: mean(Counts::precision), recall: mean(Counts::recall), f1: mean(Counts::f1) }
    }
}

/// Mean recall of the classes that have images, in [0, 1]: scikit-learn's
/// `balanced_accuracy_score`. 0 without images.
pub fn balanced_accuracy(confusion: &Confusion) -> f64 {
    let recalls: Vec<f64> = confusion.recall().into_iter().flatten().collect();
    recalls.iter().sum::<f64>() / recalls.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: [f64; 3], expected: [f64; 3]) {
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }

    /// scikit-learn 1.9: `precision_recall_fscore_support(zero_division=0)` and
    /// `balanced_accuracy_score`. The third class has answers and no images, the fourth neither.
    #[test]
    fn averages_are_those_of_scikit_learn() {
        let mut confusion = Confusion::new(4);
        let pairs = [(0, 0), (0, 0), (0, 0), (0, 2), (1, 1), (1, 0), (1, 2)];
        pairs.into_iter().for_each(|(truth, answer)| confusion.add(truth, answer));
        let Averages { precision, recall, f1 } = Averages::of_classes(&confusion);
        near([precision, recall, f1], [0.5833333333333334, 0.3611111111111111, 0.4166666666666667]);
        let Averages { precision, recall, f1 } = Averages::of_images(&confusion);
        near([precision, recall, f1], [0.8571428571428571, 0.5714285714285714, 0.6428571428571429]);
        assert!((balanced_accuracy(&confusion) - 0.5416666666666666).abs() < 1e-12);
        assert_eq!(balanced_accuracy(&Confusion::new(2)), 0.);

        let names = ["a", "b", "c", "d"].map(String::from);
        let rows = class_rows(&confusion, &Scores::new(4), &names);
        let (a, c, d) = (&rows[0], &rows[2], &rows[3]);
        assert_eq!(
            (a.images, a.answers, a.precision, a.recall, a.f1),
            (4, 4, Some(0.75), Some(0.75), Some(0.75))
        );
        assert_eq!((c.images, c.answers, c.precision, c.recall, c.f1), (0, 2, Some(0.), None, Some(0.)));
        assert_eq!((c.precision_interval, c.recall_interval), (Some(Interval::wilson(0, 2)), None));
        assert_eq!((d.precision, d.recall, d.f1, d.f1_interval), (None, None, None, None));
    }
}
