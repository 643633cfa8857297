//! Measuring a network on images.

use tch::{Reduction, Tensor};

use super::Job;
use super::kept::each_batch;
use super::store::Store;
use crate::dataset::Sample;
use crate::error::Result;
use crate::metrics::{Confusion, Evaluation};
use crate::models::{Activations, Network};
use crate::transfer::Download;

/// Measures `network` on `samples`, in inference mode. A signal ends it with
/// [`Error::Interrupted`](crate::Error::Interrupted).
pub fn evaluate(job: &Job, network: &Network, samples: &[Sample]) -> Result<Evaluation> {
    evaluate_from(job, network, samples, None)
}

/// The same, from the output of the frozen stages where it was kept: to the last bit what [`evaluate`] says,
/// for the batches are the same.
pub(super) fn evaluate_from(
    job: &Job,
    network: &Network,
    samples: &[Sample],
    store: Option<&Store>,
) -> Result<Evaluation> {
    let mut confusion = Confusion::new(job.classes);
    let mut loss_sum = 0.;
    let parts = &job.parts;
    let logits = |network: &Network, xs: &Activations| {
        Download::begin(&parts.run_one(&xs.values, |values| network.logits_from(&xs.with(values)))?)
    };
    each_batch(job, network, samples, store, logits, |indices, logits| {
        job.signals.check("stopped while measuring; the training is saved: go on with `--resume`")?;
        let labels = labels_of(indices.iter().map(|&i| &samples[i]))?;
        loss_sum += count(&logits.wait()?, &labels, &mut confusion)?;
        Ok(())
    })?;
    let loss = loss_sum / confusion.total().max(1) as f64;
    Ok(Evaluation { loss, accuracy: confusion.accuracy(), confusion })
}

/// Counts predictions and returns the sum of the cross-entropies.
pub fn count(logits: &Tensor, labels: &Tensor, confusion: &mut Confusion) -> Result<f64> {
    let loss =
        logits.f_cross_entropy_loss::<Tensor>(labels, None, Reduction::Sum, -100, 0.)?.f_double_value(&[])?;
    let predictions = Vec::<i64>::try_from(logits.f_argmax(1, false)?)?;
    let truths = Vec::<i64>::try_from(labels.shallow_clone())?;
    for (truth, prediction) in truths.into_iter().zip(predictions) {
        confusion.add(truth as usize, prediction as usize);
    }
    Ok(loss)
}

/// Labels as int64 `[N]` on the CPU.
pub fn labels_of<'a>(samples: impl Iterator<Item = &'a Sample>) -> Result<Tensor> {
    let labels: Vec<i64> = samples.map(|sample| sample.label as i64).collect();
    Ok(Tensor::f_from_slice(&labels)?)
}
