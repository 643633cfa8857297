//! The heads that are fitted to features, compared with each other, and the one that is kept.

use std::borrow::Cow;

use tch::Tensor;

use crate::dataset::Sample;
use crate::error::{Error, Result};
use crate::linear::{self, CvRow, LinearConfig, LinearFit};
use crate::methods::Context;
use crate::metrics::{Counter, Evaluation};
use crate::models::Network;
use crate::plan::{LinearSettings, Settings};
use crate::recipe::ClassWeights;
use crate::trainer;

/// Logits that are computed at once at most: bounds the memory where there are thousands of classes.
const BLOCK_LOGITS: i64 = 1 << 26;

/// Features, and what a head that was fitted to them is worth inside `train`.
pub(in crate::methods) struct Fit {
    /// Which of the readings it is of.
    pub(super) readings: Vec<usize>,
    pub(super) fit: LinearFit,
}

/// What a fit is asked for besides the settings.
struct Fitting {
    /// A fixed C.
    c: Option<f64>,
    intercept: bool,
    loose: bool,
}

impl Fit {
    /// Cross-validated accuracy and log loss at the fit's own C.
    pub(super) fn cross_validated(&self) -> Option<&CvRow> {
        self.fit.cv.iter().find(|row| row.c == self.fit.c)
    }

    /// More accurate, or as accurate with a lower log loss.
    fn beats(&self, other: &Fit) -> bool {
        match (self.cross_validated(), other.cross_validated()) {
            (Some(row), Some(other)) => {
                row.accuracy > other.accuracy
                    || (row.accuracy == other.accuracy && row.log_loss < other.log_loss)
            }
            _ => false,
        }
    }

    /// What it is worth on images of which `x` has the rows of every reading.
    pub(in crate::methods) fn measure(
        &self,
        x: &[Tensor],
        labels: &Tensor,
        classes: usize,
    ) -> Result<Evaluation> {
        let x = joined(x, &self.readings)?;
        let mut counter = Counter::new(classes);
        let rows = x.size()[0];
        let block = (BLOCK_LOGITS / classes.max(1) as i64).max(1);
        for start in (0..rows).step_by(block as usize) {
            let length = block.min(rows - start);
            let logits = x
                .f_narrow(0, start, length)
                .and_then(|x| x.f_linear(&self.fit.weight, Some(&self.fit.bias)))
                .map_err(Error::torch("measure the head"))?;
            let labels = labels.f_narrow(0, start, length).map_err(Error::torch("take labels"))?;
            trainer::count(&logits, &labels, &mut counter)?;
        }
        Ok(counter.finish())
    }
}

impl Context<'_> {
    /// Fits a head to each stage's features and to all of them together, or to the one reading of `linear`; loosely, if they are
    /// only looked at, or fitted to more images afterwards.
    pub(in crate::methods) fn candidates(
        &self,
        network: &Network,
        settings: &LinearSettings,
        x: &[Tensor],
        samples: &[Sample],
        loose: bool,
    ) -> Result<Vec<Fit>> {
        let (x, samples) = match self.compared_on(settings, samples) {
            Some(images) => {
                (taken(x, &images)?, Cow::from_iter(images.iter().map(|&image| samples[image].clone())))
            }
            None => (x.iter().map(Tensor::shallow_clone).collect(), Cow::Borrowed(samples)),
        };
        let mut sets: Vec<Vec<usize>> = match settings.stages.is_empty() {
            true => vec![vec![0]],
            false => (0..x.len()).map(|index| vec![index]).collect(),
        };
        if settings.stages.len() > 1 {
            sets.push((0..x.len()).collect());
        }
        let intercept = has_biases(network, settings);
        let bar = self.observer.counting("fitting heads", sets.len());
        let fit = |(done, readings): (usize, Vec<usize>)| {
            bar.at(done);
            let x = joined(&x, &readings)?;
            let fitting = Fitting { c: settings.c, intercept, loose };
            let fit = self.fit(settings, fitting, &x, &samples)?;
            Ok(Fit { readings, fit })
        };
        sets.into_iter().enumerate().map(fit).collect()
    }

    /// The chosen one, fitted to all images where it was compared on a part of them.
    pub(in crate::methods) fn best(
        &self,
        network: &Network,
        settings: &LinearSettings,
        mut candidates: Vec<Fit>,
        x: &[Tensor],
        samples: &[Sample],
    ) -> Result<Fit> {
        let best = candidates.swap_remove(chosen(&candidates));
        match self.compared_on(settings, samples) {
            None => Ok(best),
            Some(_) => self.refitted(
                network,
                &LinearSettings { average: false, ..settings.clone() },
                best,
                x,
                samples,
            ),
        }
    }

    /// A head that was fitted to a part of the images, fitted to all; loosely, if it is one of several that are averaged.
    pub(super) fn refitted(
        &self,
        network: &Network,
        settings: &LinearSettings,
        candidate: Fit,
        x: &[Tensor],
        samples: &[Sample],
    ) -> Result<Fit> {
        let Fit { readings, fit: LinearFit { c, cv, held_out, folds, note, .. } } = candidate;
        let (x, whole) = (joined(x, &readings)?, LinearSettings { stages: Vec::new(), ..settings.clone() });
        let intercept = has_biases(network, settings);
        let fitting = Fitting { c: Some(c), intercept, loose: settings.average };
        let fit = self.fit(&whole, fitting, &x, samples)?;
        Ok(Fit { readings, fit: LinearFit { cv, held_out, folds, note, ..fit } })
    }

    /// Which of the images the stages are compared on, where it is not all of them.
    pub(super) fn compared_on(&self, settings: &LinearSettings, samples: &[Sample]) -> Option<Vec<usize>> {
        let Settings { seed, .. } = self.plan.settings;
        let most = settings.compare_on.filter(|_| !settings.stages.is_empty())?;
        let labels: Vec<i64> = samples.iter().map(|sample| sample.label as i64).collect();
        let images = linear::at_most(&labels, self.plan.data.classes.len(), most, seed);
        (images.len() < samples.len()).then_some(images)
    }

    fn fit(
        &self,
        settings: &LinearSettings,
        Fitting { c, intercept, loose }: Fitting,
        x: &Tensor,
        samples: &[Sample],
    ) -> Result<LinearFit> {
        let data = &self.plan.data;
        let config = LinearConfig {
            c,
            folds: settings.folds,
            seed: self.plan.settings.seed,
            class_weights: match settings.class_weights {
                ClassWeights::None => None,
                ClassWeights::Balanced => Some(trainer::balanced(data.classes.len(), samples)),
            },
            intercept,
            compare: !settings.stages.is_empty(),
            rough: settings.rough,
            loose,
            held_out: settings.average && !settings.stages.is_empty(),
        };
        let stop = || self.signals.received().is_some();
        let labels = trainer::labels_of(samples.iter())?;
        let fit = linear::fit(x, &labels, data.classes.len(), &config, &stop, &mut |_| ())?;
        fit.ok_or_else(|| Error::run("the fit was stopped"))
    }
}

/// The best by cross-validation, the first on ties. Where nothing could be held out it is the last single
/// reading: the features, of which more is known than of a stage's.
pub(super) fn chosen(candidates: &[Fit]) -> usize {
    if candidates.iter().all(|candidate| candidate.cross_validated().is_none()) {
        return candidates.iter().rposition(|candidate| candidate.readings.len() == 1).unwrap_or(0);
    }
    (1..candidates.len()).fold(0, |best, next| match candidates[next].beats(&candidates[best]) {
        true => next,
        false => best,
    })
}

/// A head on stages is `tl`'s own and has biases; any other is the network's.
fn has_biases(network: &Network, settings: &LinearSettings) -> bool {
    !settings.stages.is_empty() || network.classifier().bias().is_some()
}

/// The rows of some images.
pub(in crate::methods) fn taken(x: &[Tensor], images: &[usize]) -> Result<Vec<Tensor>> {
    let index: Vec<i64> = images.iter().map(|&image| image as i64).collect();
    let index = Tensor::f_from_slice(&index)?;
    let of = |x: &Tensor| x.f_index_select(0, &index);
    x.iter().map(of).collect::<Result<_, _>>().map_err(Error::torch("take rows of features"))
}

fn joined(x: &[Tensor], readings: &[usize]) -> Result<Tensor> {
    let parts: Vec<&Tensor> = readings.iter().map(|&index| &x[index]).collect();
    match parts[..] {
        [single] => Ok(single.shallow_clone()),
        _ => Tensor::f_cat(&parts, 1).map_err(Error::torch("join the features of stages")),
    }
}
