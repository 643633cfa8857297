//! 95 % intervals of a share and of the difference of two shares on the same images.

use serde::Serialize;

use crate::chance::{self, Z};

/// From where to where a number may lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies in it, the ends included.
    pub fn holds(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// The share `right / images`, by [`chance::Interval::wilson`].
pub fn share(right: usize, images: usize) -> Interval {
    let chance::Interval(low, high) = chance::Interval::wilson(right as u64, images as u64);
    Interval { low, high }
}

/// The difference of two shares on the same `images`, `won` of which only the first got right, and `lost` only the
/// second: Bonett and Price's adjusted Wald interval (Journal of Educational and Behavioral Statistics 37, 2012), which
/// Fagerland, Lydersen and Laake recommend (Statistics in Medicine 33, 2014) because it holds its 95 % with few images,
/// and is not a point where the two never differ.
pub fn difference(won: usize, lost: usize, images: usize) -> Interval {
    let n = images as f64 + 2.;
    let (won, lost) = ((won as f64 + 1.) / n, (lost as f64 + 1.) / n);
    let centre = won - lost;
    let half = Z * ((won + lost - centre * centre) / n).sqrt();
    Interval { low: (centre - half).max(-1.), high: (centre + half).min(1.) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Interval, low: f64, high: f64) {
        assert!((found.low - low).abs() < 5e-5 && (found.high - high).abs() < 5e-5, "{found:?}");
    }

    /// SciPy: `binomtest(right, images).proportion_ci(method="wilson")`.
    #[test]
    fn shares_have_wilsons_interval() {
        near(share(81, 263), 0.25527, 0.36618);
        near(share(0, 10), 0., 0.27753);
        near(share(10, 10), 0.72247, 1.);
    }

    /// Worked by hand from the formula, and symmetric.
    #[test]
    fn differences_are_of_pairs() {
        near(difference(0, 0, 98), -0.02772, 0.02772);
        let (plus, minus) = (difference(9, 2, 40), difference(2, 9, 40));
        near(plus, 0.00614, 0.32720);
        assert!((plus.low + minus.high).abs() < 1e-12 && (plus.high + minus.low).abs() < 1e-12);
        // On nine images in ten both agree: more images of the same kind tell them apart.
        assert!(difference(6, 2, 80).holds(0.) && !difference(60, 20, 800).holds(0.));
    }
}
