//! All figures of a classifier on labelled images, in one place: `finetune`, `eval` and the report
//! use them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::confidence::{Answered, Bin, calibration_error, coverage, reliability};
use super::metrics::Confusion;
use super::per_class::{Averages, ClassRow, balanced_accuracy, class_rows};
use super::scores::{Answer, Scores};

/// Answers among which the label is looked for in [`Figures::top5`].
const TOP: usize = 5;

/// Figures beyond accuracy. Shares are in [0, 1], losses in nats. Each equals scikit-learn's of the
/// same predictions; its functions are named at the parts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Precision of each class by its name; of equal names the last.
    pub precision: BTreeMap<String, Option<f64>>,
    /// F1 of each class by its name.
    pub f1: BTreeMap<String, Option<f64>>,
    /// Mean recall of the classes that have images.
    pub balanced_accuracy: f64,
    /// Mean precision of the classes that have images or answers.
    pub macro_precision: f64,
    /// Mean recall of the same.
    pub macro_recall: f64,
    /// Mean F1 of the same.
    pub macro_f1: f64,
    /// Mean precision, each class by its number of images.
    pub weighted_precision: f64,
    /// Mean recall, each class by its number of images: the accuracy.
    pub weighted_recall: f64,
    /// Mean F1, each class by its number of images.
    pub weighted_f1: f64,
    /// The share of images whose label is among the five likeliest classes; null for five classes
    /// or fewer.
    pub top5: Option<f64>,
    /// Mean area under the ROC curve of each class against the rest, over the classes that have
    /// one; null if none has.
    pub auc: Option<f64>,
    /// Mean average precision, over the classes that have images.
    pub average_precision: Option<f64>,
    /// Mean of `-ln p` of the label's probability.
    pub log_loss: f64,
    /// Brier score, summed over classes: from 0 to 2.
    pub brier: f64,
    /// Expected calibration error, of 15 bins of equal width.
    pub ece: f64,
    /// A row for each class, in the order of the model's.
    pub per_class: Vec<ClassRow>,
    /// The bins of `ece`.
    pub reliability: Vec<Bin>,
    /// Accuracy against the share answered at each threshold.
    pub coverage: Vec<Answered>,
}

impl Figures {
    /// Of predictions counted in `confusion` and the probabilities that they come from. `classes`
    /// has the names of the classes.
    pub fn of(confusion: &Confusion, scores: &Scores, classes: &[String]) -> Self {
        let per_class = class_rows(confusion, scores, classes);
        let (each, all) = (Averages::of_classes(confusion), Averages::of_images(confusion));
        // Whether an answer is right is said once: by the confusions.
        let outcomes = confusion.outcomes().iter();
        let answers: Vec<Answer> =
            scores.answers().zip(outcomes).map(|(answer, &right)| Answer { right, ..answer }).collect();
        let reliability = reliability(&answers);
        let by_name = |of: fn(&ClassRow) -> Option<f64>| {
            per_class.iter().map(|row| (row.class.clone(), of(row))).collect()
        };
        Figures {
            precision: by_name(|row| row.precision),
            f1: by_name(|row| row.f1),
            balanced_accuracy: balanced_accuracy(confusion),
            macro_precision: each.precision,
            macro_recall: each.recall,
            macro_f1: each.f1,
            weighted_precision: all.precision,
            weighted_recall: all.recall,
            weighted_f1: all.f1,
            top5: scores.top(TOP),
            auc: mean(per_class.iter().filter_map(|row| row.auc)),
            average_precision: mean(per_class.iter().filter_map(|row| row.average_precision)),
            log_loss: scores.log_loss(),
            brier: scores.brier(),
            ece: calibration_error(&reliability),
            reliability,
            coverage: coverage(&answers),
            per_class,
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0., 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::super::scores::tests::example;
    use super::*;

    #[test]
    fn every_figure_is_of_the_same_answers() {
        let scores = example();
        let mut confusion = Confusion::new(4);
        scores
            .rows()
            .zip(scores.answers())
            .for_each(|((truth, _), answer)| confusion.add(truth, answer.class));
        let names = ["a", "b", "c", "d"].map(String::from);
        let figures = Figures::of(&confusion, &scores, &names);
        assert_eq!(figures.weighted_recall, confusion.accuracy());
        assert_eq!(figures.coverage.last().unwrap().accuracy, confusion.accuracy());
        assert!((figures.macro_f1 - 11. / 18.).abs() < 1e-12 && figures.top5.is_none());
        // The mean of the three classes that have images.
        assert!((figures.auc.unwrap() - (5. / 6. + 23. / 30. + 11. / 12.) / 3.).abs() < 1e-12);
        assert_eq!((figures.f1["c"], figures.f1["d"]), (Some(0.5), None));

        let nothing = Figures::of(&Confusion::new(4), &Scores::new(4), &names);
        assert_eq!((nothing.auc, nothing.log_loss, nothing.ece, nothing.macro_f1), (None, 0., 0., 0.));
    }
}
