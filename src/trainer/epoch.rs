//! The steps of one epoch.

use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tch::Tensor;

use super::activation_cache::view_of;
use super::deferred_metrics::DeferredMetrics;
use super::device_steps::{clip, put_back, smaller_parts, unscale};
use super::gradient::{BatchOutcome, Learner};
use super::row_store::RowStore;
use super::{Observer, State, Step, TrainingJob, batching, groups};
use crate::data::loader::Layout;
use crate::device::back_off::with_back_off;
use crate::device::copy::upload;
use crate::error::Result;
use crate::inference::measure::labels_of;
use crate::models::{Activations, Network, layers::Mode};
use crate::optim::{Decay, Schedule};
use crate::plan::{ScheduleSettings, TrainSettings};
use crate::preprocess::DrawKey;
use crate::recipe::BatchNormMode;
use crate::util::random::seed_of;

/// Runs the steps of one epoch that `progress` has not done yet; returns the last learning rate. If
/// the output of the frozen stages was `kept`, no image is decoded.
pub(super) fn train_epoch(
    job: &TrainingJob,
    network: &Network,
    kept: Option<&RowStore>,
    state: &mut State,
    class_weights: Option<&Tensor>,
    observer: &mut dyn Observer,
) -> Result<f64> {
    let epoch = state.progress.history.len();
    let batching = batching(job);
    let steps = batching.batches(job.train.len());
    let mode = Mode { dropout: true, batch_statistics: job.settings.batch_norm == BatchNormMode::Train };
    let view = view_of(job, epoch);
    let rest = &rest(job, epoch, steps, state.progress.step)[..];
    let device = network.device();
    let mut under_way = Epoch {
        learner: Learner { job, network, held: groups::held(job, network, epoch), mode, class_weights },
        epoch,
        steps,
        schedule: schedule(job.settings, steps),
        accuracies: state.progress.history.iter().map(|row| row.val_accuracy).collect(),
        deferred: DeferredMetrics::new(device),
        proven: false,
        started: Instant::now(),
        images: 0,
        state,
        observer,
    };
    match kept {
        Some(store) => batching.spans(rest.len()).try_for_each(|span| {
            let rows: Vec<usize> = rest[span.clone()].iter().map(|&i| view_row(job, view, i)).collect();
            under_way.step(&rest[span], || {
                let values = upload(&store.read(&rows, job.folder)?, device)?;
                Ok(Activations { stages: network.frozen(), values })
            })
        })?,
        None => {
            // Threads share images and numbers only; the rest of the job stays on this one.
            let TrainingJob { train, preprocessing, augment, limits, seed, .. } = *job;
            batching.run_on(
                device,
                if network.trains_channels_last() { Layout::ChannelsLast } else { Layout::Planes },
                rest.len(),
                |index| {
                    let key = DrawKey { seed, epoch: view as u64, image: rest[index] as u64 };
                    preprocessing.read_train(augment, train[rest[index]].image(), limits, key)
                },
                |_, error| Err(error),
                |batch| {
                    let images: Vec<usize> = batch.indices.iter().map(|&index| rest[index]).collect();
                    under_way.step(&images, || network.enter(&batch.images))
                },
            )?
        }
    }
    under_way.finish()
}

/// An epoch in progress.
struct Epoch<'a, 's> {
    learner: Learner<'a>,
    /// Counted from 0.
    epoch: usize,
    steps: usize,
    schedule: Schedule,
    /// On the validation images, of the previous epochs.
    accuracies: Vec<f64>,
    deferred: DeferredMetrics,
    /// Whether memory was enough for a step.
    proven: bool,
    started: Instant,
    /// Images trained on since it was started.
    images: usize,
    state: &'s mut State,
    observer: &'s mut dyn Observer,
}

impl Epoch<'_, '_> {
    /// A step on these training images; `xs` returns their activations.
    fn step(&mut self, images: &[usize], xs: impl FnOnce() -> Result<Activations>) -> Result<()> {
        let (job, network) = (self.learner.job, self.learner.network);
        let global = self.epoch * self.steps + self.state.progress.step;
        if job.signals.received().is_some() {
            self.deferred.settle(job, self.epoch + 1, &mut self.state.progress)?;
        }
        self.state.stop_here(job, network)?;
        let device = network.device();
        let labels = labels_of(images.iter().map(|&image| &job.train[image]))?;
        let (xs, targets) = mixed(job, global, xs()?, upload(&labels, device)?)?;
        let outcome = self.gradient(global, images.len(), &xs, &targets)?;
        let State { optimizer, ema, progress, scale, .. } = &mut *self.state;
        let finite = match scale {
            None => true,
            Some(scale) => unscale(job, network, scale, self.epoch + 1, progress.step + 1)?,
        };
        let mut norm = None;
        if let Some(most) = job.settings.clip_grad_norm.filter(|_| finite) {
            norm = Some(clip(network.trained().map(|(var, _)| &var.tensor), most, device)?);
        }
        self.deferred.push((progress.step + 1, images.len()), outcome, norm, !finite);
        if self.deferred.is_full() {
            self.deferred.settle(job, self.epoch + 1, progress)?;
        }
        if finite {
            optimizer.step(self.schedule.factor(global as u64, &self.accuracies))?;
        }
        if let Some(ema) = ema {
            // Weights in warm-up are not part of the average.
            ema.update(global == 0 || self.epoch < job.settings.warmup_epochs)?;
        }
        progress.step += 1;
        self.images += images.len();
        self.tell();
        Ok(())
    }

    /// Loss and gradients of a batch, in smaller parts if memory runs out.
    fn gradient(
        &mut self,
        global: usize,
        images: usize,
        xs: &Activations,
        targets: &Tensor,
    ) -> Result<BatchOutcome> {
        let (learner, device) = (&self.learner, self.learner.network.device());
        let State { optimizer, scale, most_at_once, .. } = &mut *self.state;
        let before = *most_at_once;
        // Memory that is enough for the first step is enough for the others.
        let statistics = if self.proven { Vec::new() } else { learner.statistics()? };
        let outcome = with_back_off(most_at_once, images, learner.least(), device, |most| {
            if most != before {
                put_back(&statistics)?;
            }
            // Dropout draws from libtorch's generator: seeded for each step, it need not be saved.
            tch::manual_seed(seed_of(learner.job.seed, &format!("step {global}")));
            optimizer.zero_grad()?;
            learner.gradient(xs, targets, most, scale.as_ref())
        })?;
        self.proven = true;
        if *most_at_once != before {
            self.observer.note(&smaller_parts(learner, *most_at_once, images));
        }
        Ok(outcome)
    }

    fn tell(&mut self) {
        let progress = &self.state.progress;
        let seen = progress.images.max(1) as f64;
        self.observer.step(&Step {
            epoch: self.epoch + 1,
            step: progress.step,
            steps: self.steps,
            loss: progress.loss_sum / seen,
            accuracy: progress.correct as f64 / seen,
            images_per_second: self.images as f64 / self.started.elapsed().as_secs_f64().max(1e-9),
        });
    }

    /// The learning rate of the last step.
    fn finish(mut self) -> Result<f64> {
        let (job, network) = (self.learner.job, self.learner.network);
        self.deferred.settle(job, self.epoch + 1, &mut self.state.progress)?;
        self.state.stop_here(job, network)?;
        let last = (self.epoch * self.steps + self.steps.saturating_sub(1)) as u64;
        Ok(job.settings.lr * self.schedule.factor(last, &self.accuracies))
    }
}

/// The training images that an epoch has not seen after `step` of its steps.
fn rest(job: &TrainingJob, epoch: usize, steps: usize, step: usize) -> Vec<usize> {
    let mut order = order(job.seed, epoch, job.train.len());
    // The last batch may be larger than the others, so a finished epoch is recognised by its steps.
    let done = if step < steps { step * job.settings.batch_size } else { order.len() };
    order.split_off(done)
}

/// The row of a training image in the store: view after view. Without augmentation there is one
/// view.
fn view_row(job: &TrainingJob, view: usize, image: usize) -> usize {
    let view = if job.augment.is_none() { 0 } else { view };
    view * job.train.len() + image
}

/// The batch of a step as trained on: images and labels, or mixed images and shares of classes.
/// Mixed images have not been through any stage: see [`super::kept`].
fn mixed(job: &TrainingJob, global: usize, xs: Activations, labels: Tensor) -> Result<(Activations, Tensor)> {
    match job.settings.mixing.draw(job.seed, global as u64, job.preprocessing.crop_size) {
        Some(mixture) => {
            let (values, targets) = mixture.apply(&xs.values, &labels, job.classes)?;
            Ok((Activations { values, ..xs }, targets))
        }
        None => Ok((xs, labels)),
    }
}

/// The order of the images in an epoch: a shuffle that depends only on seed and epoch.
fn order(seed: u64, epoch: usize, count: usize) -> Vec<usize> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed_of(seed, &format!("order {epoch}")) as u64);
    let mut order: Vec<usize> = (0..count).collect();
    // Fisher and Yates. The bias of a remainder of 64 bits is below 1e-12 for any number of images.
    for last in (1..count).rev() {
        order.swap(last, (generator.next_u64() % (last as u64 + 1)) as usize);
    }
    order
}

fn schedule(settings: &TrainSettings, steps_per_epoch: usize) -> Schedule {
    Schedule {
        decay: match settings.schedule {
            ScheduleSettings::Constant => Decay::Constant,
            ScheduleSettings::Cosine => Decay::Cosine,
            ScheduleSettings::Step { epochs, gamma } => Decay::Step { epochs: epochs as u64, gamma },
            ScheduleSettings::Plateau { patience, gamma } => {
                Decay::Plateau { patience: patience as u64, gamma }
            }
        },
        warmup_steps: (settings.warmup_epochs * steps_per_epoch) as u64,
        steps_per_epoch: steps_per_epoch as u64,
        epochs: settings.epochs as u64,
    }
}
