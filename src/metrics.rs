//! Counts, and what is read off them.

use serde::Serialize;

/// How often each class was taken for each other: `counts[truth][prediction]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// A row a true class, a column a predicted one.
    pub counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// No predictions yet, for `classes` classes.
    pub fn new(classes: usize) -> Self {
        Confusion { counts: vec![vec![0; classes]; classes] }
    }

    /// Counts one prediction.
    pub fn add(&mut self, truth: usize, prediction: usize) {
        self.counts[truth][prediction] += 1;
    }

    /// All predictions.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// The share of right predictions, in [0, 1]; 0 without any.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.counts.len()).map(|class| self.counts[class][class]).sum();
        right as f64 / self.total().max(1) as f64
    }

    /// Each class's share of right predictions among its own images; `None` where it has none.
    pub fn recall(&self) -> Vec<Option<f64>> {
        let row = |(class, row): (usize, &Vec<u64>)| {
            let total: u64 = row.iter().sum();
            (total > 0).then(|| row[class] as f64 / total as f64)
        };
        self.counts.iter().enumerate().map(row).collect()
    }
}

/// What a network does on a set of images.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// The share of right predictions, in [0, 1].
    pub accuracy: f64,
    /// Who was taken for whom.
    pub confusion: Confusion,
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
        assert_eq!(confusion.recall(), [Some(0.5), Some(1.), None]);
        assert_eq!(Confusion::new(2).accuracy(), 0.);
    }
}
