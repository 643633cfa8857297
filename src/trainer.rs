//! Training by gradient: one loop, from the first step to the last epoch.
//!
//! Nothing here prints: what happens goes to an [`Observer`], what comes out is returned. A run can stop
//! between any two steps and go on exactly: the order of the images, their augmentation and dropout are
//! functions of the seed and of the place, and the rest is in the checkpoint.

use std::path::PathBuf;
use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Reduction, Tensor};

use crate::artifact::{self, Card};
use crate::checkpoint::{self, Progress};
use crate::dataset::Sample;
use crate::error::{Error, Result};
use crate::loader::{Batch, Batching};
use crate::metrics::{Confusion, Evaluation};
use crate::models::{Network, Role, layers::Mode, seed_of};
use crate::optim::{
    AdamW, Decay, Ema, Optimizer, OptimizerConfig, ParamGroup, Schedule, Sgd, clip_grad_norm,
};
use crate::plan::{OptimizerSettings, ScheduleSettings, TrainSettings};
use crate::preprocess::{Augmentation, DecodeLimits, DrawKey, Preprocessing, decode_file};
use crate::recipe::{BatchNormMode, ClassWeights};
use crate::run_folder::RunFolder;
use crate::signal::Signals;
use crate::wording::counted;

/// What a training run is given.
pub struct Job<'a> {
    /// How to train.
    pub settings: &'a TrainSettings,
    /// How images become inputs.
    pub preprocessing: &'a Preprocessing,
    /// How training images vary.
    pub augment: &'a Augmentation,
    /// The most pixels that an image may have.
    pub limits: DecodeLimits,
    /// Names the images: a run goes on with the same ones only.
    pub listing: &'a str,
    /// Trained on.
    pub train: &'a [Sample],
    /// Measured on after each epoch.
    pub val: &'a [Sample],
    /// Number of classes.
    pub classes: usize,
    /// Where all randomness comes from.
    pub seed: u64,
    /// Threads that decode.
    pub threads: usize,
    /// Where checkpoints and the best model go.
    pub folder: &'a RunFolder,
    /// What the model file says about itself.
    pub card: &'a Card,
    /// Asked between two steps.
    pub signals: &'a Signals,
}

/// One epoch, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean training loss over the epoch, with label smoothing and class weights, in nats; that of auxiliary
    /// classifiers is not in it.
    pub train_loss: f64,
    /// The share of right predictions while training, on augmented images; on mixed ones, right is the class
    /// with the larger share.
    pub train_accuracy: f64,
    /// Mean cross-entropy on the validation images, in nats.
    pub val_loss: f64,
    /// The share of right predictions on the validation images.
    pub val_accuracy: f64,
    /// The body's learning rate at the last step.
    pub lr: f64,
    /// Training images per second.
    pub images_per_second: f64,
    /// Seconds, validation included.
    pub seconds: f64,
}

/// Where a run stands, for those who watch it.
pub struct Step {
    /// Counted from 1.
    pub epoch: usize,
    /// Steps done in this epoch.
    pub step: usize,
    /// Steps in an epoch.
    pub steps: usize,
    /// Mean training loss of the epoch so far.
    pub loss: f64,
    /// The share of right predictions of the epoch so far.
    pub accuracy: f64,
    /// Training images per second since the epoch began or the run went on.
    pub images_per_second: f64,
}

/// Watches a run.
pub trait Observer {
    /// After each step.
    fn step(&mut self, step: &Step);
    /// After each epoch; `best` if no earlier one was as good.
    fn epoch(&mut self, row: &EpochRow, best: bool);
}

/// The epoch with the best validation accuracy, the earliest on ties.
pub fn best(history: &[EpochRow]) -> Option<&EpochRow> {
    history.iter().reduce(|best, row| if row.val_accuracy > best.val_accuracy { row } else { best })
}

/// Trains `network` and returns the epochs. The best epoch's model is in the run folder afterwards.
///
/// The order of a start matters: the network comes with its pretrained values, the frozen prefix is fixed
/// before the optimizer is built (it holds the trained parameters only), and a checkpoint overwrites both.
pub fn train(
    job: &Job,
    network: &Network,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<Vec<EpochRow>> {
    let mut optimizer = optimizer(job.settings, network);
    let mut ema = ema(job.settings, network)?;
    let mut progress = match resume {
        true => {
            checkpoint::load(&job.folder.checkpoint(), network, &mut optimizer, ema.as_mut(), job.listing)?
        }
        false => Progress::default(),
    };
    job.folder.rewrite_metrics(&progress.history)?;
    let weights = class_weights(job, network.device())?;
    while progress.history.len() < job.settings.epochs && !stalled(job.settings, &progress.history) {
        let started = Instant::now();
        let before = progress.images;
        let lr =
            train_epoch(job, network, &mut optimizer, &mut ema, weights.as_ref(), &mut progress, observer)?;
        let images = progress.images - before;
        let trained = started.elapsed().as_secs_f64();
        let val = with_average(&mut ema, || evaluate(job, network, job.val));
        // A signal has ended the measuring early: all steps of the epoch are done, and that is saved.
        stop_here(job, network, &optimizer, ema.as_ref(), &progress)?;
        let val = val?;
        let row = EpochRow {
            epoch: progress.history.len() + 1,
            train_loss: progress.loss_sum / progress.images as f64,
            train_accuracy: progress.correct as f64 / progress.images as f64,
            val_loss: val.loss,
            val_accuracy: val.accuracy,
            lr,
            images_per_second: images as f64 / trained.max(1e-9),
            seconds: started.elapsed().as_secs_f64(),
        };
        if !row.val_loss.is_finite() {
            return Err(diverged(job, "validation loss", row.val_loss, row.epoch, progress.step));
        }
        let is_best = best(&progress.history).is_none_or(|best| row.val_accuracy > best.val_accuracy);
        // The model before the checkpoint: a run that dies between the two repeats the epoch and writes
        // the same model again.
        if is_best {
            with_average(&mut ema, || artifact::write(&job.folder.model(), network, job.card))?;
        }
        progress = Progress { history: progress.history, ..Progress::default() };
        progress.history.push(row.clone());
        let checkpoint = job.folder.checkpoint();
        checkpoint::save(&checkpoint, network, &optimizer, ema.as_ref(), &progress, job.listing)?;
        job.folder.append_metrics(&row)?;
        observer.epoch(&row, is_best);
    }
    Ok(progress.history)
}

/// Runs the steps of one epoch that `progress` has not done yet; returns the last learning rate.
fn train_epoch(
    job: &Job,
    network: &Network,
    optimizer: &mut Optimizer,
    ema: &mut Option<Ema>,
    class_weights: Option<&Tensor>,
    progress: &mut Progress,
    observer: &mut dyn Observer,
) -> Result<f64> {
    let epoch = progress.history.len();
    let accuracies: Vec<f64> = progress.history.iter().map(|row| row.val_accuracy).collect();
    let batching = batching(job);
    let steps = batching.batches(job.train.len());
    let schedule = schedule(job.settings, steps);
    let mode = Mode { dropout: true, batch_statistics: job.settings.batch_norm == BatchNormMode::Train };
    let order = order(job.seed, epoch, job.train.len());
    // The last batch may be larger than the others, so that a finished epoch is told by its steps.
    let done = if progress.step < steps { progress.step * job.settings.batch_size } else { order.len() };
    let rest = &order[done..];
    let labels = |batch: &Batch| labels_of(batch.indices.iter().map(|&i| &job.train[rest[i]]));
    // What the threads share is images and numbers; the rest of the job stays on this one.
    let Job { train, preprocessing, augment, limits, seed, .. } = *job;
    let (started, mut images) = (Instant::now(), 0);
    batching.run(
        rest.len(),
        |index| {
            let key = DrawKey { seed, epoch: epoch as u64, image: rest[index] as u64 };
            let image = decode_file(&train[rest[index]].path, limits)?;
            Ok(preprocessing.train_input(augment, &image, key))
        },
        |_, error| Err(error),
        |batch| {
            let global = epoch * steps + progress.step;
            stop_here(job, network, optimizer, ema.as_ref(), progress)?;
            // Dropout draws from libtorch's generator: set anew for each step, it needs no saving.
            tch::manual_seed(seed_of(job.seed, &format!("step {global}")));
            let labels = labels(&batch)?.f_to_device(network.device())?;
            let images_here = batch.images.f_to_device(network.device())?;
            let (images_here, targets) = mixed(job, global, images_here, labels)?;
            let (logits, auxiliary) = network.forward_with_auxiliaries(&images_here, mode)?;
            let smoothing = job.settings.label_smoothing;
            let loss_of = |logits: &Tensor| {
                logits
                    .f_cross_entropy_loss(&targets, class_weights, Reduction::Mean, -100, smoothing)
                    .map_err(Error::torch("compute the loss"))
            };
            let loss = loss_of(&logits)?;
            let value = loss.f_double_value(&[])?;
            if !value.is_finite() {
                return Err(diverged(job, "training loss", value, epoch + 1, progress.step + 1));
            }
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
            progress.loss_sum += value * batch.indices.len() as f64;
            progress.correct += right(&logits, &targets)?;
            progress.images += batch.indices.len();
            images += batch.indices.len();
            observer.step(&Step {
                epoch: epoch + 1,
                step: progress.step,
                steps,
                loss: progress.loss_sum / progress.images as f64,
                accuracy: progress.correct as f64 / progress.images as f64,
                images_per_second: images as f64 / started.elapsed().as_secs_f64().max(1e-9),
            });
            Ok(())
        },
    )?;
    stop_here(job, network, optimizer, ema.as_ref(), progress)?;
    let last = (epoch * steps + steps.saturating_sub(1)) as u64;
    Ok(job.settings.lr * schedule.factor(last, &accuracies))
}

/// Measures `network` on `samples`, in inference mode. A signal ends it with [`Error::Interrupted`].
pub fn evaluate(job: &Job, network: &Network, samples: &[Sample]) -> Result<Evaluation> {
    let mut confusion = Confusion::new(job.classes);
    let mut loss_sum = 0.;
    let batching = Batching { join_single: false, ..batching(job) };
    let Job { preprocessing, limits, .. } = *job;
    batching.run(
        samples.len(),
        |index| Ok(preprocessing.eval_pixels(&decode_file(&samples[index].path, limits)?)),
        |_, error| Err(error),
        |batch| {
            job.signals.check("stopped while measuring; the training is saved: go on with `--resume`")?;
            let labels = labels_of(batch.indices.iter().map(|&i| &samples[i]))?;
            let images = batch.images.f_to_device(network.device())?;
            let logits = tch::no_grad(|| network.forward(&images, Mode::INFERENCE))?;
            let logits = logits.f_to_device(Device::Cpu)?;
            loss_sum += count(&logits, &labels, &mut confusion)?;
            Ok(())
        },
    )?;
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

/// Predictions that are the target, or that have its largest share where the target is shares `[N, K]`.
fn right(logits: &Tensor, targets: &Tensor) -> Result<u64> {
    let labels = match targets.dim() {
        1 => targets.shallow_clone(),
        _ => targets.f_argmax(1, false)?,
    };
    let right = logits.f_argmax(1, false)?.f_eq_tensor(&labels)?.f_sum(Kind::Int64)?;
    Ok(right.f_int64_value(&[])? as u64)
}

fn batching<'a>(job: &Job<'a>) -> Batching<'a> {
    Batching {
        preprocessing: job.preprocessing,
        batch_size: job.settings.batch_size,
        join_single: job.settings.batch_norm == BatchNormMode::Train,
        threads: job.threads,
    }
}

/// The batch of a step as it is trained on: images and labels, or mixed images and shares of classes.
fn mixed(job: &Job, global: usize, images: Tensor, labels: Tensor) -> Result<(Tensor, Tensor)> {
    match job.settings.mixing.draw(job.seed, global as u64, job.preprocessing.crop_size) {
        Some(mixture) => mixture.apply(&images, &labels, job.classes),
        None => Ok((images, labels)),
    }
}

/// The average of the network's weights, if one is asked for.
fn ema(settings: &TrainSettings, network: &Network) -> Result<Option<Ema>> {
    let values = || network.vars().iter().map(|var| (var.key.clone(), var.tensor.shallow_clone()));
    settings.ema.map(|decay| Ema::new(decay, values())).transpose()
}

/// Does `work` with the averaged weights in the network, if weights are averaged.
fn with_average<T>(ema: &mut Option<Ema>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(ema) = ema else { return work() };
    ema.swap()?;
    let done = work();
    ema.swap()?;
    done
}

/// A signal ends the run between two steps, with everything saved.
fn stop_here(
    job: &Job,
    network: &Network,
    optimizer: &Optimizer,
    ema: Option<&Ema>,
    progress: &Progress,
) -> Result<()> {
    if job.signals.received().is_none() {
        return Ok(());
    }
    checkpoint::save(&job.folder.checkpoint(), network, optimizer, ema, progress, job.listing)?;
    job.signals.check(&format!(
        "stopped in epoch {} after {}; everything is saved in {}: go on with `--resume`",
        progress.history.len() + 1,
        counted(progress.step, "step", "steps"),
        job.folder.path().display()
    ))
}

fn diverged(job: &Job, what: &str, value: f64, epoch: usize, step: usize) -> Error {
    let model: PathBuf = job.folder.model();
    let kept = match model.exists() {
        true => format!("the best model so far is kept in {}", model.display()),
        false => "no epoch was finished, so there is no model yet".into(),
    };
    Error::run(format!(
        "the {what} became {value} in epoch {epoch}, step {step}: the training has diverged. Lower `train.lr` \
         (now {}) or set `train.clip_grad_norm: 1`, and start again with `--overwrite`; {kept}",
        job.settings.lr
    ))
}

/// Whether early stopping's patience is over.
fn stalled(settings: &TrainSettings, history: &[EpochRow]) -> bool {
    match (settings.early_stopping, best(history)) {
        (Some(patience), Some(best)) => history.len() - best.epoch >= patience,
        _ => false,
    }
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

/// Each class's weight in the loss: `total / (classes * images of the class)`, as scikit-learn's
/// `class_weight="balanced"`.
pub fn balanced(classes: usize, samples: &[Sample]) -> Vec<f64> {
    let mut counts = vec![0usize; classes];
    samples.iter().for_each(|sample| counts[sample.label] += 1);
    counts.iter().map(|&count| samples.len() as f64 / (classes * count.max(1)) as f64).collect()
}

fn class_weights(job: &Job, device: Device) -> Result<Option<Tensor>> {
    match job.settings.class_weights {
        ClassWeights::None => Ok(None),
        ClassWeights::Balanced => {
            let weights: Vec<f32> =
                balanced(job.classes, job.train).into_iter().map(|weight| weight as f32).collect();
            Ok(Some(Tensor::f_from_slice(&weights)?.f_to_device(device)?))
        }
    }
}

/// The update rule over four groups: head and body, each with and without weight decay.
fn optimizer(settings: &TrainSettings, network: &Network) -> Optimizer {
    let config = match settings.optimizer {
        OptimizerSettings::Sgd { momentum, nesterov } => OptimizerConfig::Sgd(Sgd { momentum, nesterov }),
        OptimizerSettings::AdamW => OptimizerConfig::AdamW(AdamW::default()),
    };
    let decays = |role: Role| settings.decay_norm_and_bias || role == Role::Weight;
    let groups =
        [(false, true), (false, false), (true, true), (true, false)].map(|(head, decay)| ParamGroup {
            params: network
                .trained()
                .filter(|(var, is_head)| *is_head == head && decays(var.role) == decay)
                .map(|(var, _)| (var.key.clone(), var.tensor.shallow_clone()))
                .collect(),
            lr: if head { settings.head_lr } else { settings.lr },
            weight_decay: if decay { settings.weight_decay } else { 0. },
        });
    Optimizer::new(config, groups.into())
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
