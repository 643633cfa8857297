//! Two methods trained on the same images, and the better one kept, or both.
//!
//! Where images are different from the source data, nothing that can be measured beforehand tells whether a head on fixed
//! features (`stages`) or fine-tuning (`full`) does better: on tasks of the same size and distance either was ahead by 20
//! points (`docs/strategy.md`). A head costs one pass of the images, so both are trained, on the same images, and measured
//! on the same validation images. With lots of data, where heads are seldom ahead, they are fitted to a few images first, and
//! to all only if that could do. Where neither is clearly ahead, their answers are averaged: a few validation images cannot tell, and
//! the mean of two that err in different places is better than either.

use serde::Serialize;

use super::race::{Outcomes, Row, rows};
use crate::recipe::{DatasetSize, Method};

/// With lots of data the rival is kept from so many standard errors of the difference on, and from one image on.
///
/// With the images on which only one of the two is right as `won` and `lost`, the error is McNemar's √(won + lost)
/// (Psychometrika 12, 1947).
const STANDARD_ERRORS: f64 = 0.5;

/// With little data fine-tuning counts as much as the heads where it is ahead by this over the root of the number of validation
/// images: 24 points on 10, 13 on 32. Of the heads more is known, by the training images that they were held out of, and the best
/// of many epochs on a few images is not what it seems.
const EVEN: f64 = 0.75;

/// So much further ahead it counts alone, and so much further behind not at all.
const SPREAD: f64 = 0.25;

/// What would count less than this is left out: each of the two is a network to run.
const LEAST_SHARE: f64 = 0.15;

/// The share of a training's last epochs whose mean accuracy it is compared by.
const LAST: f64 = 0.25;

/// To so many training images of each class heads are fitted first where `stages` is the rival of `full`, to see whether
/// they could be ahead of it: see [`at_best`].
pub const LOOK_AT: usize = 20;

/// On so many training images of each class the stages are compared where `stages` is the rival of `full`: their
/// cross-validation on all would take as long as `full`. The head itself is fitted to all images.
pub const COMPARE_ON: usize = 20;

/// The share of wrong answers below which nothing is worth another training.
const NOTHING_TO_GAIN: f64 = 0.01;

/// The same with little data: on the development tasks `stages` was ahead wherever its heads were right on nine images in ten.
const LITTLE_TO_GAIN: f64 = 0.1;

/// With lots of similar images, fine-tuning the last stages was within 2 points of fine-tuning all wherever a linear classifier on
/// 20 images a class was right on more than this, and 7 points behind where it was right on 83 %.
pub const NINE_IN_TEN: f64 = 0.9;

/// With little data `full` is not tried either where heads are wrong on a smaller share than one over the root of the number of
/// validation images (0.32 on 10, 0.18 on 32), on which it would hardly be told how far it is ahead; and on this at most. On the
/// development tasks with 4 images a class it never counted alone, and leaving it away where heads were right on more than half cost a
/// tenth of a point.
const MOST_TO_GAIN: f64 = 0.4;

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
    /// Training images that they were cross-validated on.
    pub train: usize,
    /// Whether that is a part of them.
    pub part: bool,
    /// Validation images.
    pub val: usize,
    /// How many of them the chosen head is right on.
    pub val_right: usize,
}

/// Why fine-tuning need not be tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Settled {
    /// Hardly an image is wrong, or few are and there is little data to do better with.
    NothingToGain,
    /// With little data: so few images are wrong that the validation images would hardly tell what fine-tuning has gained.
    TooFewToTell,
    /// With little data: a stage of the first half of the network does far better than all of the second half. What tells
    /// these classes apart is simple and local, and is found; the later stages would have to be learnt anew from a few images.
    Early,
}

impl Heads<'_> {
    /// Whether the heads have settled the matter.
    pub fn settled(&self) -> Option<Settled> {
        let (train, val) = (self.train as f64, self.val as f64);
        let wrong = (1. - self.chosen) * train + val - self.val_right as f64;
        let (little, all) = (self.size == DatasetSize::Little, train + val);
        if wrong <= if little { LITTLE_TO_GAIN } else { NOTHING_TO_GAIN } * all {
            return Some(Settled::NothingToGain);
        }
        if little && wrong <= (1. / val.max(1.).sqrt()).min(MOST_TO_GAIN) * all {
            return Some(Settled::TooFewToTell);
        }
        let best = |part: &[f64]| part.iter().copied().fold(0., f64::max);
        let (early, late) = self.by_stage.split_at(self.by_stage.len() / 2);
        let ahead = best(early) - best(late) >= EARLY_LEAD;
        (self.size == DatasetSize::Little && ahead && !self.part).then_some(Settled::Early)
    }
}

impl Settled {
    /// Said behind the reason of the table.
    pub fn reason(self, rival: Method, heads: &Heads) -> String {
        match self {
            Settled::NothingToGain => format!(
                "the heads are right on all but {:.4} of the images{}, so that `{rival}` has little to gain",
                1. - heads.right(),
                if heads.part { " that were looked at" } else { "" }
            ),
            Settled::TooFewToTell => format!(
                "the heads are right on {:.4} of the images, and {} validation images would hardly tell what `{rival}` gains",
                heads.right(),
                heads.val
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
    /// The share of the training and validation images that they are right on, of the former when held out.
    pub fn right(&self) -> f64 {
        let images = (self.train + self.val).max(1) as f64;
        (self.chosen * self.train as f64 + self.val_right as f64) / images
    }
}

/// The accuracy that a head may well have when it is fitted to all of `images` training images, by that of one that was
/// fitted to `looked` of them: the share of wrong answers falls with a power of their number. On the development tasks that
/// was 0.1 to 0.47. With a third, of 33 heads that came nearer to `full` than with 0.4, nine were not fitted, and eight of these
/// had counted nothing or a quarter at most.
pub fn at_best(accuracy: f64, looked: usize, images: usize) -> f64 {
    1. - (1. - accuracy) * (looked as f64 / images.max(1) as f64).powf(1. / 3.)
}

/// What a training is compared by, of its accuracies after each epoch: between the best, which is what is kept, and the mean of
/// the last quarter. The best of many flatters: on ten validation images it was up to 40 points above what test images then gave.
pub fn of_epochs(accuracies: &[f64]) -> f64 {
    let last = ((accuracies.len() as f64 * LAST).ceil() as usize).max(1);
    let last = &accuracies[accuracies.len().saturating_sub(last)..];
    let mean = last.iter().sum::<f64>() / last.len().max(1) as f64;
    (accuracies.iter().copied().fold(mean, f64::max) + mean) / 2.
}

/// An accuracy that a training has to come near, or it is given up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ToBeat {
    /// The other method's.
    pub accuracy: f64,
    /// How much data there is.
    pub size: DatasetSize,
}

/// What `full` has gained at most in the second half of its epochs, on the development tasks; the less of it is left, the less
/// it gains: 0.15 at most in the last 30 %, 0.08 in the last 20, 0.03 in the last 10.
const SECOND_HALF: f64 = 0.19;

impl ToBeat {
    /// Whether the training may be given up: it is past half of its epochs, and `best`, the best of its accuracies on `images`
    /// validation images, is too far behind. With little data that is where it would not count if it gained as much as any has in
    /// the epochs that are left;
    /// with lots, 25 points and two standard errors of the difference.
    pub fn is_hopeless(self, best: f64, images: usize, epoch: usize, epochs: usize) -> bool {
        let ToBeat { accuracy, size } = self;
        let behind = match size {
            DatasetSize::Little => {
                let left = 1. - epoch as f64 / epochs.max(1) as f64;
                share(best + 2. * left * SECOND_HALF - accuracy - even(images)) == 0.
            }
            _ => {
                let variance = (best * (1. - best) + accuracy * (1. - accuracy)) / images.max(1) as f64;
                accuracy - best > (2. * variance.sqrt()).max(0.25)
            }
        };
        2 * epoch >= epochs && epoch < epochs && behind
    }
}

/// What came of the two, as the report holds it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contest {
    /// Validation images.
    pub images: usize,
    /// The two, the one that is kept first; the other is not there where it was not trained.
    pub methods: Vec<Row>,
    /// The accuracies that they are compared by, in the same order: see [`of_epochs`] and [`Heads::right`].
    pub compared_by: Vec<f64>,
    /// What the answers of each count, in the same order: 1 for one that is kept alone.
    pub shares: Vec<f64>,
    /// The rival, fitted to a part of the training images, where it was looked at first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look: Option<Looked>,
}

/// One of the two, trained.
#[derive(Clone, Debug)]
pub struct Trained {
    /// What the model that it has come to does on each validation image.
    pub outcomes: Outcomes,
    /// What it is compared by.
    pub estimate: f64,
}

/// A look at a method on a part of the training images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Looked {
    /// The method.
    pub method: Method,
    /// Training images that it was fitted to.
    pub fitted_to: usize,
    /// Validation images that it was measured on.
    pub measured_on: usize,
    /// The share of these that it was right on.
    pub accuracy: f64,
    /// What that may become with all training images, by [`at_best`].
    pub at_best: f64,
}

impl Contest {
    /// One of the two alone.
    pub fn settled(kept: Trained) -> Self {
        let Trained { outcomes, estimate } = kept;
        Contest {
            images: outcomes.right.len(),
            methods: rows(&[outcomes]),
            compared_by: vec![estimate],
            shares: vec![1.],
            look: None,
        }
    }

    /// With the look that came first, if one did.
    pub fn after(self, look: Option<Looked>) -> Self {
        Contest { look, ..self }
    }

    /// Compares the table's choice with its rival, on the same images in the same order. The choice is kept unless the rival is
    /// clearly ahead; or both are, where neither is: `average`.
    pub fn of(choice: Trained, rival: Trained, size: DatasetSize, average: bool) -> Self {
        let images = choice.outcomes.right.len();
        let ahead = rival.estimate - choice.estimate;
        let share = match (size, average) {
            (DatasetSize::Little, true) => share(ahead - even(images)),
            (DatasetSize::Little, false) => f64::from(share(ahead - even(images)) > 0.5),
            (_, true) => share(ahead),
            (_, false) => {
                let (won, lost) = rival.outcomes.against(&choice.outcomes);
                let least = (STANDARD_ERRORS * ((won + lost) as f64).sqrt()).max(1.);
                // Means of shares are not whole numbers of images to the last digit.
                f64::from(ahead > least / images.max(1) as f64 - 1e-6)
            }
        };
        let (kept, other) = if share > 0.5 { (rival, choice) } else { (choice, rival) };
        let compared_by = vec![kept.estimate, other.estimate];
        let shares = vec![share.max(1. - share), share.min(1. - share)];
        Contest { images, methods: rows(&[kept.outcomes, other.outcomes]), compared_by, shares, look: None }
    }

    /// What the one that is not first counts, if it counts.
    pub fn beside(&self) -> Option<f64> {
        self.shares.get(1).copied().filter(|&share| share > 0.)
    }

    /// Why the one that is kept is kept. No seconds: two runs of the same recipe say the same.
    pub fn reason(&self, before: &str) -> String {
        let (kept, other) = match (&self.methods[..], self.look) {
            ([kept, other], _) => (kept, other),
            ([kept], Some(look)) => {
                let some = match look.measured_on == self.images {
                    true => String::new(),
                    false => format!("{} of them ", look.measured_on),
                };
                return format!(
                    "{before}; on {} validation images `{}` is right on {:.4}, and `{}`, fitted to {}, on {some}{:.4}: too few \
                     to be ahead with all images",
                    self.images, kept.method, kept.accuracy, look.method, look.fitted_to, look.accuracy
                );
            }
            _ => return before.to_string(),
        };
        let share = |place: usize, accuracy: f64| match self.compared_by.get(place) {
            Some(estimate) if (estimate - accuracy).abs() > 5e-5 => {
                format!("{accuracy:.4} (compared by {estimate:.4})")
            }
            _ => format!("{accuracy:.4}"),
        };
        let both = match (self.beside(), &self.shares[..]) {
            (Some(_), &[first, second]) => {
                format!(": both are kept and averaged, and count {first:.2} and {second:.2}")
            }
            _ => String::new(),
        };
        format!(
            "{before}; on {} validation images `{}` is right on {}, `{}` on {}{both}",
            self.images,
            kept.method,
            share(0, kept.accuracy),
            other.method,
            share(1, other.accuracy)
        )
    }
}

/// How far fine-tuning has to be ahead of the heads on so many validation images, with little data, to count as much.
fn even(images: usize) -> f64 {
    EVEN / (images.max(1) as f64).sqrt()
}

/// What a method counts that is `ahead` of the other one by so much more than it has to be.
fn share(ahead: f64) -> f64 {
    match (0.5 + ahead / (2. * SPREAD)).clamp(0., 1.) {
        ..LEAST_SHARE => 0.,
        share if share > 1. - LEAST_SHARE => 1.,
        share => share,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that is right on some of ten images, and is compared by that.
    fn trained(method: Method, right: [bool; 10]) -> Trained {
        let estimate = right.iter().filter(|right| **right).count() as f64 / 10.;
        Trained { outcomes: Outcomes { method, right: right.to_vec(), seconds: 0. }, estimate }
    }

    /// A contest on ten images of which the choice alone gets `lost` right, the rival alone `won`.
    fn contest(won: usize, lost: usize) -> Contest {
        let rival = trained(Method::Stages, std::array::from_fn(|i| i < won));
        let choice = trained(Method::Full, std::array::from_fn(|i| i >= 10 - lost));
        Contest::of(choice, rival, DatasetSize::Lots, false)
    }

    #[test]
    fn the_choice_is_kept_unless_the_rival_is_ahead() {
        let kept = |won, lost| contest(won, lost).methods[0].method;
        assert_eq!(kept(0, 0), Method::Full);
        assert_eq!(kept(1, 1), Method::Full);
        assert_eq!(kept(2, 1), Method::Stages);
        assert_eq!(kept(1, 0), Method::Stages);
        // One image, and half of √7.
        assert_eq!(kept(4, 3), Method::Full);
        assert_eq!(kept(0, 3), Method::Full);
    }

    #[test]
    fn the_best_of_many_epochs_counts_half() {
        assert!((of_epochs(&[0.9, 0.1, 0.2, 0.1, 0.1, 0.3, 0.4, 0.6]) - 0.7).abs() < 1e-9);
        assert_eq!(of_epochs(&[0.7]), 0.7);
        let lucky = |estimate| Trained { estimate, ..trained(Method::Full, [true; 10]) };
        let stages = || trained(Method::Stages, std::array::from_fn(|i| i < 4));
        let contest = |estimate| Contest::of(stages(), lucky(estimate), DatasetSize::Little, false);
        assert_eq!(contest(0.63).methods[0].method, Method::Stages);
        assert_eq!(contest(0.64).methods[0].method, Method::Full);
        assert_eq!(contest(0.64).shares, [1., 0.]);
        assert_eq!(
            contest(0.3).reason("different"),
            "different; on 10 validation images `stages` is right on 0.4000, `full` on 1.0000 (compared by 0.3000)"
        );
    }

    #[test]
    fn heads_settle_what_is_told_already() {
        let heads = |size, by_stage, chosen, val_right| Heads {
            size,
            by_stage,
            chosen,
            train: 80,
            part: false,
            val: 20,
            val_right,
        };
        let (little, lots) = (DatasetSize::Little, DatasetSize::Lots);
        assert_eq!(heads(lots, &[0.9, 1.], 1., 19).settled(), Some(Settled::NothingToGain));
        assert_eq!(heads(lots, &[0.9, 1.], 1., 18).settled(), None);
        // On 20 validation images 22 points cannot be told, on 400 it is 10.
        assert_eq!(heads(little, &[0.8, 0.8], 0.8, 14).settled(), Some(Settled::TooFewToTell));
        assert_eq!(Heads { val: 1, ..heads(little, &[0.5, 0.5], 0.5, 1) }.settled(), None);
        assert_eq!(heads(little, &[0.8, 0.8], 0.8, 13).settled(), None);
        let many = |val_right| Heads { val: 400, ..heads(little, &[0.9, 0.9], 0.9, val_right) };
        assert_eq!(many(360).settled(), Some(Settled::NothingToGain));
        assert_eq!(many(359).settled(), None);
        assert_eq!(heads(little, &[0.4, 0.62, 0.5, 0.5], 0.62, 10).settled(), Some(Settled::Early));
        assert_eq!(heads(little, &[0.4, 0.59, 0.5, 0.5], 0.59, 10).settled(), None);
        let part = Heads { part: true, ..heads(little, &[0.4, 0.62, 0.5, 0.5], 0.62, 10) };
        assert_eq!(part.settled(), None, "a few images tell too little of the stages");
        assert_eq!(heads(lots, &[0.4, 0.62, 0.5, 0.5], 0.62, 10).settled(), None);
    }

    #[test]
    fn only_what_is_far_behind_is_given_up() {
        let lots = ToBeat { accuracy: 0.66, size: DatasetSize::Lots };
        assert!(lots.is_hopeless(0.4, 160, 5, 10));
        assert!(!lots.is_hopeless(0.4, 160, 4, 10));
        assert!(!lots.is_hopeless(0.4, 20, 5, 10));
        assert!(!lots.is_hopeless(0.42, 10_000, 9, 10));
        // There is nothing left to give up.
        assert!(!lots.is_hopeless(0.4, 160, 10, 10));
        // With 19 points more it would be 5.5 behind on 100 images, and count 0.24.
        let little = ToBeat { size: DatasetSize::Little, ..lots };
        assert!(!little.is_hopeless(0.41, 100, 5, 10));
        assert!(little.is_hopeless(0.36, 100, 5, 10));
        assert!(!little.is_hopeless(0.36, 100, 4, 10));
        // The less is left, the less it may gain.
        assert!(little.is_hopeless(0.41, 100, 7, 10));
        assert!(!little.is_hopeless(0.57, 100, 9, 10));
        // On ten images it has to be ahead by 6 to count.
        assert!(little.is_hopeless(0.52, 10, 5, 10));
    }

    #[test]
    fn a_look_tells_what_may_come_of_a_head() {
        assert_eq!(at_best(0.6, 100, 100), 0.6);
        assert!((at_best(0.6, 100, 800) - 0.8).abs() < 1e-9);
        assert_eq!(at_best(1., 100, 400), 1.);
        let kept = trained(Method::Full, std::array::from_fn(|i| i > 2));
        let look =
            Looked { method: Method::Stages, fitted_to: 40, measured_on: 10, accuracy: 0.25, at_best: 0.5 };
        let contest = Contest::settled(kept).after(Some(look));
        assert_eq!((contest.images, contest.methods.len()), (10, 1));
        assert_eq!(
            contest.reason("different"),
            "different; on 10 validation images `full` is right on 0.7000, and `stages`, fitted to 40, on 0.2500: too few to \
             be ahead with all images"
        );
    }

    #[test]
    fn with_little_data_both_count_where_neither_is_clearly_ahead() {
        assert!((even(100) - 0.075).abs() < 1e-9 && even(0) == 0.75);
        assert!((share(0.) - 0.5).abs() < 1e-9);
        assert!((share(0.125) - 0.75).abs() < 1e-9 && (share(-0.125) - 0.25).abs() < 1e-9);
        assert_eq!([share(-0.2), share(0.2)], [0., 1.]);
        let of = |estimate, size, average| {
            let full = Trained { estimate, ..trained(Method::Full, [true; 10]) };
            Contest::of(trained(Method::Stages, std::array::from_fn(|i| i < 4)), full, size, average)
        };
        let both = of(0.7, DatasetSize::Little, true);
        assert_eq!((both.methods[0].method, both.beside().is_some()), (Method::Full, true));
        assert!((both.shares[0] - 0.6256).abs() < 1e-3 && both.shares.iter().sum::<f64>() == 1.);
        assert!(both.reason("few").ends_with(": both are kept and averaged, and count 0.63 and 0.37"));
        assert_eq!(of(0.7, DatasetSize::Little, false).beside(), None);
        // With lots of images nobody has to be ahead.
        let lots = of(0.5, DatasetSize::Lots, true);
        assert!((lots.shares[0] - 0.7).abs() < 1e-9 && lots.methods[0].method == Method::Full);
        assert_eq!(of(0.7, DatasetSize::Lots, true).shares, [1., 0.]);
        assert_eq!(of(0.5, DatasetSize::Lots, false).beside(), None);
    }

    #[test]
    fn the_reason_names_both() {
        assert_eq!(
            contest(3, 1).reason("different"),
            "different; on 10 validation images `stages` is right on 0.3000, `full` on 0.1000"
        );
    }
}
