//! The chain cut in two: the output of its first stages, and the rest of the network on it.
//!
//! A frozen prefix computes the same in every epoch, so its output can be cached and the rest run
//! alone.

use tch::Tensor;

use super::{Mode, Network, Tap};
use crate::error::Result;

/// Output of a network's first stages for a batch of images.
#[derive(Debug)]
pub struct Activations {
    /// Number of stages; with none of them, the first stage's input.
    pub stages: usize,
    /// `[N, …]`, on the network's device.
    pub values: Tensor,
}

impl Activations {
    /// Other values at the same stage: a part of the batch.
    pub fn with(&self, values: &Tensor) -> Activations {
        Activations { stages: self.stages, values: values.shallow_clone() }
    }
}

impl Network {
    /// Images `[N, 3, H, W]` before the first stage.
    pub fn enter(&self, images: &Tensor) -> Result<Activations> {
        Ok(Activations { stages: 0, values: self.transformed(images)? })
    }

    /// The output of the frozen stages for images `[N, 3, H, W]`, in inference mode and without
    /// gradients.
    pub fn prefix(&self, images: &Tensor) -> Result<Activations> {
        tch::no_grad(|| {
            let values = self.run(0..self.frozen, &self.transformed(images)?, Mode::INFERENCE)?;
            Ok(Activations { stages: self.frozen, values })
        })
    }

    /// The logits `[N, K]`, and those of each auxiliary classifier on a stage behind the first
    /// `held`. These `held` stages run without gradients and in inference mode (never fewer than
    /// are frozen), the rest in `mode`.
    pub fn forward_from(&self, xs: &Activations, held: usize, mode: Mode) -> Result<(Tensor, Vec<Tensor>)> {
        let held = held.clamp(self.frozen, self.stages.len()).max(xs.stages);
        if !self.head.reads.is_empty() {
            let vectors = self.collect(xs, &self.head.reads, held, mode)?;
            return Ok((self.classify(&vectors, mode)?, Vec::new()));
        }
        let mut values = tch::no_grad(|| self.run(xs.stages..held, &xs.values, Mode::INFERENCE))?;
        let (mut done, mut logits) = (held, Vec::new());
        for auxiliary in self.auxiliaries.iter().filter(|auxiliary| auxiliary.stage >= held) {
            values = self.run(done..auxiliary.stage + 1, &values, mode)?;
            done = auxiliary.stage + 1;
            logits.push(auxiliary.body.forward(&values, mode)?);
        }
        let values = self.run(done..self.stages.len(), &values, mode)?;
        Ok((self.head.read(&values, Tap::Logits, mode)?, logits))
    }

    /// The logits `[N, K]`, in inference mode and without gradients; no auxiliary classifier is
    /// run.
    pub fn logits_from(&self, xs: &Activations) -> Result<Tensor> {
        self.read_from(xs, Tap::Logits)
    }

    /// The features `[N, D]`, in inference mode and without gradients.
    pub fn features_from(&self, xs: &Activations) -> Result<Tensor> {
        self.read_from(xs, Tap::Features)
    }
}
