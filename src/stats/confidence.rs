//! Whether confidences hold: a reliability diagram, and accuracy against the share answered.

use serde::Serialize;

use super::scores::Answer;

/// Bins of the reliability diagram, of equal width.
pub const BINS: usize = 15;
/// Points of the curve of accuracy against the share answered, at most.
const POINTS: usize = 200;

/// Images whose confidence is above `low` and at most `high`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Lower end, not included.
    pub low: f64,
    /// Upper end, included.
    pub high: f64,
    /// Number of images.
    pub images: u64,
    /// Their mean confidence; null without images.
    pub confidence: Option<f64>,
    /// The share of right answers; null without images.
    pub accuracy: Option<f64>,
}

/// The answers in [`BINS`] bins by their confidence.
pub fn reliability(answers: &[Answer]) -> Vec<Bin> {
    let mut sums = [(0_u64, 0., 0_u64); BINS];
    for answer in answers {
        let confidence = f64::from(answer.confidence);
        // Exact: no end but 0 and 1 is a float32.
        let place = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        let (images, total, right) = &mut sums[place];
        *images += 1;
        *total += confidence;
        *right += u64::from(answer.right);
    }
    let bin = |(place, (images, total, right)): (usize, (u64, f64, u64))| {
        let mean = |sum: f64| (images > 0).then(|| sum / images as f64);
        let end = |place: usize| place as f64 / BINS as f64;
        let (confidence, accuracy) = (mean(total), mean(right as f64));
        Bin { low: end(place), high: end(place + 1), images, confidence, accuracy }
    };
    sums.into_iter().enumerate().map(bin).collect()
}

/// Expected calibration error: the mean over images of how far confidence and accuracy of their bin
/// lie apart (Guo et al., On Calibration of Modern Neural Networks, ICML 2017). 0 without images.
pub fn calibration_error(bins: &[Bin]) -> f64 {
    let images: u64 = bins.iter().map(|bin| bin.images).sum();
    let gap = |bin: &Bin| Some(bin.images as f64 * (bin.accuracy? - bin.confidence?).abs());
    bins.iter().filter_map(gap).sum::<f64>() / images.max(1) as f64
}

/// What is answered if less confident answers are left to a person.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Answered {
    /// The least confidence that is answered.
    pub threshold: f32,
    /// The share of images that is answered.
    pub share: f64,
    /// The share of right answers among them.
    pub accuracy: f64,
}

/// Accuracy against the share answered, from the highest threshold to the lowest, at which every
/// image is answered: the risk-coverage curve (El-Yaniv and Wiener, JMLR 11, 2010), thinned to at
/// most 200 points. Answers of equal confidence come together.
pub fn coverage(answers: &[Answer]) -> Vec<Answered> {
    let mut sorted = answers.to_vec();
    sorted.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let total = sorted.len();
    let (mut points, mut images, mut right) = (Vec::new(), 0_usize, 0_usize);
    let mut groups = sorted.chunk_by(|a, b| a.confidence == b.confidence).peekable();
    while let Some(equal) = groups.next() {
        images += equal.len();
        right += equal.iter().filter(|answer| answer.right).count();
        // Evenly along the share: a point is left out until the next step is reached.
        let due = images * (POINTS - 1) >= (points.len() + 1) * total;
        if due || points.is_empty() || groups.peek().is_none() {
            let (share, accuracy) = (images as f64 / total as f64, right as f64 / images as f64);
            points.push(Answered { threshold: equal[0].confidence, share, accuracy });
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::super::scores::tests::example;
    use super::*;

    fn answer(confidence: f32, right: bool) -> Answer {
        Answer { class: 0, confidence, right }
    }

    /// numpy, by Guo et al.'s code (temperature_scaling.py): see tests/oracle/check_eval.py.
    #[test]
    fn the_error_is_the_mean_gap_of_bins() {
        let answers: Vec<Answer> = example().answers().collect();
        let bins = reliability(&answers);
        assert!((calibration_error(&bins) - 0.203125).abs() < 1e-12, "{}", calibration_error(&bins));
        assert_eq!(bins.iter().map(|bin| bin.images).sum::<u64>(), 8);
        assert_eq!((bins[14].images, bins[14].confidence, bins[14].accuracy), (1, Some(1.), Some(1.)));
        assert_eq!((bins[0].images, bins[0].accuracy), (0, None));
        // An end belongs to the bin below it: 0.2 as a float32 lies above a fifth.
        let ends = reliability(&[answer(0.2, true), answer(0., false), answer(1., true)]);
        let filled: Vec<usize> = (0..BINS).filter(|&bin| ends[bin].images > 0).collect();
        assert_eq!(filled, [0, 3, 14]);
        assert_eq!(calibration_error(&reliability(&[])), 0.);
    }

    #[test]
    fn the_fewer_are_answered_the_surer_they_are() {
        let points =
            coverage(&[answer(0.9, true), answer(0.5, false), answer(0.5, true), answer(0.25, false)]);
        let point = |threshold, share, accuracy| Answered { threshold, share, accuracy };
        assert_eq!(points, [point(0.9, 0.25, 1.), point(0.5, 0.75, 2. / 3.), point(0.25, 1., 0.5)]);
        assert!(coverage(&[]).is_empty());
        let many: Vec<Answer> = (1..=5000).map(|it| answer(it as f32 / 5000., it % 10 > 0)).collect();
        let points = coverage(&many);
        assert!((190..=200).contains(&points.len()), "{}", points.len());
        assert_eq!((points[0].threshold, points.last().unwrap().share), (1., 1.));
        assert_eq!(points.last().unwrap().accuracy, 0.9);
    }
}
