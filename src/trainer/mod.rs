//! Training by gradient: one loop, from the first step to the last epoch.
//!
//! Nothing here prints: events go to an [`Observer`], results are returned. A run can stop between
//! any two steps and resume exactly: the order of the images, their augmentation and dropout are
//! functions of the seed and the position, and the rest is in the checkpoint.

mod activation_cache;
mod deferred_metrics;
mod device_steps;
mod epoch;
mod evaluate;
mod forward_counts;
mod gradient;
mod groups;
mod head;
mod kept_epoch;
mod row_store;
mod state;

use std::path::PathBuf;
use std::time::Instant;

use tch::{Device, Tensor};

use crate::data::Sample;
use crate::data::loader::Batching;
use crate::device::back_off::BackOff;
use crate::error::{Error, Result};
use crate::models::Network;
use crate::optim::Ema;
use crate::plan::TrainSettings;
use crate::preprocess::{Augmentation, DecodeLimits, Preprocessing};
use crate::recipe::{ClassWeights, Monitor};
use crate::run::checkpoint::{self, TrainingProgress};
use crate::run::folder::RunFolder;
use crate::run::history::{EpochRow, LinearHead};
use crate::stats::metrics::{Counter, Evaluation};
use crate::stats::per_class::{Averages, balanced_accuracy};
use crate::text::path_text::path_text;
use crate::util::signal::Signals;
use crate::weights::card::Card;
use crate::weights::write_model;

pub use evaluate::evaluate;
pub use forward_counts::ForwardCount;
pub use kept_epoch::{KeptEpoch, StoppedEarly, best};

use activation_cache::ActivationCache;
use epoch::train_epoch;
use evaluate::evaluate_from;
use head::fit_head;
use kept_epoch::{reason, stalled};
use state::State;

/// Inputs of a training run.
pub struct TrainingJob<'a> {
    /// Training settings.
    pub settings: &'a TrainSettings,
    /// Conversion of images to inputs.
    pub preprocessing: &'a Preprocessing,
    /// Random changes to training images.
    pub augment: &'a Augmentation,
    /// Limits of decoding.
    pub limits: DecodeLimits,
    /// Identifies the images: a run resumes with the same ones only.
    pub fingerprint: &'a str,
    /// Trained on.
    pub train: &'a [Sample],
    /// Measured on after each epoch.
    pub val: &'a [Sample],
    /// Measured on at the end, by the caller.
    pub test: Option<&'a [Sample]>,
    /// Number of classes.
    pub classes: usize,
    /// The seed of all randomness.
    pub seed: u64,
    /// Number of decoding threads.
    pub threads: usize,
    /// The folder of checkpoints and the best model.
    pub folder: &'a RunFolder,
    /// Metadata of the model file.
    pub card: &'a Card,
    /// Checked between two steps.
    pub signals: &'a Signals,
    /// How much of a batch is measured at once.
    pub parts: BackOff,
}

/// Progress of a run, for observers.
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
    /// Training images per second since the epoch began or the run resumed.
    pub images_per_second: f64,
}

/// Observer of a run.
pub trait Observer {
    /// After each step.
    fn step(&mut self, step: &Step);
    /// After each epoch; `best` if it is kept unless a later one is better.
    fn epoch(&mut self, row: &EpochRow, best: bool);
    /// During computations before the first epoch: `done` of `total` images.
    fn preparing(&mut self, what: &str, done: usize, total: usize) {
        let _ = (what, done, total);
    }
    /// After a deviation from the plan that does not stop the run.
    fn note(&mut self, text: &str) {
        let _ = text;
    }
    /// Before the first epoch, if fine-tuning begins with a fitted head.
    fn linear_head(&mut self, head: &LinearHead) {
        let _ = head;
    }
}

/// Result of a training, besides the model in the run folder.
pub struct TrainingResult {
    /// All epochs.
    pub epochs: Vec<EpochRow>,
    /// The epoch whose model is kept.
    pub best: KeptEpoch,
    /// The initial head, if it was fitted.
    pub linear_head: Option<LinearHead>,
    /// How often images go through the network, including the final evaluation.
    pub passes: Vec<ForwardCount>,
    /// Whether it ended before its last epoch.
    pub stopped_early: Option<StoppedEarly>,
    /// Notes for the user.
    pub notes: Vec<String>,
    kept: ActivationCache,
}

impl TrainingResult {
    /// Evaluates the kept model on the validation images, and keeps the probabilities.
    pub fn evaluate_val(&self, job: &TrainingJob, network: &Network) -> Result<Evaluation> {
        evaluate_from(job, network, job.val, self.kept.val.as_ref(), Counter::with_scores(job.classes))
    }
}

/// Trains `network`. The best epoch's model is in the run folder afterwards.
///
/// The order of the first steps matters: the network comes with its pretrained values, the frozen
/// prefix is set before the optimizer is built (it holds only the trained parameters), and a
/// checkpoint overwrites both. If the head is fitted, that happens before the first step, and every
/// checkpoint includes it.
pub fn train(
    job: &TrainingJob,
    network: &Network,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<TrainingResult> {
    let (state, kept) = run(job, network, resume, observer)?;
    let TrainingProgress { history: epochs, linear_head, .. } = state.progress;
    let passes = forward_counts::forward_counts(job, network, &kept, linear_head.as_ref(), epochs.len());
    let notes = notes(job.settings, &kept, linear_head.as_ref(), &epochs);
    let stopped_early = StoppedEarly::of(job.settings, &epochs);
    let best = best(&epochs, job.settings).ok_or_else(|| Error::run("a training has no epoch"))?;
    let reason = reason(best, &epochs, job.settings.monitor);
    let best = KeptEpoch { epoch: best.epoch, val_accuracy: best.val_accuracy, reason };
    Ok(TrainingResult { epochs, best, linear_head, passes, stopped_early, notes, kept })
}

/// Trains `network` using only the images of `job.train`: no epoch is the best one, and the result
/// has the values of the last one, averaged if weights are averaged. `job.val` is empty.
pub fn train_to_the_end(
    job: &TrainingJob,
    network: &Network,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<()> {
    let (mut state, _) = run(job, network, resume, observer)?;
    state.ema.as_mut().map_or(Ok(()), Ema::swap)
}

/// All epochs. Without validation images, no model is written.
fn run(
    job: &TrainingJob,
    network: &Network,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<(State, ActivationCache)> {
    // Before anything copies the weights' memory layout.
    if network.trains_channels_last() {
        network.channels_last()?;
    }
    let mut state = State::new(job, network)?;
    if resume {
        let State { optimizer, ema, progress, .. } = &mut state;
        *progress =
            checkpoint::load(&job.folder.checkpoint(), network, optimizer, ema.as_mut(), job.fingerprint)?;
        state.go_on(job, network)?;
    }
    job.folder.rewrite_metrics(&state.progress.history)?;
    let weights = class_weights(job, network.device())?;
    let kept = ActivationCache::compute(job, network, observer);
    state.stop_here(job, network)?;
    let kept = kept?;
    let started = !state.progress.history.is_empty() || state.progress.step > 0;
    if let Some(settings) = job.settings.linear_head.as_ref().filter(|_| !started) {
        if state.progress.linear_head.is_none() {
            let head = fit_head(job, network, settings, &kept, observer);
            // A signal has ended the fit: the next run repeats it, from the same features.
            state.stop_here(job, network)?;
            state.progress.linear_head = Some(head?);
            state.save(job, network)?;
        }
        state.progress.linear_head.iter().for_each(|head| observer.linear_head(head));
    }
    while state.progress.history.len() < job.settings.epochs
        && !stalled(job.settings, &state.progress.history)
    {
        one_epoch(job, network, &kept, &mut state, weights.as_ref(), observer)?;
    }
    Ok((state, kept))
}

/// An epoch with its evaluation, checkpoint and row; also the model, if it is the best so far.
fn one_epoch(
    job: &TrainingJob,
    network: &Network,
    cache: &ActivationCache,
    state: &mut State,
    class_weights: Option<&Tensor>,
    observer: &mut dyn Observer,
) -> Result<()> {
    let started = Instant::now();
    let before = state.progress.images;
    let lr = train_epoch(job, network, cache.train.as_ref(), state, class_weights, observer)?;
    let images = state.progress.images - before;
    let trained = started.elapsed().as_secs_f64();
    let val = state
        .with_average(|| evaluate_from(job, network, job.val, cache.val.as_ref(), Counter::new(job.classes)));
    // A signal has ended the evaluation early: all steps of the epoch are done, and saved.
    state.stop_here(job, network)?;
    let val = val?;
    let progress = &state.progress;
    let row = EpochRow {
        epoch: progress.history.len() + 1,
        train_loss: progress.loss_sum / progress.images.max(1) as f64,
        train_accuracy: progress.correct as f64 / progress.images.max(1) as f64,
        val_loss: val.loss,
        val_accuracy: val.accuracy,
        val_balanced_accuracy: Some(balanced_accuracy(&val.confusion)),
        val_macro_f1: Some(Averages::of_classes(&val.confusion).f1),
        lr,
        images_per_second: images as f64 / trained.max(1e-9),
        seconds: started.elapsed().as_secs_f64(),
    };
    if !row.val_loss.is_finite() {
        return Err(diverged(job, "validation loss", row.val_loss, row.epoch, progress.step));
    }
    let mut history = progress.history.clone();
    history.push(row.clone());
    let kept = best(&history, job.settings).map(|best| best.epoch);
    let is_best = !job.val.is_empty() && kept == Some(row.epoch);
    // The model before the checkpoint: a run killed between the two repeats the epoch and writes
    // the same model again.
    if is_best {
        job.folder.check_lock()?;
        state.with_average(|| write_model(&job.folder.model(), network, job.card))?;
    }
    let TrainingProgress { linear_head, .. } = std::mem::take(&mut state.progress);
    state.progress = TrainingProgress { history, linear_head, ..TrainingProgress::default() };
    state.save(job, network)?;
    job.folder.append_metrics(&row)?;
    observer.epoch(&row, is_best);
    Ok(())
}

/// Notes on a training.
fn notes(
    settings: &TrainSettings,
    kept: &ActivationCache,
    head: Option<&LinearHead>,
    epochs: &[EpochRow],
) -> Vec<String> {
    // Of a head only accuracy and loss are known.
    let beaten = head.zip(best(epochs, settings)).filter(|_| settings.monitor == Monitor::Accuracy);
    let beaten = beaten.filter(|(head, best)| best.val_accuracy <= head.val_accuracy);
    let beaten = beaten.map(|(head, best)| {
        format!(
            "no epoch of fine-tuning has beaten the fitted head it began with (val accuracy {:.4}, the best epoch \
             {:.4}): `method: linear` does as well on these images",
            head.val_accuracy, best.val_accuracy
        )
    });
    let said = head.and_then(|head| head.note.clone());
    let early = StoppedEarly::of(settings, epochs).map(|early| early.to_string());
    early.into_iter().chain(kept.note.iter().cloned()).chain(said).chain(beaten).collect()
}

fn batching<'a>(job: &TrainingJob<'a>) -> Batching<'a> {
    Batching {
        preprocessing: job.preprocessing,
        batch_size: job.settings.batch_size,
        join_single: job.settings.joins_single(),
        threads: job.threads,
    }
}

fn diverged(job: &TrainingJob, what: &str, value: f64, epoch: usize, step: usize) -> Error {
    let model: PathBuf = job.folder.model();
    let kept = match model.exists() {
        true => format!("the best model so far is kept in {}", path_text(&model)),
        false => "no epoch was finished, so there is no model yet".into(),
    };
    let few = match job.train.len() {
        n if n < job.settings.batch_size => {
            format!("; for {n} training images `method: linear` is the safer choice")
        }
        _ => String::new(),
    };
    Error::Diverged(format!(
        "the {what} became {value} in epoch {epoch}, step {step}: the training has diverged. Lower `train.lr` \
         (now {}) or set `train.clip_grad_norm: 1`, and start again with `--overwrite`{few}; {kept}",
        job.settings.lr
    ))
}

/// Each class's weight in the loss: `total / (classes * images of the class)`, as scikit-learn's
/// `class_weight="balanced"`.
pub fn balanced(classes: usize, samples: &[Sample]) -> Vec<f64> {
    let mut counts = vec![0usize; classes];
    samples.iter().for_each(|sample| counts[sample.label] += 1);
    counts.iter().map(|&count| samples.len() as f64 / (classes * count.max(1)) as f64).collect()
}

fn class_weights(job: &TrainingJob, device: Device) -> Result<Option<Tensor>> {
    match job.settings.class_weights {
        ClassWeights::None => Ok(None),
        ClassWeights::Balanced => {
            let weights: Vec<f32> =
                balanced(job.classes, job.train).into_iter().map(|weight| weight as f32).collect();
            Ok(Some(Tensor::f_from_slice(&weights)?.f_to_device(device)?))
        }
    }
}
