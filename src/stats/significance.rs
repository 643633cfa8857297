//! The significance of an accuracy on a number of images: its confidence interval, and whether
//! guessing would do as well.

use serde::Serialize;

use crate::stats::metrics::Confusion;
use crate::text::words::shown;

/// The 97.5 % quantile of the normal distribution: 95 % lie between it and its negative.
pub const Z: f64 = 1.959_963_984_540_054;

/// The probability above which luck explains an accuracy.
const LEVEL: f64 = 0.05;

/// Confidence interval of an accuracy, in [0, 1]. In JSON `[low, high]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval(pub f64, pub f64);

impl Interval {
    /// Wilson's 95 % interval of a share of `right` among `total` (E. B. Wilson, JASA 1927). Unlike
    /// the share plus and minus two standard errors it keeps its coverage for few images and for
    /// shares near 0 and 1 (Brown, Cai, DasGupta, Statistical Science 2001). All of [0, 1] without
    /// images.
    pub fn wilson(right: u64, total: u64) -> Interval {
        if total == 0 {
            return Interval(0., 1.);
        }
        let (n, share) = (total as f64, right as f64 / total as f64);
        let grown = 1. + Z * Z / n;
        let centre = (share + Z * Z / (2. * n)) / grown;
        let half = Z / grown * (share * (1. - share) / n + Z * Z / (4. * n * n)).sqrt();
        // Exact at the ends, where rounding would leave about 1e-17.
        let low = if right == 0 { 0. } else { (centre - half).max(0.) };
        let high = if right == total { 1. } else { (centre + half).min(1.) };
        Interval(low, high)
    }

    /// 95 % interval of an F1 of a class with `images` images and as many `answers`, `right` of them
    /// both. F1 is `2J / (1 + J)` of the share `J` of `right` among what is either, and so are the
    /// ends of its interval: those of Wilson's for J (the indirect Wilson interval of Lam, Gopal and
    /// Qian, arXiv 2309.14621, which keeps its coverage for few images).
    pub fn f1(right: u64, images: u64, answers: u64) -> Interval {
        let Interval(low, high) = Interval::wilson(right, images + answers - right);
        let f1 = |share: f64| 2. * share / (1. + share);
        Interval(f1(low), f1(high))
    }

    /// Interval of the difference of two accuracies on the same `images`; `won` are right only by
    /// the first, `lost` only by the second. Bonett and Price's adjusted Wald interval (Journal of
    /// Educational and Behavioral Statistics 37, 2012), which Fagerland, Lydersen and Laake
    /// recommend (Statistics in Medicine 33, 2014): it keeps its 95 % with few images, and is not a
    /// point where the two never differ.
    pub fn of_difference(won: usize, lost: usize, images: usize) -> Self {
        let n = images as f64 + 2.;
        let (won, lost) = ((won as f64 + 1.) / n, (lost as f64 + 1.) / n);
        let centre = won - lost;
        let half = Z * ((won + lost - centre * centre) / n).sqrt();
        Interval((centre - half).max(-1.), (centre + half).min(1.))
    }
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} to {:.2}", self.0, self.1)
    }
}

/// The probability of `right` or more right answers among `total`, each right with probability
/// `share`: the one-sided exact binomial test.
pub fn at_least(right: u64, total: u64, share: f64) -> f64 {
    if right == 0 || share >= 1. {
        return 1.;
    }
    if share <= 0. || right > total {
        return 0.;
    }
    let (yes, no) = (share.ln(), (-share).ln_1p());
    // ln of the binomial coefficient, one factor at a time. Summing the smaller tail would be
    // faster, but a million images take only milliseconds.
    let mut term = total as f64 * no;
    let mut sum = 0.;
    for k in 0..=total {
        if k >= right {
            sum += term.exp();
        }
        term += ((total - k) as f64).ln() - ((k + 1) as f64).ln() + yes - no;
    }
    sum.min(1.)
}

/// McNemar's exact test of two models on the same images, `won` right only by the first and `lost`
/// only by the second: the two-sided probability of a difference at least as great if both are
/// equally good (Q. McNemar, Psychometrika 12, 1947; the exact binomial form). 1 if they never
/// differ.
pub fn mcnemar(won: u64, lost: u64) -> f64 {
    (2. * at_least(won.max(lost), won + lost, 0.5)).min(1.)
}

/// A note on a validation accuracy that guessing reaches too; the best guess is always the most
/// frequent class.
pub fn note(confusion: &Confusion, classes: &[String]) -> Option<String> {
    note_on("validation ", confusion, classes)
}

/// As [`note`], on the images of a `part`, a word and a blank.
pub fn note_on(part: &str, confusion: &Confusion, classes: &[String]) -> Option<String> {
    let (right, total) = (confusion.right(), confusion.total());
    let (most, count) = confusion.most_frequent()?;
    let class = shown(classes.get(most)?);
    let (accuracy, share) = (right as f64 / total as f64, count as f64 / total as f64);
    let p = at_least(right, total, share);
    if p <= LEVEL {
        return None;
    }
    let images = crate::text::words::counted(total as usize, "image", "images");
    if count == total {
        return Some(format!(
            "all {part}images ({images}) are of one class, `{class}`: their accuracy says nothing about the \
             other classes"
        ));
    }
    let guess = format!("always answering `{class}`, the most frequent class, gives {share:.4}");
    Some(if at_least(total, total, share) > LEVEL {
        format!(
            "the {part}accuracy {accuracy:.4} on {images} cannot be told from guessing ({guess}): with so few \
             images even all right could be luck. Set more images aside to measure on"
        )
    } else if right <= count {
        format!(
            "the {part}accuracy {accuracy:.4} on {images} is no better than guessing ({guess}): the model has \
             learnt nothing that helps. Are the labels right, and are there enough images of each class?"
        )
    } else {
        format!(
            "the {part}accuracy {accuracy:.4} on {images} is no better than guessing ({guess}, and luck gives \
             the rest with a probability of {p:.2}). Are the labels right, and are there enough images of each class?"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WILSON: [(u64, u64, f64, f64); 7] = [
        (38, 40, 0.8349612263085903, 0.9861793326138516),
        (40, 40, 0.9123783988027133, 1.0),
        (0, 40, 0.0, 0.08762160119728662),
        (1, 2, 0.09453120573423074, 0.9054687942657693),
        (1, 1, 0.20654931437723745, 1.0),
        (393, 402, 0.9580045397626349, 0.9881777480594085),
        (99990, 100000, 0.999815915304549, 0.9999456792654903),
    ];

    const BINOMIAL: [(u64, u64, f64, f64); 8] = [
        (5, 40, 0.1, 0.3709823034657993),
        (8, 40, 0.1, 0.041901942673363744),
        (40, 40, 0.1, 1.0000000000000022e-40),
        (1, 1, 0.5, 0.5),
        (25, 40, 0.5, 0.07692997208141605),
        (27, 40, 0.5, 0.01923865414210013),
        (130, 1000, 0.1, 0.0013413983708734428),
        (10250, 100000, 0.1, 0.004374087464935024),
    ];

    /// scipy 1.17: `binomtest(right, total).proportion_ci(method="wilson")`.
    #[test]
    fn intervals_are_those_of_scipy() {
        for (right, total, low, high) in WILSON {
            let Interval(a, b) = Interval::wilson(right, total);
            assert!((a - low).abs() < 1e-12 && (b - high).abs() < 1e-12, "{right} of {total}: {a} {b}");
        }
        assert_eq!(Interval::wilson(0, 0), Interval(0., 1.));
        assert_eq!(Interval::wilson(38, 40).to_string(), "0.83 to 0.99");
    }

    /// scipy 1.17: `binomtest(right, total, share, alternative="greater").pvalue`.
    #[test]
    fn probabilities_are_those_of_scipy() {
        for (right, total, share, p) in BINOMIAL {
            let found = at_least(right, total, share);
            assert!((found - p).abs() <= 1e-9 * p, "{right} of {total} at {share}: {found} {p}");
        }
        assert_eq!((at_least(0, 5, 0.), at_least(1, 5, 0.), at_least(5, 5, 1.)), (1., 0., 1.));
    }

    /// scipy 1.17: `binomtest(won, won + lost).pvalue`.
    #[test]
    fn two_models_are_compared_by_the_images_on_which_they_differ() {
        let cases = [
            (3, 1, 0.625),
            (9, 2, 0.0654296875),
            (2, 9, 0.0654296875),
            (60, 20, 8.580559867049611e-06),
            (1400, 1500, 0.06598734966518463),
            (0, 0, 1.),
            (5, 5, 1.),
        ];
        for (won, lost, p) in cases {
            let found = mcnemar(won, lost);
            assert!((found - p).abs() <= 1e-9 * p, "{won} and {lost}: {found} {p}");
        }
    }

    /// scipy's Wilson interval of right among what is either, `2 J / (1 + J)` of its ends.
    #[test]
    fn intervals_of_f1_are_those_of_a_share() {
        let cases = [
            ((3, 4, 4), [0.3749406504547036, 0.937514836212294]),
            ((0, 3, 0), [0., 0.719177840669925]),
            ((40, 40, 40), [0.9541818704644728, 1.]),
            ((1, 3, 1), [0.11585946558754834, 0.8841405344124517]),
        ];
        for ((right, images, answers), [low, high]) in cases {
            let Interval(a, b) = Interval::f1(right, images, answers);
            assert!((a - low).abs() < 1e-12 && (b - high).abs() < 1e-12, "{right}: {a} {b}");
        }
        assert_eq!(Interval::f1(0, 0, 0), Interval(0., 1.));
    }

    fn said(rows: &[(usize, usize, u64)]) -> Option<String> {
        let mut confusion = Confusion::new(3);
        for &(truth, prediction, times) in rows {
            (0..times).for_each(|_| confusion.add(truth, prediction));
        }
        note(&confusion, &["a".into(), "b".into(), "c".into()])
    }

    #[test]
    fn guessing_is_called_guessing() {
        assert_eq!(said(&[(0, 0, 18), (1, 1, 19), (1, 0, 3)]), None);
        assert_eq!(said(&[]), None);
        let starts = |rows: &[_], start: &str| {
            let said = said(rows).unwrap_or_default();
            assert!(said.starts_with(start), "{said}");
        };
        starts(
            &[(0, 0, 20), (1, 0, 20)],
            "the validation accuracy 0.5000 on 40 images is no better than guessing (always answering `a`, the \
             most frequent class, gives 0.5000): the model",
        );
        // 25 of 40 at one half: 0.0769.
        starts(
            &[(0, 0, 20), (1, 1, 5), (1, 0, 15)],
            "the validation accuracy 0.6250 on 40 images is no better than guessing (always answering `a`, the \
             most frequent class, gives 0.5000, and luck gives the rest with a probability of 0.08)",
        );
        // 27 of 40: 0.0192.
        assert_eq!(said(&[(0, 0, 20), (1, 1, 7), (1, 0, 13)]), None);
        starts(
            &[(0, 0, 1), (1, 1, 1)],
            "the validation accuracy 1.0000 on 2 images cannot be told from guessing",
        );
        starts(&[(2, 2, 9)], "all validation images (9 images) are of one class, `c`");
    }

    fn near(Interval(low, high): Interval, expected: [f64; 2]) {
        assert!((low - expected[0]).abs() < 5e-5 && (high - expected[1]).abs() < 5e-5, "{low} {high}");
    }

    /// Worked by hand from the formula, and symmetric.
    #[test]
    fn differences_are_of_pairs() {
        near(Interval::of_difference(0, 0, 98), [-0.02772, 0.02772]);
        near(Interval::of_difference(9, 2, 40), [0.00614, 0.32720]);
        near(Interval::of_difference(2, 9, 40), [-0.32720, -0.00614]);
        // On nine images in ten both agree: more such images tell them apart.
        let holds_zero = |Interval(low, high)| low <= 0. && 0. <= high;
        assert!(holds_zero(Interval::of_difference(6, 2, 80)));
        assert!(!holds_zero(Interval::of_difference(60, 20, 800)));
    }
}
