//! The cost of a fit, and its limits.

use tch::Tensor;

use super::cross_validation::ROUGH;
use super::solve::Settings;
use super::{TIGHT, UNKNOWN_C};

/// Weights of all folds together at most: the search keeps a dozen vectors of that length, 1.5 GB.
const FOLD_WEIGHTS: f64 = 16e6;
/// Multiplications of a cross-validation at most: hours on a machine of today.
const VALIDATION: f64 = 5e14;
/// Approximate evaluations in a cross-validation of one fold: 21 values of C, each from the
/// previous solution.
const EVALUATIONS: f64 = 21. * 20.;
/// Multiplications of the last fit at most: minutes.
const FIT: f64 = 5e12;
/// Evaluations or products that a fit to the tight tolerance usually takes at most.
const STEPS: f64 = 200.;
/// Fewer steps than this are of little use. From zero the first one already goes to the classes'
/// means, in units of the features' spread.
const LEAST_STEPS: f64 = 20.;

/// The size of a problem.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    images: usize,
    columns: usize,
    classes: usize,
}

impl Size {
    /// The size of a fit on images `[N, M]` in `classes` classes.
    pub(super) fn of(x: &Tensor, classes: usize) -> Size {
        let side = |index: usize| x.size().get(index).map_or(0, |&side| side as usize);
        Size { images: side(0), columns: side(1), classes }
    }

    /// Multiplications in an evaluation of value and gradient.
    fn evaluation(self) -> f64 {
        2. * self.images as f64 * self.columns as f64 * self.classes as f64
    }

    /// Whether this many folds would take too much memory or time.
    pub(super) fn too_large_to_validate(self, folds: usize) -> bool {
        let (folds, weights) = (folds as f64, self.columns as f64 * self.classes as f64);
        folds * weights > FOLD_WEIGHTS || folds * EVALUATIONS * self.evaluation() > VALIDATION
    }

    /// Stopping criteria of the last fit: the tight tolerance, unless that would take hours.
    pub(super) fn settings(self) -> Settings {
        let steps = FIT / self.evaluation().max(1.);
        match steps < STEPS {
            true => Settings { max_products: steps.max(LEAST_STEPS) as usize, ..ROUGH },
            false => TIGHT,
        }
    }

    /// A note for the user on a problem that was not cross-validated.
    pub(super) fn note(self, c: Option<f64>) -> String {
        let Size { images, columns, classes } = self;
        let chosen = match c {
            Some(_) => "cannot be compared with others".to_string(),
            None => format!("is fitted with C = {UNKNOWN_C}; `train: {{ c: .. }}` sets another"),
        };
        format!(
            "a linear head on {columns} features for {classes} classes and {images} images is too large a problem to \
             be cross-validated: it {chosen}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_problems_are_cut_short() {
        let size = |images, columns, classes| Size { images, columns, classes };
        for usual in [size(100, 100, 10), size(5000, 2048, 100), size(10_000, 1024, 200)] {
            assert!(!usual.too_large_to_validate(5));
            assert_eq!(usual.settings(), TIGHT);
        }
        for large in [size(10_000, 1024, 10_000), size(30_000, 1024, 10_000), size(1_280_000, 2048, 1000)] {
            assert!(large.too_large_to_validate(2));
            let settings = large.settings();
            assert!((10..100).contains(&settings.max_products), "{settings:?}");
        }
    }
}
