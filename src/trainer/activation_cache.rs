//! Outputs of the frozen prefix for each image, computed once and kept: in memory up to a limit,
//! then in a file in the run folder. The file has no name, so it vanishes with the process, however
//! that ends. A resumed run computes the prefix again, in the same batches, and so to the same
//! bits.

use tch::{Kind, Tensor};

use super::row_store::{RowStore, gigabytes, row_bytes};
use super::{Observer, TrainingJob, batching};
use crate::data::Sample;
use crate::data::loader::Batching;
use crate::device::copy::{Download, upload};
use crate::error::{Error, Result};
use crate::inference::Inference;
use crate::models::{Activations, Folding, Network, channels_last};
use crate::plan::CacheSettings;
use crate::preprocess::DrawKey;

/// The kept rows of a run's images; none without frozen stages.
#[derive(Default)]
pub(super) struct ActivationCache {
    /// A row for each view of each training image: all images by the first view, then by the
    /// second.
    pub train: Option<RowStore>,
    /// A row for each validation image.
    pub val: Option<RowStore>,
    /// A note if rows were to be kept but were not.
    pub note: Option<String>,
}

impl ActivationCache {
    /// Decides what to keep, and computes it. The decision depends only on the plan and the images.
    pub(super) fn compute(
        job: &TrainingJob,
        network: &Network,
        observer: &mut dyn Observer,
    ) -> Result<ActivationCache> {
        let mut kept = ActivationCache::default();
        let Some(settings) = job.settings.kept.filter(|_| network.frozen() > 0) else { return Ok(kept) };
        let shape = row_shape(job, network)?;
        let row = row_bytes(&shape);
        let mut room = Room::of(settings);
        let views = views(job);
        let total = job.val.len() + views * job.train.len();
        let mut done = 0;
        let mut progress = |images: usize| {
            done += images;
            observer.preparing("frozen stages", done, total);
        };
        if let Some(memory) = room.take(job.val.len().saturating_mul(row)) {
            let mut store = RowStore::new(shape.clone(), job.val.len(), memory, job.folder)?;
            let samples = job.val;
            fill(job, network, samples, &mut store, None, &mut progress)?;
            kept.val = Some(store);
        }
        let rows = views.saturating_mul(job.train.len());
        if rows > 0 {
            match room.take(rows.saturating_mul(row)) {
                Some(memory) => {
                    let mut store = RowStore::new(shape, rows, memory, job.folder)?;
                    for view in 0..views {
                        fill(job, network, job.train, &mut store, Some(view), &mut progress)?;
                    }
                    kept.train = Some(store);
                }
                None => {
                    kept.note = Some(format!(
                        "the output of the frozen stages for the training images would take {}, more than \
                         `train.keep_memory` and `train.keep_disk` allow: it is computed anew in each epoch",
                        gigabytes(rows.saturating_mul(row))
                    ));
                }
            }
        }
        Ok(kept)
    }

    /// The training rows, if they are the same as evaluation's.
    pub(super) fn train_as_in_evaluation(&self, job: &TrainingJob) -> Option<&RowStore> {
        self.train.as_ref().filter(|_| job.augment.is_none())
    }
}

/// Number of rows of each training image: one if its pixels are the same in every epoch, the
/// recipe's number if they are random, and none if keeping them would save nothing.
pub(super) fn views(job: &TrainingJob) -> usize {
    if !job.settings.mixing.is_none() {
        // Mixing applies to images, and differs in every step.
        return 0;
    }
    let views = if job.augment.is_none() { 1 } else { job.settings.kept_views };
    // The head's fit sees evaluation's pixels too.
    let head = usize::from(job.augment.is_none() && job.settings.linear_head.is_some());
    if views < job.settings.epochs + head { views } else { 0 }
}

/// The draw of the augmentation in an epoch (from 0).
pub(super) fn view_of(job: &TrainingJob, epoch: usize) -> usize {
    match job.settings.kept_views {
        0 => epoch,
        views => epoch % views,
    }
}

/// Calls `compute` with the evaluation batches of `samples` after the first stages, from `store` if
/// it has them; then `each` with the indices and the results, in order. The network has its current
/// values, folded.
pub(super) fn each_batch<T: Send>(
    job: &TrainingJob,
    network: &Network,
    samples: &[Sample],
    store: Option<&RowStore>,
    compute: impl Fn(&Network, &Activations) -> Result<T> + Sync,
    mut each: impl FnMut(&[usize], T) -> Result<()>,
) -> Result<()> {
    let batching = Batching { join_single: false, ..batching(job) };
    let inference = Inference::new(&[network], samples.len(), job.threads, Folding::Folded)?;
    let (preprocessing, limits, folder, frozen) =
        (job.preprocessing, job.limits, job.folder, network.frozen());
    let Some(store) = store else {
        return inference.images(
            &batching,
            0..samples.len(),
            |index| preprocessing.read_eval(samples[index].image(), limits),
            |network, images, _| compute(network, &network.enter(images)?),
            |_, error| Err(error),
            each,
        );
    };
    inference.run(
        0..samples.len(),
        inference.size(batching.batch_size, preprocessing.crop_size),
        |span| store.read(&span.collect::<Vec<_>>(), folder),
        |networks, rows| {
            let Some(network) = networks.first() else { return Err(Error::run("there is no network")) };
            // In the memory layout of the previous stage.
            let values = if rows.dim() == 4 { channels_last(&rows)? } else { rows };
            let values = upload(&values, network.device())?;
            compute(network, &Activations { stages: frozen, values })
        },
        |span, made| each(&span.collect::<Vec<_>>(), made),
    )
}

/// Runs the prefix on `samples`: on the pixels of evaluation, or on those of one view of training.
fn fill(
    job: &TrainingJob,
    network: &Network,
    samples: &[Sample],
    store: &mut RowStore,
    view: Option<usize>,
    progress: &mut dyn FnMut(usize),
) -> Result<()> {
    let batching = Batching { join_single: false, ..batching(job) };
    let TrainingJob { preprocessing, augment, limits, seed, ref parts, .. } = *job;
    let inference = Inference::new(&[network], samples.len(), job.threads, Folding::Folded)?;
    inference.images(
        &batching,
        0..samples.len(),
        |index| {
            let image = samples[index].image();
            match view {
                None => Ok(preprocessing.read_eval(image, limits)?.into()),
                Some(view) => {
                    let key = DrawKey { seed, epoch: view as u64, image: index as u64 };
                    preprocessing.read_train(augment, image, limits, key)
                }
            }
        },
        |network, images, _| {
            Download::begin(&parts.run_one(images, |images| Ok(network.prefix(images)?.values))?)
        },
        |_, error| Err(error),
        |indices, values| {
            job.signals.check("stopped while computing the frozen stages: go on with `--resume`")?;
            store.push(&values.wait()?, job.folder)?;
            progress(indices.len());
            Ok(())
        },
    )
}

/// The remaining memory and file space, in bytes.
struct Room {
    memory: usize,
    disk: usize,
}

impl Room {
    fn of(settings: CacheSettings) -> Room {
        Room {
            memory: settings.memory_mib.saturating_mul(1 << 20),
            disk: settings.disk_mib.saturating_mul(1 << 20),
        }
    }

    /// Takes `bytes`, memory first; returns how many of them are in memory, or `None` without room.
    fn take(&mut self, bytes: usize) -> Option<usize> {
        let memory = bytes.min(self.memory);
        let disk = bytes - memory;
        if disk > self.disk {
            return None;
        }
        self.memory -= memory;
        self.disk -= disk;
        Some(memory)
    }
}

/// Shape of the prefix's output for one image.
fn row_shape(job: &TrainingJob, network: &Network) -> Result<Vec<i64>> {
    let side = i64::from(job.preprocessing.crop_size);
    let image = Tensor::f_zeros([1, 3, side, side], (Kind::Float, network.device()))
        .map_err(Error::torch("make an image"))?;
    Ok(network.prefix(&image)?.values.size()[1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_up_before_the_file_and_what_fits_in_neither_is_not_kept() {
        let mut room = Room { memory: 100, disk: 50 };
        assert_eq!(room.take(80), Some(80));
        assert_eq!(room.take(60), Some(20));
        assert_eq!(room.take(11), None);
        assert_eq!(room.take(10), Some(0));
    }
}
