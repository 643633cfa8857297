//! Class probabilities of labelled images, and the losses that follow from them.

use super::calibration::temper;

/// Distance from 0 and 1 that a probability keeps in the log-loss, as scikit-learn has it for
/// numbers of 64 bits.
const LEAST: f64 = f64::EPSILON;

/// Class probabilities of labelled images: `[N, C]`, row by row, as float32. Fifty thousand images
/// of a thousand classes take 200 MB.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    classes: usize,
    labels: Vec<u32>,
    probabilities: Vec<f32>,
}

impl Scores {
    /// No images yet, for `classes` classes.
    pub fn new(classes: usize) -> Self {
        Scores { classes, labels: Vec::new(), probabilities: Vec::new() }
    }

    /// Adds images: a label for each row of `classes` probabilities.
    pub fn add(&mut self, labels: impl IntoIterator<Item = usize>, rows: &[f32]) {
        self.labels.extend(labels.into_iter().map(|label| label as u32));
        self.probabilities.extend_from_slice(rows);
        debug_assert_eq!(self.labels.len() * self.classes, self.probabilities.len());
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.labels.len()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The label and the probabilities of each image.
    pub fn rows(&self) -> impl Iterator<Item = (usize, &[f32])> {
        let rows = self.probabilities.chunks_exact(self.classes.max(1));
        self.labels.iter().map(|&label| label as usize).zip(rows)
    }

    /// The same at another temperature ([`super::calibration`]).
    pub fn tempered(mut self, temperature: f64) -> Scores {
        let rows = self.probabilities.chunks_exact_mut(self.classes.max(1));
        rows.for_each(|row| temper(row, temperature));
        self
    }

    /// The probability of `class` on each image, and whether that is its label.
    pub fn of_class(&self, class: usize) -> impl Iterator<Item = (f32, bool)> {
        self.rows().map(move |(label, row)| (row[class], label == class))
    }

    /// The likeliest class of each image (the first of equals), its probability, and whether it is
    /// the label.
    pub fn answers(&self) -> impl Iterator<Item = Answer> {
        self.rows().map(|(label, row)| {
            let class = likeliest(row);
            Answer { class, confidence: row.get(class).copied().unwrap_or(0.), right: class == label }
        })
    }

    /// The share of images whose label is among the `k` likeliest classes, of equals the later
    /// ones, as scikit-learn's `top_k_accuracy_score`. `None` where `k` classes are all of them, or
    /// without images.
    pub fn top(&self, k: usize) -> Option<f64> {
        if self.classes <= k || self.labels.is_empty() {
            return None;
        }
        let among = |(label, row): (usize, &[f32])| {
            let own = row[label];
            let before = |(class, &other): (usize, &f32)| other > own || (other == own && class > label);
            row.iter().enumerate().filter(|&each| before(each)).count() < k
        };
        Some(self.mean(|label, row| f64::from(among((label, row)))))
    }

    /// Mean of `-ln p` of the label's probability, in nats, which is clipped to machine precision,
    /// as scikit-learn's `log_loss`.
    pub fn log_loss(&self) -> f64 {
        self.mean(|label, row| -f64::from(row[label]).clamp(LEAST, 1. - LEAST).ln())
    }

    /// Brier score: the mean over images of the sum over classes of `(p - [is the label])²`, from 0
    /// to 2 (G. W. Brier, Monthly Weather Review 78, 1950). scikit-learn's `brier_score_loss` with
    /// `scale_by_half=False`.
    pub fn brier(&self) -> f64 {
        self.mean(|label, row| {
            let squares = row.iter().enumerate().map(|(class, &p)| {
                let miss = f64::from(p) - f64::from(class == label);
                miss * miss
            });
            squares.sum()
        })
    }

    /// Mean over images; 0 without any.
    fn mean(&self, of: impl Fn(usize, &[f32]) -> f64) -> f64 {
        let sum: f64 = self.rows().map(|(label, row)| of(label, row)).sum();
        sum / self.images().max(1) as f64
    }
}

/// What a model answers to an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// The likeliest class.
    pub class: usize,
    /// Its probability.
    pub confidence: f32,
    /// Whether it is the label.
    pub right: bool,
}

/// The index of the greatest number, the first of equals; 0 in an empty row.
pub fn likeliest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Eight images of four classes, with ties, a sure mistake and a class without images: the
    /// example of the tests of this room.
    pub fn example() -> Scores {
        let mut scores = Scores::new(4);
        let rows: [[f32; 4]; 8] = [
            [0.5, 0.25, 0.125, 0.125],
            [0.25, 0.5, 0.125, 0.125],
            [0.25, 0.25, 0.25, 0.25],
            [0.0, 1.0, 0.0, 0.0],
            [0.125, 0.5, 0.25, 0.125],
            [0.0625, 0.0625, 0.75, 0.125],
            [0.5, 0.0, 0.5, 0.0],
            [0.125, 0.125, 0.625, 0.125],
        ];
        scores.add([0, 0, 0, 1, 1, 2, 2, 1], rows.as_flattened());
        scores
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    /// scikit-learn 1.9: `log_loss`, `brier_score_loss(scale_by_half=False)` and
    /// `top_k_accuracy_score`, with `labels=range(4)`.
    #[test]
    fn losses_are_those_of_scikit_learn() {
        let scores = example();
        near(scores.log_loss(), 0.9023942347564042);
        near(scores.brier(), 0.5068359375);
        assert_eq!((scores.top(2), scores.top(3)), (Some(0.75), Some(0.875)));
        assert_eq!((scores.top(4), Scores::new(9).top(5)), (None, None));
        let mut sure = Scores::new(2);
        sure.add([1, 0], &[1., 0., 1., 0.]);
        near(sure.log_loss(), 18.021826694558577);
        assert_eq!(sure.brier(), 1.);
    }

    #[test]
    fn of_equal_classes_the_first_is_the_answer() {
        let answers: Vec<usize> = example().answers().map(|answer| answer.class).collect();
        assert_eq!(answers, [0, 1, 0, 1, 1, 2, 0, 2]);
        assert_eq!(likeliest(&[]), 0);
    }
}
