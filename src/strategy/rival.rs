//! Two methods trained on the same images, and the better one kept.
//!
//! Where images are different from the source data, nothing that can be measured beforehand tells whether a head on fixed
//! features (`stages`) or fine-tuning (`full`) does better: on tasks of the same size and distance either was ahead by 20
//! points (`docs/strategy.md`). A head costs one pass of the images, so both are trained, on the same images, and measured
//! on the same validation images.

use serde::Serialize;

use super::race::{Difference, Outcomes, Row, rows};
use crate::recipe::{DatasetSize, Method};

/// The rival is kept from so many standard errors of the difference on.
///
/// With the images on which only one of the two is right as `won` and `lost`, that is McNemar's
/// (won - lost) / √(won + lost) (Psychometrika 12, 1947).
pub const STANDARD_ERRORS: f64 = 1.;

/// The share of wrong answers below which nothing is worth another training.
const NOTHING_TO_GAIN: f64 = 0.01;

/// How far the accuracy at an early stage has to be above that at all later ones for [`Settled::Early`].
const EARLY_LEAD: f64 = 0.1;

/// What the fitted heads have told, before anything is fine-tuned.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// How much data there is.
    pub size: DatasetSize,
    /// Cross-validated accuracy inside `train` at each reading alone, in the chain's order.
    pub by_stage: &'a [f64],
    /// The same of the head that was chosen.
    pub chosen: f64,
    /// Training images.
    pub train: usize,
    /// Validation images.
    pub val: usize,
    /// How many of them the chosen head is right on.
    pub val_right: usize,
}

/// Why fine-tuning need not be tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Settled {
    /// Hardly an image is wrong.
    NothingToGain,
    /// With little data: a stage of the first half of the network does far better than all of the second half. What tells
    /// these classes apart is simple and local, and is found; the later stages would have to be learnt anew from a few images.
    Early,
}

impl Heads<'_> {
    /// Whether the heads have settled the matter.
    pub fn settled(&self) -> Option<Settled> {
        let (train, val) = (self.train as f64, self.val as f64);
        let wrong = (1. - self.chosen) * train + val - self.val_right as f64;
        if wrong <= NOTHING_TO_GAIN * (train + val) {
            return Some(Settled::NothingToGain);
        }
        let best = |part: &[f64]| part.iter().copied().fold(0., f64::max);
        let (early, late) = self.by_stage.split_at(self.by_stage.len() / 2);
        let ahead = best(early) - best(late) >= EARLY_LEAD;
        (self.size == DatasetSize::Little && ahead).then_some(Settled::Early)
    }
}

impl Settled {
    /// Said behind the reason of the table.
    pub fn reason(self, rival: Method, heads: &Heads) -> String {
        match self {
            Settled::NothingToGain => format!(
                "the heads are right on all but {:.4} of the images, so that `{rival}` has nothing to gain",
                1. - heads.right()
            ),
            Settled::Early => {
                format!(
                    "an early stage tells the classes apart best, so that `{rival}` has little to build on"
                )
            }
        }
    }
}

impl Heads<'_> {
    fn right(&self) -> f64 {
        let images = (self.train + self.val).max(1) as f64;
        (self.chosen * self.train as f64 + self.val_right as f64) / images
    }
}

/// Whether a training may be given up: it is past half of its epochs, and `best`, the best of its accuracies on `images`
/// validation images, is behind `to_beat` by 25 points and by three standard errors of the difference. In the second half of its
/// epochs `full` has gained up to 19 points, on development tasks of 100 images a class.
pub fn hopeless(best: f64, to_beat: f64, images: usize, epoch: usize, epochs: usize) -> bool {
    let variance = (best * (1. - best) + to_beat * (1. - to_beat)) / images.max(1) as f64;
    2 * epoch >= epochs && epoch < epochs && to_beat - best > (3. * variance.sqrt()).max(0.25)
}

/// What came of the two, as the report holds it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contest {
    /// Validation images.
    pub images: usize,
    /// The two, the one that is kept first; the other is not there where it was not trained.
    pub methods: Vec<Row>,
}

impl Contest {
    /// One of the two alone.
    pub fn settled(kept: Outcomes) -> Self {
        Contest { images: kept.right.len(), methods: rows(&[kept]) }
    }

    /// Compares the table's choice with its rival, on the same images in the same order. The choice is kept unless the rival is
    /// clearly better.
    pub fn of(choice: Outcomes, rival: Outcomes) -> Self {
        let (won, lost) = rival.against(&choice);
        let better = won as f64 - lost as f64 >= STANDARD_ERRORS * ((won + lost) as f64).sqrt() && won > lost;
        let images = choice.right.len();
        let methods = if better { rows(&[rival, choice]) } else { rows(&[choice, rival]) };
        Contest { images, methods }
    }

    /// Why the one that is kept is kept. No seconds: two runs of the same recipe say the same.
    pub fn reason(&self, before: &str) -> String {
        let [kept, other] = &self.methods[..] else { return before.to_string() };
        let difference = match other.difference {
            Some(Difference { mean, .. }) if mean > 0. => format!("{:.4} more, which may be luck", mean),
            Some(Difference { mean, .. }) => format!("{:.4} less", -mean),
            None => String::new(),
        };
        format!(
            "{before}; on {} validation images `{}` is right on {:.4}, `{}` on {difference}",
            self.images, kept.method, kept.accuracy, other.method
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A contest on ten images of which the choice alone gets `lost` right, the rival alone `won`.
    fn contest(won: usize, lost: usize) -> Contest {
        let rival = (0..10).map(|i| i < won).collect();
        let choice = (0..10).map(|i| i >= 10 - lost).collect();
        let of = |method, right| Outcomes { method, right, seconds: 0. };
        Contest::of(of(Method::Full, choice), of(Method::Stages, rival))
    }

    #[test]
    fn the_choice_is_kept_unless_the_rival_is_clearly_better() {
        let kept = |won, lost| contest(won, lost).methods[0].method;
        assert_eq!(kept(0, 0), Method::Full);
        assert_eq!(kept(1, 1), Method::Full);
        // 1 / √3 and 2 / √4 standard errors.
        assert_eq!(kept(2, 1), Method::Full);
        assert_eq!(kept(3, 1), Method::Stages);
        assert_eq!(kept(1, 0), Method::Stages);
        assert_eq!(kept(0, 3), Method::Full);
    }

    #[test]
    fn heads_settle_what_is_told_already() {
        let heads = |size, by_stage, chosen, val_right| Heads {
            size,
            by_stage,
            chosen,
            train: 80,
            val: 20,
            val_right,
        };
        let (little, lots) = (DatasetSize::Little, DatasetSize::Lots);
        assert_eq!(heads(lots, &[0.9, 1.], 1., 19).settled(), Some(Settled::NothingToGain));
        assert_eq!(heads(lots, &[0.9, 1.], 1., 18).settled(), None);
        assert_eq!(heads(little, &[0.4, 0.62, 0.5, 0.5], 0.62, 10).settled(), Some(Settled::Early));
        assert_eq!(heads(little, &[0.4, 0.59, 0.5, 0.5], 0.59, 10).settled(), None);
        assert_eq!(heads(lots, &[0.4, 0.62, 0.5, 0.5], 0.62, 10).settled(), None);
    }

    #[test]
    fn only_what_is_far_behind_is_given_up() {
        assert!(hopeless(0.4, 0.66, 160, 5, 10));
        assert!(!hopeless(0.4, 0.66, 160, 4, 10));
        assert!(!hopeless(0.4, 0.66, 40, 5, 10));
        assert!(!hopeless(0.42, 0.66, 10_000, 9, 10));
        // There is nothing left to give up.
        assert!(!hopeless(0.4, 0.66, 160, 10, 10));
    }

    #[test]
    fn the_reason_names_both() {
        let reason = contest(3, 1).reason("different");
        assert_eq!(
            reason,
            "different; on 10 validation images `stages` is right on 0.3000, `full` on 0.2000 less"
        );
        assert!(contest(2, 1).reason("x").ends_with("`stages` on 0.1000 more, which may be luck"));
    }
}
