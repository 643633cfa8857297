//! Heads fitted to features of one stage or of several, and the head made from them.

use std::borrow::Cow;

use tch::Tensor;

use super::pool;
use crate::data::Sample;
use crate::error::{Error, Result};
use crate::inference::measure::{count, labels_of};
use crate::linear::{self, CvRow, LinearConfig, LinearFit};
use crate::methods::Context;
use crate::methods::Counting;
use crate::models::Network;
use crate::plan::LinearSettings;
use crate::recipe::ClassWeights;
use crate::stats::metrics::{Counter, Evaluation};
use crate::trainer;

/// Maximum number of logits computed at once: bounds the memory with thousands of classes.
const BLOCK_LOGITS: i64 = 1 << 26;

const STOPPED: &str = "stopped while fitting the head; the features are kept: go on with `--resume`";

/// A head fitted to the features of some readings.
pub(in crate::methods) struct Fit {
    /// Indices of its readings, in their order.
    pub taps: Vec<usize>,
    /// The result.
    pub fit: LinearFit,
}

/// A linear head on the concatenated features of some readings.
pub(in crate::methods) struct FittedHead {
    /// Indices of its readings, in their order.
    pub taps: Vec<usize>,
    /// `[K, D]`
    pub weight: Tensor,
    /// `[K]`
    pub bias: Tensor,
}

/// Several heads on the same images.
pub(in crate::methods) struct Heads {
    /// Each of them, as compared.
    pub compared: Vec<Fit>,
    /// Index of the best on held-out images.
    pub best: usize,
    /// Their weights; they sum to 1, with 1 for the best alone if they are not averaged.
    pub weights: Vec<f64>,
    /// Their joint accuracy on held-out images, if any could be held out.
    pub held_out: Option<f64>,
    /// Number of images that they were compared on.
    pub images: usize,
    /// One equivalent head, fitted to all images.
    pub head: FittedHead,
}

impl Fit {
    /// Cross-validated accuracy and log loss at the fit's own C.
    pub(super) fn cross_validated(&self) -> Option<&CvRow> {
        self.fit.cv.iter().find(|row| row.c == self.fit.c)
    }

    pub(super) fn head(&self) -> FittedHead {
        let LinearFit { weight, bias, .. } = &self.fit;
        FittedHead { taps: self.taps.clone(), weight: weight.shallow_clone(), bias: bias.shallow_clone() }
    }
}

impl FittedHead {
    /// The same with its logits times `factor`.
    fn times(self, factor: f64) -> Result<FittedHead> {
        let times = |tensor: &Tensor| tensor.f_mul_scalar(factor).map_err(Error::torch("scale a head"));
        Ok(FittedHead { weight: times(&self.weight)?, bias: times(&self.bias)?, ..self })
    }

    /// The features that the head reads, and its logits, of images with the rows of every reading in
    /// `x`.
    pub(super) fn read(&self, x: &[Tensor]) -> Result<(Tensor, Tensor)> {
        let (x, _) = joined(x, &self.taps)?;
        let logits = x.f_linear(&self.weight, Some(&self.bias)).map_err(Error::torch("read the head"))?;
        Ok((x, logits))
    }

    /// Evaluates the head on images, with the rows of every reading in `x`. `counter` is empty, and
    /// keeps probabilities or not.
    pub(in crate::methods) fn measure(
        &self,
        x: &[Tensor],
        labels: &Tensor,
        mut counter: Counter,
    ) -> Result<Evaluation> {
        let (x, _) = joined(x, &self.taps)?;
        let rows = x.size()[0];
        let block = (BLOCK_LOGITS / self.bias.size()[0].max(1)).max(1);
        for start in (0..rows).step_by(block as usize) {
            let length = block.min(rows - start);
            let logits = x
                .f_narrow(0, start, length)
                .and_then(|x| x.f_linear(&self.weight, Some(&self.bias)))
                .map_err(Error::torch("measure the head"))?;
            let labels = labels.f_narrow(0, start, length).map_err(Error::torch("take labels"))?;
            count(&logits, &labels, &mut counter)?;
        }
        Ok(counter.finish())
    }
}

/// The taps of each head to fit: each of `count` alone, and all together if there are several.
fn sets(settings: &LinearSettings, count: usize) -> Vec<Vec<usize>> {
    if settings.stages.is_empty() {
        return vec![vec![0]];
    }
    let mut sets: Vec<Vec<usize>> = (0..count).map(|index| vec![index]).collect();
    if settings.stages.len() > 1 {
        sets.push((0..count).collect());
    }
    sets
}

/// Fits heads one after the other.
struct Fitter<'a> {
    context: &'a Context<'a>,
    settings: &'a LinearSettings,
    intercept: bool,
    bar: Box<dyn Counting>,
    done: usize,
}

impl Fitter<'_> {
    fn fit(
        &mut self,
        taps: &[usize],
        x: &[Tensor],
        samples: &[Sample],
        c: Option<f64>,
        compare: bool,
    ) -> Result<LinearFit> {
        let plan = self.context.plan;
        let classes = plan.data.classes.len();
        let (x, blocks) = joined(x, taps)?;
        let balanced = self.settings.class_weights == ClassWeights::Balanced;
        let config = LinearConfig {
            c,
            blocks,
            folds: self.settings.folds,
            seed: plan.settings.seed,
            class_weights: balanced.then(|| trainer::balanced(classes, samples)),
            intercept: self.intercept,
            compare,
            held_out: compare && self.settings.average,
        };
        let signals = self.context.signals;
        let stop = || signals.received().is_some();
        let labels = labels_of(samples.iter())?;
        let fit = linear::fit(&x, &labels, classes, &config, &stop, &mut |_| ());
        signals.check(STOPPED)?;
        self.done += 1;
        self.bar.at(self.done);
        fit?.ok_or_else(|| Error::run("the fit was stopped"))
    }
}

impl Context<'_> {
    /// Fits a head to each stage's features and to all of them together, or to the one reading of
    /// `linear`, and makes one of them, or the mean of all, the head. `x` has the features of
    /// `samples` at each reading.
    pub(in crate::methods) fn heads(
        &self,
        network: &Network,
        settings: &LinearSettings,
        x: &[Tensor],
        samples: &[Sample],
    ) -> Result<Heads> {
        let part = self.compared_on(settings, samples);
        let (some, of) = match &part {
            Some(images) => {
                (taken(x, images)?, Cow::from_iter(images.iter().map(|&image| samples[image].clone())))
            }
            None => (x.iter().map(Tensor::shallow_clone).collect(), Cow::Borrowed(samples)),
        };
        let sets = sets(settings, x.len());
        let compare = !settings.stages.is_empty();
        let total = sets.len() * (1 + usize::from(part.is_some()));
        let mut fitter = Fitter {
            context: self,
            settings,
            // A head on stages is `tl`'s own and has biases; any other is the network's.
            intercept: compare || network.classifier().bias().is_some(),
            bar: self.observer.counting("fitting heads", total),
            done: 0,
        };
        let mut compared = Vec::new();
        for taps in sets {
            let fit = fitter.fit(&taps, &some, &of, settings.c, compare)?;
            compared.push(Fit { taps, fit });
        }
        let best = best(&compared);
        let labels = labels_of(of.iter())?;
        let pooled = if settings.average { pool::weights(&compared, &labels)? } else { None };
        let alone = || ((0..compared.len()).map(|it| f64::from(it == best)).collect(), 1.);
        let (weights, factor): (Vec<f64>, f64) = pooled.unwrap_or_else(alone);
        let held_out = match weights[best] {
            1. => compared[best].cross_validated().map(|row| row.accuracy),
            _ => Some(pool::accuracy(&compared, &weights, &labels)?),
        };
        let mut counting = Vec::new();
        for (it, &weight) in compared.iter().zip(&weights).filter(|(_, weight)| **weight > 0.) {
            let head = match part {
                Some(_) => {
                    let taps = it.taps.clone();
                    let fit = fitter.fit(&taps, x, samples, Some(it.fit.c), false)?;
                    Fit { fit, taps }.head().times(it.fit.temper)?
                }
                None => it.head(),
            };
            counting.push((head, weight * factor));
        }
        let head = pool::mean(counting, &x.iter().map(|x| x.size()[1]).collect::<Vec<_>>())?;
        Ok(Heads { images: of.len(), compared, best, weights, held_out, head })
    }

    /// The images that the stages are compared on, if not all.
    fn compared_on(&self, settings: &LinearSettings, samples: &[Sample]) -> Option<Vec<usize>> {
        let most = settings.compare_on.filter(|_| !settings.stages.is_empty())?;
        let labels: Vec<i64> = samples.iter().map(|sample| sample.label as i64).collect();
        let images =
            linear::stratified_subset(&labels, self.plan.data.classes.len(), most, self.plan.settings.seed);
        (images.len() < samples.len()).then_some(images)
    }
}

/// The lowest cross-validated log loss, the first on ties. If nothing could be held out, the last
/// single reading: the features, which are better known than those of a stage.
fn best(fits: &[Fit]) -> usize {
    let loss = |fit: &Fit| fit.cross_validated().map(|row| row.log_loss);
    let known = (0..fits.len()).filter_map(|index| Some((index, loss(&fits[index])?)));
    known
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(index, _)| index)
        .unwrap_or_else(|| fits.iter().rposition(|fit| fit.taps.len() == 1).unwrap_or(0))
}

/// The rows of some images.
pub(in crate::methods) fn taken(x: &[Tensor], images: &[usize]) -> Result<Vec<Tensor>> {
    let index: Vec<i64> = images.iter().map(|&image| image as i64).collect();
    let index = Tensor::f_from_slice(&index)?;
    let of = |x: &Tensor| x.f_index_select(0, &index);
    x.iter().map(of).collect::<Result<_, _>>().map_err(Error::torch("take rows of features"))
}

/// The concatenated features of several readings, and their widths.
fn joined(x: &[Tensor], taps: &[usize]) -> Result<(Tensor, Vec<i64>)> {
    let parts: Vec<&Tensor> = taps.iter().map(|&index| &x[index]).collect();
    let widths = parts.iter().map(|part| part.size()[1]).collect();
    match parts[..] {
        [single] => Ok((single.shallow_clone(), widths)),
        _ => Ok((Tensor::f_cat(&parts, 1).map_err(Error::torch("join the features of stages"))?, widths)),
    }
}
