//! Losses and right predictions of steps, read from a GPU only now and then: each reading waits for
//! all its pending work. A CPU has finished when a call returns, and is read at each step.

use tch::{Device, Kind, Tensor};

use super::gradient::BatchOutcome;
use super::{TrainingJob, diverged};
use crate::error::{Error, Result};
use crate::run::checkpoint::TrainingProgress;

/// A step whose numbers have not been read.
struct Step {
    /// Counted from 1 in its epoch.
    step: usize,
    images: usize,
    outcome: BatchOutcome,
    /// The gradient's norm, if clipped.
    norm: Option<Tensor>,
    /// Whether its gradients were not used, because of a float16 overflow.
    skipped: bool,
}

/// Steps whose numbers have not been read.
pub(super) struct DeferredMetrics {
    every: usize,
    steps: Vec<Step>,
}

impl DeferredMetrics {
    /// Steps between two readings of a GPU: some tenths of a second.
    const EVERY: usize = 32;

    pub fn new(device: Device) -> DeferredMetrics {
        DeferredMetrics { every: if device.is_cuda() { Self::EVERY } else { 1 }, steps: Vec::new() }
    }

    /// Adds the numbers of a step, and reads them when it is time.
    pub fn push(
        &mut self,
        (step, images): (usize, usize),
        outcome: BatchOutcome,
        norm: Option<Tensor>,
        skipped: bool,
    ) {
        self.steps.push(Step { step, images, outcome, norm, skipped });
    }

    /// Whether it is time to read.
    pub fn is_full(&self) -> bool {
        self.steps.len() >= self.every
    }

    /// Reads all numbers into `progress`.
    ///
    /// # Errors
    /// The first step in `epoch` (from 1) whose loss or norm is not finite.
    pub fn settle(&mut self, job: &TrainingJob, epoch: usize, progress: &mut TrainingProgress) -> Result<()> {
        if self.steps.is_empty() {
            return Ok(());
        }
        let losses = numbers(self.steps.iter().map(|step| &step.outcome.loss))?;
        let rights = numbers(self.steps.iter().map(|step| &step.outcome.right))?;
        let mut norms = numbers(self.steps.iter().filter_map(|step| step.norm.as_ref()))?.into_iter();
        for ((step, loss), right) in self.steps.drain(..).zip(losses).zip(rights) {
            let norm = step.norm.and_then(|_| norms.next());
            if step.skipped {
                continue;
            }
            if !loss.is_finite() {
                return Err(diverged(job, "training loss", loss, epoch, step.step));
            }
            if let Some(norm) = norm.filter(|norm| !norm.is_finite()) {
                return Err(diverged(job, "gradient's norm", norm, epoch, step.step));
            }
            progress.loss_sum += loss * step.images as f64;
            progress.correct += right as u64;
            progress.images += step.images;
        }
        Ok(())
    }
}

/// Reads scalars, in one copy.
fn numbers<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Result<Vec<f64>> {
    let tensors: Vec<&Tensor> = tensors.collect();
    if tensors.is_empty() {
        return Ok(Vec::new());
    }
    let read = || {
        Vec::<f64>::try_from(Tensor::f_stack(&tensors, 0)?.f_to_kind(Kind::Double)?.f_to_device(Device::Cpu)?)
    };
    read().map_err(Error::torch("read the loss"))
}
