//! Evaluates a network on images.

use super::TrainingJob;
use super::activation_cache::each_batch;
use super::row_store::RowStore;
use crate::data::Sample;
use crate::device::copy::Download;
use crate::error::Result;
use crate::inference::measure::{count, labels_of};
use crate::models::{Activations, Network};
use crate::stats::metrics::{Counter, Evaluation};

/// Evaluates `network` on `samples`, in inference mode, and keeps the probabilities. A signal ends it with
/// [`Error::Interrupted`](crate::Error::Interrupted).
pub fn evaluate(job: &TrainingJob, network: &Network, samples: &[Sample]) -> Result<Evaluation> {
    evaluate_from(job, network, samples, None, Counter::with_scores(job.classes))
}

/// As [`evaluate`], from the kept output of the frozen stages, if any: the same to the last bit,
/// because the batches are the same. `counter` is empty, and keeps probabilities or not.
pub(super) fn evaluate_from(
    job: &TrainingJob,
    network: &Network,
    samples: &[Sample],
    store: Option<&RowStore>,
    mut counter: Counter,
) -> Result<Evaluation> {
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
