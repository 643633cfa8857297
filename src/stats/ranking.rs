//! How well a class's probability ranks its images before all others: ROC-AUC, average precision.

use std::cmp::Reverse;

use super::scores::Scores;

/// A class against all others together. `None` where it is not defined: the area needs images of
/// the class and of others, the average precision some of the class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranking {
    /// Area under the ROC curve: the probability that an image of the class gets a higher
    /// probability of it than an image of another; equal ones count half. scikit-learn's
    /// `roc_auc_score`.
    pub auc: Option<f64>,
    /// Mean precision over the images of the class, each at its own threshold, without
    /// interpolation. scikit-learn's `average_precision_score`.
    pub average_precision: Option<f64>,
}

impl Ranking {
    /// Of `class`, in O(N log N).
    pub fn of(scores: &Scores, class: usize) -> Self {
        // The bits of numbers that are not negative are ordered as they are.
        let key = |(p, own): (f32, bool)| (u64::from(p.max(0.).to_bits()) << 1) | u64::from(own);
        let mut keys: Vec<u64> = scores.of_class(class).map(key).collect();
        keys.sort_unstable_by_key(|&key| Reverse(key));
        let (mut own, mut others) = (0_u64, 0_u64);
        // Twice the number of pairs in the right order, exactly.
        let (mut ordered, mut precisions) = (0_u64, 0.);
        for equal in keys.chunk_by(|a, b| a >> 1 == b >> 1) {
            let new = equal.iter().filter(|&&key| key & 1 == 1).count() as u64;
            let rest = equal.len() as u64 - new;
            ordered += rest * (2 * own + new);
            (own, others) = (own + new, others + rest);
            precisions += new as f64 * own as f64 / (own + others) as f64;
        }
        Ranking {
            auc: (own > 0 && others > 0).then(|| ordered as f64 / 2. / own as f64 / others as f64),
            average_precision: (own > 0).then(|| precisions / own as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scores::tests::example;
    use super::*;

    /// scikit-learn 1.9: `roc_auc_score` and `average_precision_score` of each class.
    #[test]
    fn areas_are_those_of_scikit_learn() {
        let scores = example();
        let expected = [
            (0.8333333333333333, 0.6666666666666666),
            (0.7666666666666666, 0.7222222222222222),
            (0.9166666666666667, 0.8333333333333333),
        ];
        for (class, (auc, precision)) in expected.into_iter().enumerate() {
            let Ranking { auc: found, average_precision } = Ranking::of(&scores, class);
            assert!((found.unwrap() - auc).abs() < 1e-12, "{class}: {found:?} {auc}");
            assert!((average_precision.unwrap() - precision).abs() < 1e-12, "{class}: {average_precision:?}");
        }
        // Nothing of the fourth class, and nothing but one class.
        assert_eq!(Ranking::of(&scores, 3), Ranking { auc: None, average_precision: None });
        let mut single = Scores::new(2);
        single.add([0, 0], &[0.9, 0.1, 0.2, 0.8]);
        assert_eq!(Ranking::of(&single, 0), Ranking { auc: None, average_precision: Some(1.) });
    }
}
