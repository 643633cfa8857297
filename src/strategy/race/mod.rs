//! `race`: several methods measured against each other on images that they have not seen, instead of the table.
//!
//! The training images are cut into folds. Each method learns from all folds but one, in the same few epochs, and is
//! measured on that one, so that each image has one answer of each method and the methods can be compared image by
//! image: of two classifiers that are right on nine images in ten, the images on which they differ tell which is
//! better, and they are few. Validation and test images have no part in it.
//!
//! The intervals speak of other images, not of other training sets: the folds' training sets overlap, and no
//! unbiased estimate of that variance exists (Bengio and Grandvalet, JMLR 5, 2004). Dietterich (Neural Computation
//! 10, 1998) compares tests for it. So a difference whose interval excludes 0 by a hair is no proof, and one whose
//! interval includes 0 is none of equality.

mod interval;

use serde::Serialize;

pub use interval::{Interval, difference, share};

use crate::dataset::Sample;
use crate::linear;
use crate::models::seed_of;
use crate::recipe::Method;

/// Which fold holds out each image, from 0; none for an image that is alone in its class, from which all learn. Equal
/// numbers to one image, in each class too. Also how many folds there are: no more than the largest class has images.
/// `None` where no class has two images, so that nothing can be held out.
pub fn folds(
    samples: &[Sample],
    classes: usize,
    folds: usize,
    seed: u64,
) -> Option<(Vec<Option<usize>>, usize)> {
    let labels: Vec<i64> = samples.iter().map(|sample| sample.label as i64).collect();
    let mut counts = vec![0; classes];
    samples.iter().for_each(|sample| counts[sample.label] += 1);
    let folds = usable(&counts, folds)?;
    Some((linear::deal(&labels, classes, folds, seed_of(seed, "race") as u64), folds))
}

/// How many folds a training set with these numbers of images a class can be cut into, `wanted` at most.
pub fn usable(counts: &[usize], wanted: usize) -> Option<usize> {
    let most = counts.iter().copied().max().unwrap_or(0);
    (most > 1).then_some(wanted.min(most))
}

/// What each method did on each held-out image.
#[derive(Clone, Debug)]
pub struct Outcomes {
    /// The method.
    pub method: Method,
    /// Whether it was right, image by image; in the same order for all methods.
    pub right: Vec<bool>,
    /// Seconds of all its training and measuring.
    pub seconds: f64,
}

impl Outcomes {
    /// On how many images it was right.
    pub(super) fn right(&self) -> usize {
        self.right.iter().filter(|right| **right).count()
    }

    /// On how many images it was right and `other` was not, and the reverse.
    pub(super) fn against(&self, other: &Outcomes) -> (usize, usize) {
        let pairs = || self.right.iter().zip(&other.right);
        (pairs().filter(|(s, o)| **s && !**o).count(), pairs().filter(|(s, o)| !**s && **o).count())
    }
}

/// What a race has found, as the report holds it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Race {
    /// Into how many parts the training images were cut.
    pub folds: usize,
    /// Passes of the methods with a training loop.
    pub epochs: usize,
    /// Images that were held out, each once.
    pub images: usize,
    /// The methods, the best first; the first one is the winner.
    pub methods: Vec<Row>,
}

/// A method in a race.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The method.
    pub method: Method,
    /// The share of held-out images that it was right on.
    pub accuracy: f64,
    /// Where that share may lie for other images, at 95 %.
    pub interval: Interval,
    /// Its accuracy less the winner's; absent for the winner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// Seconds of all its training and measuring.
    pub seconds: f64,
}

/// A difference of accuracies on the same images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The mean over the images.
    pub mean: f64,
    /// Where it may lie for other images, at 95 %.
    #[serde(flatten)]
    pub interval: Interval,
}

/// A row for each, all compared with the first one.
pub(super) fn rows(outcomes: &[Outcomes]) -> Vec<Row> {
    let row = |(place, of): (usize, &Outcomes)| {
        let (images, right) = (of.right.len(), of.right());
        let (won, lost) = of.against(&outcomes[0]);
        Row {
            method: of.method,
            accuracy: right as f64 / images.max(1) as f64,
            interval: share(right, images),
            difference: (place > 0).then(|| Difference {
                mean: (won as f64 - lost as f64) / images.max(1) as f64,
                interval: difference(won, lost, images),
            }),
            seconds: of.seconds,
        }
    };
    outcomes.iter().enumerate().map(row).collect()
}

impl Race {
    /// Compares methods, given in the order of their cost: the more accurate wins, of two that are right on as many
    /// images the cheaper one.
    pub fn of(mut outcomes: Vec<Outcomes>, folds: usize, epochs: usize) -> Self {
        // Stable, so that the cheaper of two equals stays before the other.
        outcomes.sort_by_key(|outcomes| std::cmp::Reverse(outcomes.right()));
        let images = outcomes.first().map_or(0, |winner| winner.right.len());
        Race { folds, epochs, images, methods: rows(&outcomes) }
    }

    /// The best method.
    pub fn winner(&self) -> Option<&Row> {
        self.methods.first()
    }

    /// Why the winner, for the report's `reason`. No seconds: two runs of the same recipe say the same.
    pub fn reason(&self) -> String {
        let Some((winner, others)) = self.methods.split_first() else { return String::new() };
        let what = format!("won the race on {} held-out images: {:.4}", self.images, winner.accuracy);
        let others: Vec<String> = others.iter().map(Row::line).collect();
        format!("{what}; {}", others.join("; "))
    }

    /// A sentence on the methods that the race cannot tell from the winner, if there are any.
    pub fn note(&self) -> Option<String> {
        let winner = self.winner()?;
        let alike: Vec<&Row> = self.methods[1..].iter().filter(|row| row.is_alike()).collect();
        let name = |row: &&Row| match row.method.cost() < winner.method.cost() {
            true => format!("{}, which is cheaper", row.method),
            false => row.method.to_string(),
        };
        let names: Vec<String> = alike.iter().map(name).collect();
        (!alike.is_empty()).then(|| {
            format!(
                "the race cannot tell {} from {}: on other images the order may be another",
                winner.method,
                names.join("; ")
            )
        })
    }
}

impl Row {
    /// Whether it may be as good as the winner.
    pub fn is_alike(&self) -> bool {
        self.difference.is_some_and(|difference| difference.interval.holds(0.))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(counts: &[usize]) -> Vec<Sample> {
        let class = |(label, &count): (usize, &usize)| {
            let sample =
                move |i| Sample { path: "".into(), name: format!("{label}/{i}"), label, record: None };
            (0..count).map(sample).collect::<Vec<_>>()
        };
        counts.iter().enumerate().flat_map(class).collect()
    }

    #[test]
    fn folds_are_stratified_and_seeded_and_each_class_is_always_learnt() {
        let samples = samples(&[9, 2, 1, 30]);
        let (of, count) = folds(&samples, 4, 3, 5).unwrap();
        assert_eq!(count, 3);
        assert_eq!(folds(&samples, 4, 3, 5).unwrap().0, of);
        assert_ne!(folds(&samples, 4, 3, 6).unwrap().0, of);
        // The image that is alone in its class is learnt from, and never held out.
        assert_eq!(of[11], None);
        for fold in 0..3 {
            let held_out = |label| {
                samples.iter().zip(&of).filter(|(s, f)| s.label == label && **f == Some(fold)).count()
            };
            assert_eq!((held_out(0), held_out(3)), (3, 10));
            for label in 0..4 {
                assert!(held_out(label) < samples.iter().filter(|s| s.label == label).count());
            }
        }
        assert_eq!(folds(&self::samples(&[2, 2]), 2, 3, 0).unwrap().1, 2);
        assert!(folds(&self::samples(&[1, 1, 1]), 3, 3, 0).is_none());
    }

    fn outcomes(method: Method, right: &str) -> Outcomes {
        Outcomes { method, right: right.chars().map(|c| c == '1').collect(), seconds: 1. }
    }

    #[test]
    fn the_most_accurate_wins_and_of_equals_the_cheaper() {
        let race = |rows: &[(Method, &str)]| {
            Race::of(rows.iter().map(|(method, right)| outcomes(*method, right)).collect(), 3, 5)
        };
        let found = race(&[(Method::Linear, "1100"), (Method::Partial, "1110"), (Method::Full, "0111")]);
        let order: Vec<Method> = found.methods.iter().map(|row| row.method).collect();
        assert_eq!(order, [Method::Partial, Method::Full, Method::Linear]);
        assert_eq!(found.images, 4);
        assert_eq!(found.methods[0].difference, None);
        assert_eq!(found.methods[2].difference.unwrap().mean, -0.25);
        assert!(found.methods[2].is_alike());
        assert_eq!(
            found.note().unwrap(),
            "the race cannot tell partial from full; linear, which is cheaper: on other images the order may be another"
        );
        let (all, none) = ("1".repeat(60), "0".repeat(60));
        let found = race(&[(Method::Linear, &none), (Method::Full, &all)]);
        assert_eq!(found.winner().unwrap().method, Method::Full);
        assert!(!found.methods[1].is_alike() && found.note().is_none());
        assert!(found.reason().starts_with("won the race on 60 held-out images: 1.0000; linear -1.0000 ("));
    }
}
