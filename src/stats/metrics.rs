//! Confusion counts, and the metrics derived from them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::figures::Figures;
use super::per_class::Counts;
use super::scores::Scores;

/// Confusion matrix. Only pairs that occurred are stored: ten thousand classes have a hundred
/// million pairs.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Confusion {
    classes: usize,
    /// By true class, then predicted class.
    counts: BTreeMap<(usize, usize), u64>,
    /// Whether each prediction was right, in order of counting.
    outcomes: Vec<bool>,
}

impl Confusion {
    /// No predictions yet, for `classes` classes.
    pub fn new(classes: usize) -> Self {
        Confusion { classes, counts: BTreeMap::new(), outcomes: Vec::new() }
    }

    /// Counts one prediction.
    pub fn add(&mut self, truth: usize, prediction: usize) {
        *self.counts.entry((truth, prediction)).or_default() += 1;
        self.outcomes.push(truth == prediction);
    }

    /// Whether each prediction was right, in order of counting.
    pub fn outcomes(&self) -> &[bool] {
        &self.outcomes
    }

    /// Number of predictions.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Number of right predictions.
    pub fn right(&self) -> u64 {
        self.counts.iter().filter(|((truth, prediction), _)| truth == prediction).map(|(_, n)| n).sum()
    }

    /// The share of right predictions, in [0, 1]; 0 without predictions.
    pub fn accuracy(&self) -> f64 {
        self.right() as f64 / self.total().max(1) as f64
    }

    /// The most frequent true class (the first on ties) and its count; `None` without images.
    pub fn most_frequent(&self) -> Option<(usize, u64)> {
        let mut totals: BTreeMap<usize, u64> = BTreeMap::new();
        for (&(truth, _), count) in &self.counts {
            *totals.entry(truth).or_default() += count;
        }
        totals.into_iter().max_by_key(|&(class, count)| (count, Reverse(class)))
    }

    /// Images, answers and right answers of each class.
    pub fn counts(&self) -> Vec<Counts> {
        let mut counts = vec![Counts::default(); self.classes];
        for (&(truth, prediction), &count) in &self.counts {
            counts[truth].images += count;
            counts[prediction].answers += count;
            counts[truth].right += if truth == prediction { count } else { 0 };
        }
        counts
    }

    /// Recall of each class; `None` without images of it.
    pub fn recall(&self) -> Vec<Option<f64>> {
        let share = |of: Counts| (of.images > 0).then(|| of.right as f64 / of.images as f64);
        self.counts().into_iter().map(share).collect()
    }

    /// True class, predicted class and number of images of each pair that occurred, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize, u64)> + '_ {
        self.counts.iter().map(|(&(truth, prediction), &count)| (truth, prediction, count))
    }

    /// Rows are true classes, columns predicted ones.
    pub fn matrix(&self) -> Vec<Vec<u64>> {
        let mut matrix = vec![vec![0; self.classes]; self.classes];
        for (&(truth, prediction), &count) in &self.counts {
            matrix[truth][prediction] = count;
        }
        matrix
    }

    /// The `most` most frequent confusions: true class, predicted class, count.
    pub fn mistakes(&self, most: usize) -> Vec<(usize, usize, u64)> {
        let wrong = self.counts.iter().filter(|((truth, prediction), _)| truth != prediction);
        let mut pairs: Vec<_> =
            wrong.map(|(&(truth, prediction), &count)| (truth, prediction, count)).collect();
        pairs.sort_by_key(|&(truth, prediction, count)| (Reverse(count), truth, prediction));
        pairs.truncate(most);
        pairs
    }
}

/// Metrics of a network on a set of images.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// The share of right predictions, in [0, 1].
    pub accuracy: f64,
    /// Confusion matrix.
    pub confusion: Confusion,
    /// The cross-entropy of each image, in order of counting.
    pub losses: Vec<f64>,
    /// The class probabilities of each image, in order of counting, if they were kept.
    pub scores: Option<Arc<Scores>>,
}

impl Evaluation {
    /// Figures beyond accuracy, if the probabilities were kept.
    pub fn figures(&self, classes: &[String]) -> Option<Figures> {
        self.scores.as_ref().map(|scores| Figures::of(&self.confusion, scores, classes))
    }
}

/// Running counts of an evaluation.
pub struct Counter {
    /// Confusion matrix so far.
    pub confusion: Confusion,
    /// The cross-entropy of each image so far.
    pub losses: Vec<f64>,
    /// Their sum, from the sums of batches.
    pub loss_sum: f64,
    /// The class probabilities of each image so far, if they are kept.
    pub scores: Option<Scores>,
}

impl Counter {
    /// Empty, for `classes` classes.
    pub fn new(classes: usize) -> Self {
        Counter { confusion: Confusion::new(classes), losses: Vec::new(), loss_sum: 0., scores: None }
    }

    /// Empty, and will keep the class probabilities: for a model's last measurement. An epoch's
    /// needs none of them.
    pub fn with_scores(classes: usize) -> Self {
        Counter { scores: Some(Scores::new(classes)), ..Counter::new(classes) }
    }

    /// The evaluation of everything counted.
    pub fn finish(self) -> Evaluation {
        let Counter { confusion, losses, loss_sum, scores } = self;
        let loss = loss_sum / confusion.total().max(1) as f64;
        Evaluation { loss, accuracy: confusion.accuracy(), confusion, losses, scores: scores.map(Arc::new) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_and_recall_are_shares_of_the_right_totals() {
        let mut confusion = Confusion::new(3);
        for (truth, prediction) in [(0, 0), (0, 1), (1, 1), (1, 1)] {
            confusion.add(truth, prediction);
        }
        assert_eq!(confusion.accuracy(), 0.75);
        assert_eq!(confusion.outcomes(), [true, false, true, true]);
        assert_eq!(confusion.recall(), [Some(0.5), Some(1.), None]);
        assert_eq!(confusion.matrix(), [[1, 1, 0], [0, 2, 0], [0, 0, 0]]);
        assert_eq!(confusion.mistakes(5), [(0, 1, 1)]);
        assert_eq!((confusion.right(), confusion.most_frequent()), (3, Some((0, 2))));
        assert_eq!(Confusion::new(2).most_frequent(), None);
        assert_eq!(Confusion::new(2).accuracy(), 0.);
    }
}
