//! The steps of one epoch.

use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tch::{Kind, Reduction, Tensor};

use super::evaluate::labels_of;
use super::kept::view_of;
use super::store::Store;
use super::{Job, Observer, State, Step, batching, diverged, groups};
use crate::error::{Error, Result};
use crate::models::{Activations, Network, channels_last, layers::Mode, seed_of};
use crate::optim::{Decay, Schedule, clip_grad_norm};
use crate::plan::{ScheduleSettings, TrainSettings};
use crate::preprocess::DrawKey;
use crate::recipe::BatchNormMode;

/// Runs the steps of one epoch that `progress` has not done yet; returns the last learning rate. Where the
/// output of the frozen stages was `kept`, no image is decoded.
pub(super) fn train_epoch(
    job: &Job,
    network: &Network,
    kept: Option<&Store>,
    state: &mut State,
    class_weights: Option<&Tensor>,
    observer: &mut dyn Observer,
) -> Result<f64> {
    let epoch = state.progress.history.len();
    let accuracies: Vec<f64> = state.progress.history.iter().map(|row| row.val_accuracy).collect();
    let batching = batching(job);
    let steps = batching.batches(job.train.len());
    let schedule = schedule(job.settings, steps);
    let mode = Mode { dropout: true, batch_statistics: job.settings.batch_norm == BatchNormMode::Train };
    let held = groups::held(job, network, epoch);
    let view = view_of(job, epoch);
    let order = order(job.seed, epoch, job.train.len());
    // The last batch may be larger than the others, so that a finished epoch is told by its steps.
    let step = state.progress.step;
    let done = if step < steps { step * job.settings.batch_size } else { order.len() };
    let rest = &order[done..];
    let arranged = network.trains_channels_last();
    let (started, mut images) = (Instant::now(), 0);
    let mut step = |indices: &[usize], xs: &dyn Fn() -> Result<Activations>| {
        let global = epoch * steps + state.progress.step;
        state.stop_here(job, network)?;
        // Dropout draws from libtorch's generator: set anew for each step, it needs no saving.
        tch::manual_seed(seed_of(job.seed, &format!("step {global}")));
        let labels = labels_of(indices.iter().map(|&i| &job.train[rest[i]]))?;
        let labels = labels.f_to_device(network.device())?;
        let (xs, targets) = mixed(job, global, xs()?, labels)?;
        let (logits, auxiliary) = network.forward_from(&xs, held, mode)?;
        let smoothing = job.settings.label_smoothing;
        let loss_of = |logits: &Tensor| {
            logits
                .f_cross_entropy_loss(&targets, class_weights, Reduction::Mean, -100, smoothing)
                .map_err(Error::torch("compute the loss"))
        };
        let loss = loss_of(&logits)?;
        let value = loss.f_double_value(&[])?;
        if !value.is_finite() {
            return Err(diverged(job, "training loss", value, epoch + 1, state.progress.step + 1));
        }
        let State { optimizer, ema, progress } = &mut *state;
        optimizer.zero_grad()?;
        let aux_weight = job.settings.aux_weight.unwrap_or_default();
        let loss = auxiliary.iter().try_fold(loss, |loss, logits| -> Result<Tensor> {
            Ok(loss.f_add(&loss_of(logits)?.f_mul_scalar(aux_weight)?)?)
        })?;
        loss.f_backward().map_err(Error::torch("compute the gradient"))?;
        if let Some(norm) = job.settings.clip_grad_norm {
            let found = clip_grad_norm(network.trained().map(|(var, _)| &var.tensor), norm)?;
            if !found.is_finite() {
                return Err(diverged(job, "gradient's norm", found, epoch + 1, progress.step + 1));
            }
        }
        optimizer.step(schedule.factor(global as u64, &accuracies))?;
        if let Some(ema) = ema {
            // Weights that are still warming up are no part of the average.
            ema.update(global == 0 || epoch < job.settings.warmup_epochs)?;
        }

        progress.step += 1;
        progress.loss_sum += value * indices.len() as f64;
        progress.correct += right(&logits, &targets)?;
        progress.images += indices.len();
        images += indices.len();
        observer.step(&Step {
            epoch: epoch + 1,
            step: progress.step,
            steps,
            loss: progress.loss_sum / progress.images as f64,
            accuracy: progress.correct as f64 / progress.images as f64,
            images_per_second: images as f64 / started.elapsed().as_secs_f64().max(1e-9),
        });
        Ok(())
    };
    match kept {
        Some(store) => batching.spans(rest.len()).try_for_each(|span| {
            let rows: Vec<usize> = rest[span.clone()].iter().map(|&i| view_row(job, view, i)).collect();
            step(&span.collect::<Vec<_>>(), &|| {
                let values = store.read(&rows, job.folder)?.f_to_device(network.device())?;
                Ok(Activations { stages: network.frozen(), values })
            })
        })?,
        None => {
            // What the threads share is images and numbers; the rest of the job stays on this one.
            let Job { train, preprocessing, augment, limits, seed, .. } = *job;
            batching.run(
                rest.len(),
                |index| {
                    let key = DrawKey { seed, epoch: view as u64, image: rest[index] as u64 };
                    preprocessing.read_train(augment, &train[rest[index]].path, limits, key)
                },
                |_, error| Err(error),
                |batch| {
                    step(&batch.indices, &|| {
                        let images = batch.images.f_to_device(network.device())?;
                        network.enter(&if arranged { channels_last(&images)? } else { images })
                    })
                },
            )?
        }
    }
    state.stop_here(job, network)?;
    let last = (epoch * steps + steps.saturating_sub(1)) as u64;
    Ok(job.settings.lr * schedule.factor(last, &accuracies))
}

/// The row of a training image in the store: one view after the other. Without augmentation there is one.
fn view_row(job: &Job, view: usize, image: usize) -> usize {
    let view = if job.augment.is_none() { 0 } else { view };
    view * job.train.len() + image
}

/// The batch of a step as it is trained on: images and labels, or mixed images and shares of classes. Images
/// that are mixed have not been through any stage: see [`super::kept`].
fn mixed(job: &Job, global: usize, xs: Activations, labels: Tensor) -> Result<(Activations, Tensor)> {
    match job.settings.mixing.draw(job.seed, global as u64, job.preprocessing.crop_size) {
        Some(mixture) => {
            let (values, targets) = mixture.apply(&xs.values, &labels, job.classes)?;
            Ok((Activations { values, ..xs }, targets))
        }
        None => Ok((xs, labels)),
    }
}

/// Predictions that are the target, or that have its largest share where the target is shares `[N, K]`.
fn right(logits: &Tensor, targets: &Tensor) -> Result<u64> {
    let labels = match targets.dim() {
        1 => targets.shallow_clone(),
        _ => targets.f_argmax(1, false)?,
    };
    let right = logits.f_argmax(1, false)?.f_eq_tensor(&labels)?.f_sum(Kind::Int64)?;
    Ok(right.f_int64_value(&[])? as u64)
}

/// The order in which an epoch sees the images: a shuffle that depends on seed and epoch alone.
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
