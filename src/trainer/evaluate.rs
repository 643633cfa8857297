//! Measuring a network on images.

use tch::{Kind, Reduction, Tensor};

use super::Job;
use super::kept::each_batch;
use super::store::Store;
use crate::dataset::Sample;
use crate::error::Result;
use crate::metrics::{Counter, Evaluation};
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
    let mut counter = Counter::new(job.classes);
    let parts = &job.parts;
    let logits = |network: &Network, xs: &Activations| {
        Download::begin(&parts.run_one(&xs.values, |values| network.logits_from(&xs.with(values)))?)
    };
    each_batch(job, network, samples, store, logits, |indices, logits| {
        job.signals.check("stopped while measuring; the training is saved: go on with `--resume`")?;
        let labels = labels_of(indices.iter().map(|&i| &samples[i]))?;
        count(&logits.wait()?, &labels, &mut counter)
    })?;
    Ok(counter.finish())
}

/// Counts predictions and their cross-entropies.
pub fn count(logits: &Tensor, labels: &Tensor, counter: &mut Counter) -> Result<()> {
    let loss = |reduction| logits.f_cross_entropy_loss::<Tensor>(labels, None, reduction, -100, 0.);
    counter.loss_sum += loss(Reduction::Sum)?.f_double_value(&[])?;
    counter.losses.extend(Vec::<f64>::try_from(loss(Reduction::None)?.f_to_kind(Kind::Double)?)?);
    let predictions = Vec::<i64>::try_from(logits.f_argmax(1, false)?)?;
    let truths = Vec::<i64>::try_from(labels.shallow_clone())?;
    for (truth, prediction) in truths.into_iter().zip(predictions) {
        counter.confusion.add(truth as usize, prediction as usize);
    }
    Ok(())
}

/// Labels as int64 `[N]` on the CPU.
pub fn labels_of<'a>(samples: impl Iterator<Item = &'a Sample>) -> Result<Tensor> {
    let labels: Vec<i64> = samples.map(|sample| sample.label as i64).collect();
    Ok(Tensor::f_from_slice(&labels)?)
}
