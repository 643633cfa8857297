//! Choice of the L2 strength by stratified, seeded k-fold cross-validation.

use tch::{Kind, Tensor};

use super::objective::Problems;
use super::solve::{Settings, Solution, minimise};
use super::{LinearProgress, penalty, row_blocks, temper, torch};
use crate::error::Result;

/// Two values of C a decade, counted from 1, without a first or last one.
fn strength(index: i32) -> f64 {
    10f64.powf(f64::from(index) / 2.0)
}

/// Start of the search: a penalty so strong that hardly anything is learnt. The path goes to weaker
/// ones, which start from the last solution, and to stronger ones only if this is the best.
const FIRST: i32 = -2;

/// The search ends after this many values in a row that have not lowered the log loss by more than
/// [`ALIKE`], or when the last one is worse than the best by this factor.
const STALE: usize = 4;
const WORSE: f64 = 1.2;
/// Log losses closer than this, in nats, are ties: the stronger penalty wins.
const ALIKE: f64 = 1e-3;

/// Float32 is enough to rank strengths.
pub(super) const ROUGH: Settings =
    Settings { tolerance: 1.5e-3, least_steps: 0, max_steps: 30, max_products: 500, noise: 1e-6 };

/// Cross-validation result of one value of C.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CvRow {
    /// Inverse L2 strength, as scikit-learn's `C`.
    pub c: f64,
    /// The share of held-out images classified as labelled, in [0, 1].
    pub accuracy: f64,
    /// The mean cross-entropy of the held-out images, in nats, with their logits times the best
    /// factor up to 1.
    pub log_loss: f64,
}

/// The fold that holds out each image. An image that is alone in its class is never held out: a
/// fold that cannot learn a class cannot judge it.
///
/// Within each class the images are shuffled and dealt out, and the next class continues where the
/// last one ended, so that neither folds nor classes within folds differ by more than one image.
pub(crate) fn stratified_folds(
    labels: &[i64],
    classes: usize,
    folds: usize,
    seed: u64,
) -> Vec<Option<usize>> {
    let (mut fold_of, mut next) = (vec![None; labels.len()], 0);
    for members in shuffled(labels, classes, seed).iter().filter(|members| members.len() > 1) {
        for &image in members {
            fold_of[image] = Some(next % folds);
            next += 1;
        }
    }
    fold_of
}

/// Up to `most` images of each class, in their order.
pub(crate) fn stratified_subset(labels: &[i64], classes: usize, most: usize, seed: u64) -> Vec<usize> {
    let members = shuffled(labels, classes, seed);
    let mut images: Vec<usize> =
        members.iter().flat_map(|members| members.iter().take(most)).copied().collect();
    images.sort_unstable();
    images
}

/// The images of each class in a random order.
fn shuffled(labels: &[i64], classes: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut members = vec![Vec::new(); classes];
    for (image, &label) in labels.iter().enumerate() {
        members[label as usize].push(image);
    }
    let mut state = seed;
    for members in &mut members {
        for last in (1..members.len()).rev() {
            members.swap(last, (random(&mut state) % (last as u64 + 1)) as usize);
        }
    }
    members
}

/// Splitmix64 (Steele, Lea & Flood, 2014).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Result of the cross-validation.
#[derive(Debug)]
pub(super) struct Choice {
    pub c: f64,
    /// From strong to weak regularisation.
    pub rows: Vec<CvRow>,
    /// The mean of the folds' solutions at the chosen C: the start of the final fit.
    pub start: Vec<f64>,
    /// The factor that gives the held-out logits the lowest loss.
    pub temper: f64,
    /// The held-out logits at the chosen C, times `temper`, if requested.
    pub held_out: Option<HeldOut>,
}

/// Tempered logits of images by heads that were fitted without them.
#[derive(Debug)]
pub struct HeldOut {
    /// The image of each row of the logits. Repeated folds hold out an image several times.
    pub images: Vec<usize>,
    /// Float32 `[M, K]`.
    pub logits: Tensor,
}

/// Images to be cut into folds.
#[derive(Debug)]
pub(super) struct FoldImages<'a> {
    /// Coordinates, `[N, M]`.
    pub x: &'a Tensor,
    /// Each in `0..classes`.
    pub labels: &'a [i64],
    pub classes: usize,
    /// Weight of each image in training; held out, all weigh the same.
    pub weights: &'a [f64],
    /// Whether the head has biases.
    pub intercept: bool,
    /// Whether [`Choice::held_out`] is requested.
    pub held_out: bool,
}

/// One cut into folds, and the folds' solutions at the last two values of C.
struct Cut {
    order: Order,
    problems: Problems,
    totals: Vec<f64>,
    points: Vec<Vec<f64>>,
    previous: Option<Vec<Vec<f64>>>,
}

impl Cut {
    fn new(images: &FoldImages, fold_of: &[Option<usize>], folds: usize) -> Result<Cut> {
        let order = Order::new(fold_of, folds);
        let sorted = order.rows(images.x).map_err(torch())?;
        let labels: Vec<i64> = order.images.iter().map(|&image| images.labels[image]).collect();
        let mut weights: Vec<Vec<f64>> =
            vec![order.images.iter().map(|&image| images.weights[image]).collect(); folds];
        for (weights, held_out) in weights.iter_mut().zip(&order.held_out) {
            weights[held_out.clone()].fill(0.0);
        }
        let totals: Vec<f64> = weights.iter().map(|weights| weights.iter().sum()).collect();
        let problems = Problems::new(sorted, &labels, images.classes, &weights, images.intercept)?;
        let points = vec![vec![0.0; problems.parameters()]; folds];
        Ok(Cut { order, problems, totals, points, previous: None })
    }

    /// Fits the folds at `c`, starting from an extrapolation of the previous solutions; `None` if
    /// told to stop.
    fn fit(&mut self, c: f64, classes: usize, should_stop: &dyn Fn() -> bool) -> Result<Option<()>> {
        let penalties: Vec<f64> = self.totals.iter().map(|&total| penalty(c, total, classes)).collect();
        let starts = match &self.previous {
            Some(previous) => ahead(previous, &self.points),
            None => self.points.clone(),
        };
        let found = minimise(&self.problems, &starts, &penalties, ROUGH, should_stop)?;
        let Some(solutions) = found else { return Ok(None) };
        let points = solutions.into_iter().map(|Solution { point, .. }| point).collect();
        self.previous = Some(std::mem::replace(&mut self.points, points));
        Ok(Some(()))
    }

    /// Resets the start: at the other end of the path the last solutions are of no use.
    fn forget(&mut self) {
        self.points.iter_mut().for_each(|point| point.fill(0.));
        self.previous = None;
    }

    fn scored(&self) -> usize {
        self.order.held_out.last().map_or(0, |fold| fold.end)
    }

    fn logits(&self) -> Result<Tensor> {
        let of_fold = |(point, held_out): (&Vec<f64>, &std::ops::Range<usize>)| {
            self.problems.logits(point, held_out.start, held_out.len())
        };
        let folds = self.points.iter().zip(&self.order.held_out).map(of_fold).collect::<Result<Vec<_>>>()?;
        Tensor::f_cat(&folds, 0).map_err(torch())
    }
}

/// Fits the folds along the path, or at the one value of C that is `given`; `None` if told to stop.
/// Each of `repeats` cuts the images into `folds` again.
pub(super) fn choose(
    images: &FoldImages,
    repeats: &[Vec<Option<usize>>],
    folds: usize,
    given: Option<f64>,
    should_stop: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(LinearProgress),
) -> Result<Option<Choice>> {
    let mut cuts =
        repeats.iter().map(|fold_of| Cut::new(images, fold_of, folds)).collect::<Result<Vec<_>>>()?;
    let images_of = |cut: &Cut| cut.order.images[..cut.scored()].to_vec();
    let held_out: Vec<usize> = cuts.iter().flat_map(images_of).collect();
    let truths: Vec<i64> = held_out.iter().map(|&image| images.labels[image]).collect();
    let truths = Tensor::f_from_slice(&truths).map_err(torch())?;
    let mut path = Path::default();
    let (mut start, mut kept, mut factor) = (Vec::new(), None, 1.);
    let mut next = given.map_or_else(|| Some(strength(FIRST)), Some);
    while let Some(c) = next {
        progress(LinearProgress::CrossValidation { tried: path.rows.len() });
        for cut in &mut cuts {
            if cut.fit(c, images.classes, should_stop)?.is_none() {
                return Ok(None);
            }
        }
        let logits = cuts.iter().map(Cut::logits).collect::<Result<Vec<_>>>()?;
        let (logits, row, tempered) = scored(&logits, &truths, c).map_err(torch())?;
        if path.add(row) {
            (start, factor) = (mean(cuts.iter().flat_map(|cut| &cut.points)), tempered);
            kept = images.held_out.then_some(logits);
        }
        let before = path.back;
        next = if given.is_some() { None } else { path.next() };
        if path.back != before {
            cuts.iter_mut().for_each(Cut::forget);
        }
    }
    let Some(best) = path.best else { return Ok(None) };
    let held_out = match kept {
        None => None,
        Some(logits) => {
            let logits = logits.f_mul_scalar(factor).map_err(torch())?;
            Some(HeldOut { images: held_out, logits })
        }
    };
    path.rows.sort_by(|a, b| a.c.total_cmp(&b.c));
    Ok(Some(Choice { c: best.c, rows: path.rows, start, temper: factor, held_out }))
}

/// All held-out logits, their score and their temper.
fn scored(
    logits: &[Tensor],
    truths: &Tensor,
    c: f64,
) -> std::result::Result<(Tensor, CvRow, f64), tch::TchError> {
    let logits = Tensor::f_cat(logits, 0)?;
    let right = logits.f_argmax(1, false)?.f_eq_tensor(truths)?;
    let accuracy = right.f_to_kind(Kind::Double)?.f_mean(Kind::Double)?.f_double_value(&[])?;
    let (factor, log_loss) = temper(&logits, truths, 1.)?;
    Ok((logits, CvRow { c, accuracy, log_loss }, factor))
}

/// Images sorted by the fold that holds them out, so that a fold's held-out images are one range.
struct Order {
    images: Vec<usize>,
    held_out: Vec<std::ops::Range<usize>>,
}

impl Order {
    fn new(fold_of: &[Option<usize>], folds: usize) -> Self {
        let (mut images, mut held_out) = (Vec::with_capacity(fold_of.len()), Vec::with_capacity(folds));
        for fold in 0..folds {
            let start = images.len();
            images.extend((0..fold_of.len()).filter(|&image| fold_of[image] == Some(fold)));
            held_out.push(start..images.len());
        }
        images.extend((0..fold_of.len()).filter(|&image| fold_of[image].is_none()));
        Order { images, held_out }
    }

    /// The rows of `x` in this order, as float32, a block at a time: there is no memory for a
    /// second float64 copy.
    fn rows(&self, x: &Tensor) -> Result<Tensor, tch::TchError> {
        let (n, m) = x.size2()?;
        let index: Vec<i64> = self.images.iter().map(|&image| image as i64).collect();
        let index = Tensor::f_from_slice(&index)?;
        let sorted = Tensor::f_empty([n, m], (Kind::Float, x.device()))?;
        for (start, rows) in row_blocks(n, m) {
            let block = x.f_index_select(0, &index.f_narrow(0, start, rows)?)?;
            sorted.f_narrow(0, start, rows)?.f_copy_(&block)?;
        }
        Ok(sorted)
    }
}

/// The values of C so far, in the order tried.
#[derive(Default)]
struct Path {
    rows: Vec<CvRow>,
    best: Option<CvRow>,
    /// Values since the last improvement of the log loss.
    stale: usize,
    /// Whether it goes to stronger penalties.
    back: bool,
    /// Steps from the first value.
    steps: i32,
}

impl Path {
    /// Adds a row; true if it is the new choice, for a clearly lower log loss.
    fn add(&mut self, row: CvRow) -> bool {
        self.rows.push(row);
        let chosen = self.best.is_none_or(|best| row.log_loss < best.log_loss - ALIKE);
        self.stale = if chosen { 0 } else { self.stale + 1 };
        if chosen {
            self.best = Some(row);
        }
        chosen
    }

    /// The value to try next, unless the search has ended.
    fn next(&mut self) -> Option<f64> {
        let (last, best) = (self.rows.last()?, self.best?);
        if self.stale >= STALE || last.log_loss > WORSE * best.log_loss + ALIKE {
            // The best is the first of all: try stronger penalties.
            if self.back || best.c > strength(FIRST) {
                return None;
            }
            (self.back, self.stale, self.steps) = (true, 0, 0);
        }
        self.steps += if self.back { -1 } else { 1 };
        Some(strength(FIRST + self.steps))
    }
}

/// Linear extrapolation of the path: the values of C are evenly spaced in their logarithm.
fn ahead(previous: &[Vec<f64>], points: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let on = |(x, previous): (&f64, &f64)| 2. * x - previous;
    points.iter().zip(previous).map(|(x, previous)| x.iter().zip(previous).map(on).collect()).collect()
}

fn mean<'a>(points: impl Iterator<Item = &'a Vec<f64>>) -> Vec<f64> {
    let (mut sum, mut count) = (Vec::new(), 0.);
    for point in points {
        sum.resize(point.len(), 0.);
        sum.iter_mut().zip(point).for_each(|(sum, x)| *sum += x);
        count += 1.;
    }
    sum.iter().map(|x| x / count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_are_stratified_and_seeded() {
        let labels: Vec<i64> = (0..103).map(|i| if i == 50 { 3 } else { i % 3 }).collect();
        let fold_of = stratified_folds(&labels, 4, 5, 7);
        assert_eq!(fold_of[50], None, "an image alone in its class is in every training set");
        for class in 0..3 {
            let mut sizes = [0; 5];
            for (label, fold) in labels.iter().zip(&fold_of) {
                if *label == class {
                    sizes[fold.unwrap()] += 1;
                }
            }
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            assert!(most - least <= 1, "class {class}: {sizes:?}");
        }
        assert_eq!(fold_of, stratified_folds(&labels, 4, 5, 7));
        assert_ne!(fold_of, stratified_folds(&labels, 4, 5, 8));
    }

    #[test]
    fn as_many_of_each_class_are_drawn() {
        let labels: Vec<i64> = (0..103).map(|i| if i < 5 { 3 } else { i % 3 }).collect();
        let images = stratified_subset(&labels, 4, 10, 7);
        let of_class = |class| images.iter().filter(|&&image| labels[image] == class).count();
        assert_eq!([0, 1, 2, 3].map(of_class), [10, 10, 10, 5]);
        assert!(images.is_sorted());
        assert_ne!(images, stratified_subset(&labels, 4, 10, 8));
        assert_eq!(stratified_subset(&labels, 4, 200, 7), (0..103).collect::<Vec<_>>());
    }

    #[test]
    fn an_order_keeps_every_image_once() {
        let fold_of = [Some(1), None, Some(0), Some(1), Some(0)];
        let order = Order::new(&fold_of, 2);
        assert_eq!(order.images, [2, 4, 0, 3, 1]);
        assert_eq!(order.held_out, [0..2, 2..4]);
    }

    #[test]
    fn of_alike_log_losses_the_stronger_penalty_is_taken() {
        let mut path = Path::default();
        let row = |c, log_loss| CvRow { c, accuracy: 0.8, log_loss };
        assert!(path.add(row(0.1, 0.5)));
        assert!(!path.add(row(1.0, 0.4995)));
        assert!(path.add(row(2.0, 0.4)));
        assert!(!path.add(row(3.0, 0.9)));
        assert_eq!(path.best.unwrap().c, 2.0);
    }

    #[test]
    fn a_path_ends_where_it_worsens_or_stays_and_turns_back_at_its_first_value() {
        let walk = |loss: &dyn Fn(f64) -> f64| {
            let mut path = Path::default();
            let mut next = Some(strength(FIRST));
            while let Some(c) = next {
                path.add(CvRow { c, accuracy: 0., log_loss: loss(c) });
                assert!(path.rows.len() < 40);
                next = path.next();
            }
            path
        };
        // Best at 1: the path goes two decades further at most.
        let found = walk(&|c| 1. + 0.05 * c.log10().abs());
        assert_eq!(found.best.unwrap().c, 1.);
        assert_eq!((found.rows.last().unwrap().c, found.back), (100., false));
        let found = walk(&|c| 1. + 0.5 * c.log10().abs());
        assert_eq!((found.best.unwrap().c, found.rows.last().unwrap().c), (1., 10f64.sqrt()));
        // Best at 1e-5, which is stronger than the first.
        let found = walk(&|c| 1. + 0.05 * (c.log10() + 5.).abs());
        assert_eq!((found.best.unwrap().c, found.back), (strength(-10), true));
        // Nothing to learn: all are alike.
        let found = walk(&|_| 2.);
        assert_eq!(found.best.unwrap().c, strength(FIRST));
    }
}
