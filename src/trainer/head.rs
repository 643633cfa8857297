//! The linear head before fine-tuning: LP-FT (Kumar et al., "Fine-Tuning can Distort Pretrained
//! Features and Underperform Out-of-Distribution", ICLR 2022).
//!
//! The gradients of a random head change the stages before it until it has learnt something. A head
//! that is fitted to the features keeps them where they are already good.

use tch::Tensor;

use super::activation_cache::{ActivationCache, each_batch};
use super::evaluate::evaluate_from;
use super::{Observer, TrainingJob, balanced};
use crate::device::copy::Download;
use crate::error::{Error, Result};
use crate::inference::measure::labels_of;
use crate::linear::{self, LinearConfig};
use crate::models::{Activations, Network};
use crate::plan::LinearHeadSettings;
use crate::recipe::ClassWeights;
use crate::run::history::LinearHead;
use crate::stats::metrics::Counter;

/// Fits the head of `network` to its features of the training images, as seen by evaluation, and
/// measures it.
pub(super) fn fit_head(
    job: &TrainingJob,
    network: &Network,
    settings: &LinearHeadSettings,
    kept: &ActivationCache,
    observer: &mut dyn Observer,
) -> Result<LinearHead> {
    let stopped = "stopped while fitting the head: go on with `--resume`";
    let mut rows = Vec::new();
    let mut done = 0;
    let parts = &job.parts;
    let features = |network: &Network, xs: &Activations| {
        Download::begin(&parts.run_one(&xs.values, |values| network.features_from(&xs.with(values)))?)
    };
    each_batch(job, network, job.train, kept.train_as_in_evaluation(job), features, |indices, features| {
        job.signals.check(stopped)?;
        rows.push(features.wait()?);
        done += indices.len();
        observer.preparing("features", done, job.train.len());
        Ok(())
    })?;
    let features = Tensor::f_cat(&rows, 0).map_err(Error::torch("join the features"))?;
    let config = LinearConfig {
        c: settings.c,
        blocks: Vec::new(),
        folds: settings.folds,
        seed: job.seed,
        class_weights: match job.settings.class_weights {
            ClassWeights::None => None,
            ClassWeights::Balanced => Some(balanced(job.classes, job.train)),
        },
        intercept: network.classifier().bias().is_some(),
        compare: false,
        held_out: false,
    };
    let stop = || job.signals.received().is_some();
    let labels = labels_of(job.train.iter())?;
    let fit = linear::fit(&features, &labels, job.classes, &config, &stop, &mut |_| {})?;
    job.signals.check(stopped)?;
    let fit = fit.ok_or_else(|| Error::run("the fit was stopped"))?;
    linear::set_head(network, &fit.weight, &fit.bias, None)?;
    let val = evaluate_from(job, network, job.val, kept.val.as_ref(), Counter::new(job.classes))?;
    Ok(LinearHead {
        c: fit.c,
        cross_validated: fit.cv.iter().find(|row| row.c == fit.c).map(|row| row.accuracy),
        val_accuracy: val.accuracy,
        val_loss: val.loss,
        iterations: fit.iterations,
        converged: fit.converged,
        note: fit.note,
    })
}
