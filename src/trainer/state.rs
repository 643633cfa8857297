//! The state of a training: what a checkpoint holds besides the network.

use super::{TrainingJob, groups};
use crate::device::precision::{LossScale, LossScaleState, Precision};
use crate::error::Result;
use crate::models::Network;
use crate::optim::{Ema, Optimizer};
use crate::run::checkpoint::{self, TrainingProgress};
use crate::text::path_text::path_text;
use crate::text::words::counted;

/// State of a training that changes, besides the network.
pub(super) struct State {
    pub optimizer: Optimizer,
    /// The average of the network's weights, if requested.
    pub ema: Option<Ema>,
    pub progress: TrainingProgress,
    /// For float16.
    pub scale: Option<LossScale>,
    /// Maximum number of images in the network at once in a step.
    pub most_at_once: usize,
}

impl State {
    pub fn new(job: &TrainingJob, network: &Network) -> Result<Self> {
        let values = || network.vars().iter().map(|var| (var.key.clone(), var.tensor.shallow_clone()));
        Ok(State {
            optimizer: groups::optimizer(job.settings, network),
            ema: job.settings.ema.map(|decay| Ema::new(decay, values())).transpose()?,
            progress: TrainingProgress::default(),
            scale: (job.settings.precision == Precision::Fp16)
                .then(|| LossScale::new(LossScaleState::default(), network.device()))
                .transpose()?,
            most_at_once: job.settings.micro_batch.unwrap_or(usize::MAX),
        })
    }

    /// Restores a checkpoint's state of precision and memory.
    pub fn go_on(&mut self, job: &TrainingJob, network: &Network) -> Result<()> {
        if let (Some(scale), Some(state)) = (&mut self.scale, self.progress.loss_scale) {
            *scale = LossScale::new(state, network.device())?;
        }
        let planned = job.settings.micro_batch.unwrap_or(usize::MAX);
        self.most_at_once = self.progress.most_at_once.map_or(planned, |most| most.min(planned));
        Ok(())
    }

    pub fn save(&self, job: &TrainingJob, network: &Network) -> Result<()> {
        job.folder.check_lock()?;
        let State { optimizer, ema, progress, scale, most_at_once } = self;
        let progress = TrainingProgress {
            loss_scale: scale.as_ref().map(LossScale::state).transpose()?,
            // A size that ran out of memory is not tried again: the run resumes as it was.
            most_at_once: Some(*most_at_once).filter(|&most| most != usize::MAX),
            ..progress.clone()
        };
        checkpoint::save(
            &job.folder.checkpoint(),
            network,
            optimizer,
            ema.as_ref(),
            &progress,
            job.fingerprint,
        )
    }

    /// Ends the run after a signal, between two steps, with everything saved.
    pub fn stop_here(&self, job: &TrainingJob, network: &Network) -> Result<()> {
        if job.signals.received().is_none() {
            return Ok(());
        }
        self.save(job, network)?;
        job.signals.check(&format!(
            "stopped in epoch {} after {}; everything is saved in {}: go on with `--resume`",
            self.progress.history.len() + 1,
            counted(self.progress.step, "step", "steps"),
            path_text(job.folder.path())
        ))
    }

    /// Does `work` with the averaged weights in the network, if weights are averaged.
    pub fn with_average<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(ema) = &mut self.ema else { return work() };
        ema.swap()?;
        let done = work();
        ema.swap()?;
        done
    }
}
