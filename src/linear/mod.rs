//! The linear head: multinomial logistic regression on features, by Newton's method.
//!
//! [`fit`] minimises what scikit-learn's `LogisticRegression(C)` minimises,
//!
//! ```text
//! C · Σᵢ wᵢ · cross_entropy(W xᵢ + b, yᵢ)  +  ½ ‖W‖²
//! ```
//! in float64 and to a tight tolerance. Features are centred and divided by one number for all of
//! them (or for a block of them), so that the mean of their squared lengths is 1; the biases bear
//! no penalty. Two classes are scikit-learn's special case: it fits one row `v` of weights to the
//! difference of the logits, with the penalty `½ ‖v‖²`. The softmax optimum has the rows `±v/2`,
//! whose penalty is `½ · ½ ‖v‖²`; counted twice, as here, both problems have the same solution at
//! the same C.
//!
//! The pieces: `scale` and `basis` prepare the features, `objective` evaluates, `solve` searches
//! with the help of `precondition`, `cross_validation` chooses C. Equal inputs give equal bits for
//! an equal number of libtorch threads.

mod basis;
mod cross_validation;
mod head;
mod objective;
mod precondition;
mod scale;
mod size;
mod solve;
mod stop;
mod temper;

/// The number of folds, `wanted` at most, for a training set with these numbers of images a class.
pub fn folds(counts: &[usize], wanted: usize) -> Option<usize> {
    let most = counts.iter().copied().max().unwrap_or(0);
    (most > 1).then_some(wanted.min(most))
}

#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use basis::Basis;
use cross_validation::FoldImages;
use objective::Problems;
use scale::Scaler;
use size::Size;
use solve::{Settings, Solution};

pub use cross_validation::{CvRow, HeldOut};
pub(crate) use cross_validation::{stratified_folds, stratified_subset};
pub use head::set_head;
pub use temper::temper;

/// Of the final fit: about the error of a weight times the root of its curvature.
const TIGHT: Settings =
    Settings { tolerance: 1e-9, least_steps: 0, max_steps: 200, max_products: 20_000, noise: 1e-14 };

/// Multiplications in a pass over the products of features, and of features and logits, below which
/// one thread is enough: 1,500 images with 1,024 features and 10 classes are 1.7e9.
const SINGLE_THREAD_WORK: f64 = 2e9;

/// Numbers in a block of rows at most: bounds the memory of passes over all features.
const BLOCK_NUMBERS: i64 = 1 << 22;

/// Settings of a fit.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearConfig {
    /// The inverse L2 strength, as scikit-learn's `C`; chosen by cross-validation where it is
    /// `None`.
    pub c: Option<f64>,
    /// The widths of the feature blocks that are scaled separately, such as those of several
    /// stages; empty for one block.
    pub blocks: Vec<i64>,
    /// Folds of the cross-validation, at least 2; fewer are used where no class has that many
    /// images.
    pub folds: usize,
    /// The seed of the folds.
    pub seed: u64,
    /// Weight of each class's images in training, positive; all 1 if `None`.
    pub class_weights: Option<Vec<f64>>,
    /// Whether a fixed C is cross-validated too, to compare fits on different features.
    pub compare: bool,
    /// Whether [`LinearFit::held_out`] is requested.
    pub held_out: bool,
    /// Whether the head has biases. Without them the features are scaled but not centred, as in
    /// scikit-learn's `LogisticRegression(fit_intercept=False)`.
    pub intercept: bool,
}

/// A fitted linear head.
#[derive(Debug)]
pub struct LinearFit {
    /// Float32 `[K, D]` on the CPU, for unscaled features: centre and scale are folded in.
    pub weight: Tensor,
    /// Float32 `[K]` on the CPU, likewise; zeros where the head has none.
    pub bias: Tensor,
    /// The same head before folding, for scaled features: float64 `[K, D]`.
    pub scaled_weight: Tensor,
    /// Its biases, float64 `[K]`; their sum is 0.
    pub scaled_bias: Tensor,
    /// The inverse L2 strength of the fit.
    pub c: f64,
    /// The factor on the logits after the fit, 1 at most, which corrects their overconfidence on
    /// held-out images. 1 without a cross-validation. It is part of `weight` and `bias`.
    pub temper: f64,
    /// A row for each value of C tried, in the order of the grid; empty without cross-validation.
    pub cv: Vec<CvRow>,
    /// The logits of held-out images at this C, if requested and cross-validated.
    pub held_out: Option<HeldOut>,
    /// Folds used; 0 without cross-validation.
    pub folds: usize,
    /// A note for the user about the choice of C.
    pub note: Option<String>,
    /// Steps of the final fit.
    pub iterations: usize,
    /// Whether the final fit came within its tolerance.
    pub converged: bool,
}

/// Progress of a fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinearProgress {
    /// Cross-validation.
    CrossValidation {
        /// Values tried.
        tried: usize,
    },
    /// The fit on all images, at the chosen C.
    Refit,
}

/// Fits a linear head to `features` (float32 `[N, D]`) and `labels` (int64 `[N]`, each in
/// `0..classes`).
///
/// C is fixed by `config.c`, or chosen by stratified cross-validation within these images, among
/// two values a decade. The criterion is the log loss of the held-out logits times the best factor
/// up to 1 ([`LinearFit::temper`]); otherwise a strong penalty would win by its low confidence and
/// not by being right. Of values within a thousandth of a nat the strongest penalty is taken. The
/// path goes from strong to weak penalties until the log loss has become clearly worse or stays as
/// it is, and has no end on either side. Few images are cut into folds several times. Every fold
/// uses the scale of all images. If no class has two images nothing can be held out: C is 100, and
/// [`LinearFit::note`] says so. The same holds where the folds would take gigabytes or days
/// (thousands of classes with tens of thousands of images); there the last fit is in float32 with a
/// limited number of steps.
///
/// `should_stop` is asked about once a second or more often, but not within the decomposition of
/// the features' covariance (a second for 1,400 features on one thread); if it says yes the result
/// is `None`. Memory: the features once in float64 and once in float32 besides the caller's own, up
/// to 1 GB for the second derivative, and a dozen vectors of all folds' weights.
///
/// # Errors
/// If shapes or dtypes differ from these, labels are out of range, a class has no image, there are
/// fewer than two classes, a feature is not finite (the message names its row, from 0), or settings
/// are out of range.
pub fn fit(
    features: &Tensor,
    labels: &Tensor,
    classes: usize,
    config: &LinearConfig,
    should_stop: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(LinearProgress),
) -> Result<Option<LinearFit>> {
    let _guard = tch::no_grad_guard();
    let features = features.f_to_device(Device::Cpu).and_then(|f| f.f_detach()).map_err(torch())?;
    let labels = check(&features, labels, classes, config)?;
    refuse_non_finite(&features)?;
    let image_weights: Vec<f64> = match &config.class_weights {
        Some(weights) => labels.iter().map(|&label| weights[label as usize]).collect(),
        None => vec![1.0; labels.len()],
    };

    let _threads = Threads::for_work(features.size(), classes, config.folds);
    let all = [features.size()[1]];
    let blocks = if config.blocks.is_empty() { &all } else { &config.blocks[..] };
    let (x, scaler) = scale::scale(&features, blocks, config.intercept)?;
    let Some((x, basis)) = Basis::rotate(x, should_stop)? else { return Ok(None) };
    let folds = usable_folds(&labels, classes, config.folds);
    let size = Size::of(&x, classes);
    let (weights, intercept, held_out) = (&image_weights, config.intercept, config.held_out);
    let images = FoldImages { x: &x, labels: &labels, classes, weights, intercept, held_out };
    let Some(strength) = strength(&images, &size, folds, config, should_stop, progress)? else {
        return Ok(None);
    };
    let Strength { c, cv, note, start, folds: used_folds, held_out, temper } = strength;

    progress(LinearProgress::Refit);
    let total: f64 = image_weights.iter().sum();
    let settings = size.settings();
    let x = if settings == TIGHT { x } else { x.f_to_kind(Kind::Float).map_err(torch())? };
    let problem = Problems::new(x, &labels, classes, &[image_weights], config.intercept)?;
    let strength = penalty(c, total, classes);
    let Some(solution) = solve_one(&problem, start, strength, settings, should_stop)? else {
        return Ok(None);
    };

    let (weight, bias) = centred(&solution.point, classes, &basis, &scaler)?;
    let (folded_weight, folded_bias) = fold_in(&scaler, &weight, &bias, temper).map_err(torch())?;
    Ok(Some(LinearFit {
        weight: folded_weight,
        bias: folded_bias,
        scaled_weight: weight,
        scaled_bias: bias,
        c,
        temper,
        cv,
        held_out,
        folds: used_folds,
        note,
        iterations: solution.iterations,
        converged: solution.converged,
    }))
}

fn solve_one(
    problem: &Problems,
    start: Option<Vec<f64>>,
    penalty: f64,
    settings: Settings,
    should_stop: &dyn Fn() -> bool,
) -> Result<Option<Solution>> {
    let start = start.unwrap_or_else(|| vec![0.0; problem.parameters()]);
    let found = solve::minimise(problem, &[start], &[penalty], settings, should_stop)?;
    Ok(found.and_then(|mut solutions| solutions.pop()))
}

/// Weights and biases of the scaled features, from a solution in the rotated ones.
fn centred(point: &[f64], classes: usize, basis: &Basis, scaler: &Scaler) -> Result<(Tensor, Tensor)> {
    let (weight, bias) = point.split_at(point.len() - classes);
    let weight = Tensor::f_from_slice(weight).and_then(|w| w.f_view([classes as i64, -1])).map_err(torch())?;
    // Rounding in the rotation must not give a constant feature a weight: times 1e30 it would count.
    let weight = basis.to_features(&weight)?.f_masked_fill(&scaler.constant, 0.0).map_err(torch())?;
    // Softmax ignores a number added to all biases; scikit-learn's sum to 0.
    let mean_bias = bias.iter().sum::<f64>() / classes as f64;
    let bias: Vec<f64> = bias.iter().map(|b| b - mean_bias).collect();
    Ok((weight, Tensor::f_from_slice(&bias).map_err(torch())?))
}

fn refuse_non_finite(features: &Tensor) -> Result<()> {
    first_non_finite_row(features)?.map_or(Ok(()), |row| {
        Err(Error::run(format!(
            "the features of image {row} (counted from 0) are not all finite: the network cannot be used on it; \
             check the weights, or leave the image out"
        )))
    })
}

/// An L2 strength, and what its choice has found.
struct Strength {
    c: f64,
    cv: Vec<CvRow>,
    note: Option<String>,
    /// Where the last fit begins.
    start: Option<Vec<f64>>,
    /// Folds of the cross-validation; 0 without one.
    folds: usize,
    held_out: Option<HeldOut>,
    temper: f64,
}

/// Cross-validates, where there is something to choose or to compare, and images to hold out.
fn strength(
    images: &FoldImages,
    size: &Size,
    folds: usize,
    config: &LinearConfig,
    should_stop: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(LinearProgress),
) -> Result<Option<Strength>> {
    let without = |note| {
        let (c, cv) = (config.c.unwrap_or(UNKNOWN_C), Vec::new());
        Strength { c, cv, note, start: None, folds: 0, held_out: None, temper: 1. }
    };
    let (labels, classes) = (images.labels, images.classes);
    if usable_folds(labels, classes, 2) < 2 {
        return Ok(Some(without(Some(match config.c {
            Some(c) => format!("no class has two images, so that none can be held out: C = {c}, as given"),
            None => format!(
                "no class has two images, so that none can be held out to choose the L2 strength: C = {UNKNOWN_C}"
            ),
        }))));
    }
    if config.c.is_some() && !config.compare {
        return Ok(Some(without(None)));
    }
    if size.too_large_to_validate(folds) {
        return Ok(Some(without(Some(size.note(config.c)))));
    }
    let stratified_folds =
        |again| cross_validation::stratified_folds(labels, classes, folds, config.seed.wrapping_add(again));
    let repeats: Vec<_> = (0..repeats(labels.len(), classes)).map(stratified_folds).collect();
    let found = cross_validation::choose(images, &repeats, folds, config.c, should_stop, progress)?;
    Ok(found.map(|choice| Strength {
        c: choice.c,
        cv: choice.rows,
        note: None,
        start: Some(choice.start),
        folds,
        held_out: choice.held_out,
        temper: choice.temper,
    }))
}

/// Fewer training images a class than this are cut into folds [`DEALS`] times: with 4 a class the
/// weights of several heads were a point better by five deals than by one, with 16 one is enough.
const FEW: usize = 10;
const DEALS: u64 = 5;

/// How often the images are cut into folds.
fn repeats(images: usize, classes: usize) -> u64 {
    if images < FEW * classes { DEALS } else { 1 }
}

/// C where nothing can be held out: the weaker end of what cross-validation chooses with 80 images
/// a class, the stronger end with 4.
pub const UNKNOWN_C: f64 = 100.;

/// Held by the running fit: the number of threads is global, and two fits that set and restore it
/// would interfere.
static ONE_FIT: Mutex<()> = Mutex::new(());

/// libtorch's number of threads, restored on drop.
struct Threads {
    before: i32,
    _alone: MutexGuard<'static, ()>,
}

impl Threads {
    /// One thread for a problem that takes about a second. Threads would gain little there, and
    /// lose a lot on a busy machine: every product ends in a barrier at which the running threads
    /// spin and wait for the others.
    fn for_work(size: Vec<i64>, classes: usize, folds: usize) -> Self {
        let alone = ONE_FIT.lock().unwrap_or_else(PoisonError::into_inner);
        let before = tch::get_num_threads();
        let (n, d) = (size[0] as f64, size[1] as f64);
        if n * n.min(d) * (n.min(d) + (classes * folds) as f64) < SINGLE_THREAD_WORK {
            tch::set_num_threads(1);
        }
        Threads { before, _alone: alone }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        tch::set_num_threads(self.before);
    }
}

/// The first row of `features` (`[N, D]`) with an entry that is infinite or not a number, if there
/// is one.
pub fn first_non_finite_row(features: &Tensor) -> Result<Option<usize>> {
    let run = || {
        let (n, d) = features.size2()?;
        for (start, rows) in row_blocks(n, d) {
            let finite = features.f_narrow(0, start, rows)?.f_isfinite()?.f_all_dim(1, false)?;
            let finite: Vec<bool> = Vec::try_from(finite)?;
            if let Some(row) = finite.iter().position(|finite| !finite) {
                return Ok(Some(start as usize + row));
            }
        }
        Ok(None)
    };
    run().map_err(torch())
}

/// Checks everything but the features' values; returns the labels as a vector.
fn check(features: &Tensor, labels: &Tensor, classes: usize, config: &LinearConfig) -> Result<Vec<i64>> {
    let (size, kind) = (features.size(), features.kind());
    let [n, d] = size[..] else {
        return Err(Error::run(format!("the linear head needs features of two dimensions, found {size:?}")));
    };
    if n == 0 || d == 0 || kind != Kind::Float {
        return Err(Error::run(format!(
            "the linear head needs float32 features, found {size:?} of {kind:?}"
        )));
    }
    if classes < 2 {
        return Err(Error::run("a classifier needs at least two classes"));
    }
    let (size, kind) = (labels.size(), labels.kind());
    if size != [n] || kind != Kind::Int64 {
        return Err(Error::run(format!(
            "the linear head needs {n} int64 labels, found {size:?} of {kind:?}"
        )));
    }
    let labels: Vec<i64> = labels.f_to_device(Device::Cpu).and_then(Vec::try_from).map_err(torch())?;
    let mut counts = vec![0usize; classes];
    for &label in &labels {
        let count = usize::try_from(label)
            .ok()
            .and_then(|label| counts.get_mut(label))
            .ok_or_else(|| Error::run(format!("a label is {label}, expected 0 to {}", classes - 1)))?;
        *count += 1;
    }
    if let Some(class) = counts.iter().position(|&count| count == 0) {
        return Err(Error::run(format!("class {class} (counted from 0) has no image to learn from")));
    }
    if let Some(weights) = &config.class_weights
        && (weights.len() != classes || weights.iter().any(|w| !(w.is_finite() && *w > 0.0)))
    {
        return Err(Error::run(format!("expected {classes} positive class weights, found {weights:?}")));
    }
    match config.c {
        Some(c) if !(c.is_finite() && c > 0.0) => {
            Err(Error::run(format!("the inverse L2 strength C must be a positive number, found {c}")))
        }
        c if (c.is_none() || config.compare) && config.folds < 2 => {
            Err(Error::run(format!("cross-validation needs at least 2 folds, found {}", config.folds)))
        }
        _ if !config.blocks.is_empty() && config.blocks.iter().sum::<i64>() != d => {
            Err(Error::run(format!("blocks of {:?} features are not the {d} that there are", config.blocks)))
        }
        _ => Ok(labels),
    }
}

/// The number of folds, at most the size of the largest class: with more, some folds would hold out
/// none of it.
fn usable_folds(labels: &[i64], classes: usize, folds: usize) -> usize {
    let mut counts = vec![0; classes];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    folds.min(counts.into_iter().max().unwrap_or(0))
}

/// The factor of `½ ‖W‖²` beside the *mean* loss, for images of total weight `total`.
fn penalty(c: f64, total: f64, classes: usize) -> f64 {
    let rows = if classes == 2 { 2.0 } else { 1.0 };
    rows / (c * total)
}

/// The float32 head for unscaled features, its logits times `temper`.
fn fold_in(
    scaler: &Scaler,
    weight: &Tensor,
    bias: &Tensor,
    temper: f64,
) -> Result<(Tensor, Tensor), tch::TchError> {
    let weight = weight.f_div(&scaler.scale)?.f_mul_scalar(temper)?;
    let bias = bias.f_mul_scalar(temper)?.f_sub(&weight.f_mv(&scaler.mean)?)?;
    Ok((weight.f_to_kind(Kind::Float)?, bias.f_to_kind(Kind::Float)?))
}

/// Start and length of blocks of rows of `width` numbers.
fn row_blocks(rows: i64, width: i64) -> impl Iterator<Item = (i64, i64)> {
    let size = (BLOCK_NUMBERS / width.max(1)).max(1);
    (0..rows).step_by(size as usize).map(move |start| (start, size.min(rows - start)))
}

fn torch() -> impl FnOnce(tch::TchError) -> Error {
    Error::torch("fit the linear head")
}
