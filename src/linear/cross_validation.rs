//! The choice of the L2 strength by stratified, seeded k-fold cross-validation.

use tch::{Kind, Tensor};

use super::objective::Problems;
use super::solve::{Settings, Solution, minimise};
use super::{LinearProgress, penalty, row_blocks, torch};
use crate::error::Result;

/// The grid of C: two values a decade from 1e-6 to 1e4, from strong to weak regularisation; one a decade where that is `rough`.
pub(super) fn grid(rough: bool) -> Vec<f64> {
    let grid = (0..=20).map(|i| 10f64.powf(f64::from(i) / 2.0 - 6.0));
    grid.step_by(1 + usize::from(rough)).collect()
}

/// The path ends when over this many values of C neither accuracy nor log loss was the best so far, and the
/// log loss is worse than the best by this factor.
const ENDS: [(usize, f64); 2] = [(4, 1.1), (2, 1.5)];

/// Float32 is plenty to rank strengths by.
pub(super) const ROUGH: Settings =
    Settings { tolerance: 1.5e-3, least_steps: 0, max_steps: 30, max_products: 500, noise: 1e-6 };

/// Where the mean of several heads is wanted. Only weak regularisation takes so many products, where hardly anything but the
/// length of the weights still grows.
pub(super) const ROUGHER: Settings = Settings { tolerance: 2e-2, least_steps: 1, max_products: 200, ..ROUGH };

/// What the folds said about one value of C.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CvRow {
    /// Inverse L2 strength, as scikit-learn's `C`.
    pub c: f64,
    /// The share of held-out images classified as labelled, in [0, 1].
    pub accuracy: f64,
    /// The mean cross-entropy of the held-out images, in nats.
    pub log_loss: f64,
}

/// Which fold holds out each image. An image that is alone in its class is held out by none: a fold that
/// cannot learn a class cannot say anything about it.
///
/// Within each class the images are shuffled and dealt out, and the next class is dealt from where the
/// last one ended, so that neither folds nor classes within folds differ by more than one image.
pub(crate) fn deal(labels: &[i64], classes: usize, folds: usize, seed: u64) -> Vec<Option<usize>> {
    let (mut fold_of, mut next) = (vec![None; labels.len()], 0);
    for members in shuffled(labels, classes, seed).iter().filter(|members| members.len() > 1) {
        for &image in members {
            fold_of[image] = Some(next % folds);
            next += 1;
        }
    }
    fold_of
}

/// So many images of each class, or all where there are fewer, in their order.
pub(crate) fn at_most(labels: &[i64], classes: usize, most: usize, seed: u64) -> Vec<usize> {
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

/// What cross-validation found.
#[derive(Debug)]
pub(super) struct Choice {
    pub c: f64,
    pub rows: Vec<CvRow>,
    /// The mean of the folds' solutions at the chosen C: where the final fit starts.
    pub start: Vec<f64>,
    /// What the folds said of the images that they held out, at the chosen C, if that was asked for.
    pub held_out: Option<HeldOut>,
}

/// Logits of images by heads that were fitted without them.
#[derive(Debug)]
pub struct HeldOut {
    /// Which images: a row of the logits each.
    pub images: Vec<usize>,
    /// Float32 `[M, K]`.
    pub logits: Tensor,
}

/// What the folds are cut from.
#[derive(Debug)]
pub(super) struct Images<'a> {
    /// Coordinates, `[N, M]`.
    pub x: &'a Tensor,
    /// Each in `0..classes`.
    pub labels: &'a [i64],
    pub classes: usize,
    /// What each image counts in training; held out, all count the same.
    pub weights: &'a [f64],
    /// Whether the head has biases.
    pub intercept: bool,
    /// Whether [`Choice::held_out`] is wanted.
    pub held_out: bool,
}

/// Fits the folds along the grid, each value of C from where the ones before point to; `None` if it was
/// told to stop.
pub(super) fn choose(
    images: &Images,
    fold_of: &[Option<usize>],
    folds: usize,
    grid: &[f64],
    rough: bool,
    should_stop: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(LinearProgress),
) -> Result<Option<Choice>> {
    let order = Order::new(fold_of, folds);
    let classes = images.classes;
    let sorted = order.rows(images.x).map_err(torch())?;
    let labels: Vec<i64> = order.images.iter().map(|&image| images.labels[image]).collect();
    let mut weights: Vec<Vec<f64>> =
        vec![order.images.iter().map(|&image| images.weights[image]).collect(); folds];
    for (weights, held_out) in weights.iter_mut().zip(&order.held_out) {
        weights[held_out.clone()].fill(0.0);
    }
    let totals: Vec<f64> = weights.iter().map(|weights| weights.iter().sum()).collect();
    let problems = Problems::new(sorted, &labels, classes, &weights, images.intercept)?;
    let settings = if rough { ROUGHER } else { ROUGH };

    let scored = order.held_out.iter().map(ExactSizeIterator::len).sum::<usize>() as f64;
    let mut points = vec![vec![0.0; problems.parameters()]; folds];
    let mut path = Path::default();
    let mut previous: Option<Vec<Vec<f64>>> = None;
    let mut held_out = None;
    for (done, &c) in grid.iter().enumerate() {
        progress(LinearProgress::CrossValidation { done, total: grid.len() });
        let penalties: Vec<f64> = totals.iter().map(|&total| penalty(c, total, classes)).collect();
        let starts = previous.as_ref().map_or_else(|| points.clone(), |previous| ahead(previous, &points));
        let found = minimise(&problems, &starts, &penalties, settings, should_stop)?;
        let Some(solutions) = found else { return Ok(None) };
        previous = Some(points);
        points = solutions.into_iter().map(|Solution { point, .. }| point).collect();
        let (mut right, mut loss) = (0, 0.0);
        for (point, held_out) in points.iter().zip(&order.held_out) {
            let (fold_right, fold_loss) = problems.score(point, held_out.start, held_out.len())?;
            right += fold_right;
            loss += fold_loss;
        }
        if path.add(CvRow { c, accuracy: right as f64 / scored, log_loss: loss / scored }) {
            path.start = mean(&points);
            if images.held_out {
                let of_fold = |(point, held_out): (&Vec<f64>, &std::ops::Range<usize>)| {
                    problems.logits(point, held_out.start, held_out.len())
                };
                let folds = points.iter().zip(&order.held_out).map(of_fold).collect::<Result<Vec<_>>>()?;
                held_out = Some(Tensor::f_cat(&folds, 0).map_err(torch())?);
            }
        }
        if path.ended() {
            break;
        }
    }
    let Some(best) = path.best else { return Ok(None) };
    let known = order.held_out.last().map_or(0, |fold| fold.end);
    let held_out = held_out.map(|logits| HeldOut { images: order.images[..known].to_vec(), logits });
    Ok(Some(Choice { c: best.c, rows: path.rows, start: path.start, held_out }))
}

/// Images sorted by the fold that holds them out, so that what a fold holds out is one range.
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

    /// The rows of `x` in this order, as float32; a block at a time, for there is no second float64 copy to
    /// spare.
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

/// The values of C so far.
#[derive(Default)]
struct Path {
    rows: Vec<CvRow>,
    best: Option<CvRow>,
    start: Vec<f64>,
    lowest_loss: Option<f64>,
    stale: usize,
}

impl Path {
    /// Takes a row in; true if it is the new choice: more accurate, or as accurate with a lower log loss.
    /// On a tie of both the stronger regularisation, which came first, stays.
    fn add(&mut self, row: CvRow) -> bool {
        self.rows.push(row);
        let chosen = self.best.is_none_or(|best| {
            row.accuracy > best.accuracy || (row.accuracy == best.accuracy && row.log_loss < best.log_loss)
        });
        let lower = self.lowest_loss.is_none_or(|lowest| row.log_loss < lowest);
        self.stale = if chosen || lower { 0 } else { self.stale + 1 };
        if chosen {
            self.best = Some(row);
        }
        if lower {
            self.lowest_loss = Some(row.log_loss);
        }
        chosen
    }

    fn ended(&self) -> bool {
        let (Some(row), Some(lowest)) = (self.rows.last(), self.lowest_loss) else { return false };
        ENDS.iter().any(|&(stale, worse)| self.stale >= stale && row.log_loss > worse * lowest)
    }
}

/// Where the path goes on if it goes straight: the values of C are evenly spaced in their logarithm.
fn ahead(previous: &[Vec<f64>], points: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let on = |(x, previous): (&f64, &f64)| 2. * x - previous;
    points.iter().zip(previous).map(|(x, previous)| x.iter().zip(previous).map(on).collect()).collect()
}

fn mean(points: &[Vec<f64>]) -> Vec<f64> {
    let mut mean = vec![0.0; points.first().map_or(0, Vec::len)];
    for point in points {
        for (mean, x) in mean.iter_mut().zip(point) {
            *mean += x / points.len() as f64;
        }
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_are_stratified_and_seeded() {
        let labels: Vec<i64> = (0..103).map(|i| if i == 50 { 3 } else { i % 3 }).collect();
        let fold_of = deal(&labels, 4, 5, 7);
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
        assert_eq!(fold_of, deal(&labels, 4, 5, 7));
        assert_ne!(fold_of, deal(&labels, 4, 5, 8));
    }

    #[test]
    fn as_many_of_each_class_are_drawn() {
        let labels: Vec<i64> = (0..103).map(|i| if i < 5 { 3 } else { i % 3 }).collect();
        let images = at_most(&labels, 4, 10, 7);
        let of_class = |class| images.iter().filter(|&&image| labels[image] == class).count();
        assert_eq!([0, 1, 2, 3].map(of_class), [10, 10, 10, 5]);
        assert!(images.is_sorted());
        assert_ne!(images, at_most(&labels, 4, 10, 8));
        assert_eq!(at_most(&labels, 4, 200, 7), (0..103).collect::<Vec<_>>());
    }

    #[test]
    fn an_order_keeps_every_image_once() {
        let fold_of = [Some(1), None, Some(0), Some(1), Some(0)];
        let order = Order::new(&fold_of, 2);
        assert_eq!(order.images, [2, 4, 0, 3, 1]);
        assert_eq!(order.held_out, [0..2, 2..4]);
    }

    #[test]
    fn ties_go_to_the_lower_log_loss_then_to_the_stronger_regularisation() {
        let mut path = Path::default();
        let row = |c, accuracy, log_loss| CvRow { c, accuracy, log_loss };
        assert!(path.add(row(0.1, 0.8, 0.5)));
        assert!(!path.add(row(1.0, 0.8, 0.5)));
        assert!(path.add(row(2.0, 0.8, 0.4)));
        assert!(path.add(row(3.0, 0.9, 0.9)));
        assert!(!path.add(row(4.0, 0.8, 0.1)));
        assert_eq!(path.best.unwrap().c, 3.0);
    }

    #[test]
    fn a_path_ends_only_when_it_worsens_clearly() {
        let mut path = Path::default();
        let row = |accuracy, log_loss| CvRow { c: 1.0, accuracy, log_loss };
        path.add(row(0.9, 1.0));
        for _ in 0..10 {
            path.add(row(0.9, 1.05));
            assert!(!path.ended(), "a little worse is not the end");
        }
        path.add(row(0.9, 1.2));
        assert!(path.ended());
        path.add(row(0.95, 1.6));
        path.add(row(0.94, 1.6));
        assert!(!path.ended(), "once much worse is not the end");
        path.add(row(0.94, 1.6));
        assert!(path.ended(), "twice much worse is");
        path.add(row(0.96, 1.2));
        assert!(!path.ended(), "a better accuracy goes on");
    }
}
