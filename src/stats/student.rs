//! Student's t distribution, with whole degrees of freedom.

use std::f64::consts::PI;

/// The probability of a value of at most `t`, with `freedom` degrees of freedom (at least 1): the
/// finite series 26.7.3 and 26.7.4 of Abramowitz and Stegun, "Handbook of Mathematical Functions".
pub fn cumulative(t: f64, freedom: u64) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, square) = (angle.sin(), angle.cos() * angle.cos());
    // Terms of cos^k: k = 1, 3, … where the freedom is odd, and 0, 2, … where it is even.
    let odd = freedom % 2;
    let (mut term, mut sum, mut power) = (if odd == 1 { angle.cos() } else { 1. }, 0., odd);
    while power + 1 < freedom {
        sum += term;
        term *= square * (power + 1) as f64 / (power + 2) as f64;
        power += 2;
    }
    let within = if odd == 1 { 2. / PI * (angle + sine * sum) } else { sine * sum };
    ((1. + within) / 2.).clamp(0., 1.)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scipy 1.17: `scipy.stats.t.cdf(t, df)`.
    const SCIPY: [(u64, f64, f64); 8] = [
        (1, 6.3, 0.9498926531589906),
        (1, -2., 0.14758361765043326),
        (2, 1., 0.7886751345948129),
        (3, 2.5, 0.9561466764959672),
        (10, -0.7, 0.2499437850864422),
        (99, 1.66, 0.9499605662039354),
        (1999, 1.645, 0.9499364831133316),
        (40, 9., 0.9999999999815992),
    ];

    #[test]
    fn probabilities_are_those_of_scipy() {
        for (freedom, t, expected) in SCIPY {
            let found = cumulative(t, freedom);
            assert!((found - expected).abs() < 1e-12, "{freedom} {t}: {found} {expected}");
        }
        assert_eq!((cumulative(1e300, 3), cumulative(-1e300, 4)), (1., 0.));
        assert!(cumulative(f64::NAN, 3).is_nan());
    }
}
