//! The learning rate as a pure function of the step and of the validation accuracies so far.

use std::f64::consts::PI;

/// The relative improvement over the best accuracy that counts as one in [`Decay::Plateau`]
/// (PyTorch's default).
pub const PLATEAU_THRESHOLD: f64 = 1e-4;

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decay {
    /// No decay.
    Constant,
    /// Times `gamma` after every `epochs` epochs, counted from the start of training:
    /// `torch.optim.lr_scheduler.StepLR`.
    Step {
        /// Epochs between two cuts; 0 counts as 1.
        epochs: u64,
        /// The factor of a cut.
        gamma: f64,
    },
    /// Half a cosine over the steps that follow the warm-up, to 0 after the last one:
    /// `torch.optim.lr_scheduler.CosineAnnealingLR` advanced each step.
    Cosine,
    /// Times `gamma` when the validation accuracy has not improved for more than `patience` epochs:
    /// `torch.optim.lr_scheduler.ReduceLROnPlateau(mode="max", threshold=1e-4,
    /// threshold_mode="rel")`.
    Plateau {
        /// Epochs without an improvement that are tolerated.
        patience: u64,
        /// The factor of a cut.
        gamma: f64,
    },
}

/// The learning rate of a whole run, relative to the base rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The decay after the warm-up.
    pub decay: Decay,
    /// Steps of a linear warm-up: step `t` runs at `(t + 1) / warmup_steps` of the rate. PyTorch's
    /// `LinearLR(start_factor=1 / warmup_steps, total_iters=warmup_steps - 1)`.
    pub warmup_steps: u64,
    /// Steps in an epoch.
    pub steps_per_epoch: u64,
    /// Epochs of the whole run.
    pub epochs: u64,
}

impl Schedule {
    /// The factor of step `step` (from 0), in [0, 1] for a `gamma` in [0, 1].
    ///
    /// `history` holds the validation accuracy of each finished epoch, in order. Only those before
    /// the step's own epoch are read, and only by [`Decay::Plateau`].
    pub fn factor(&self, step: u64, history: &[f64]) -> f64 {
        let epoch = step / self.steps_per_epoch.max(1);
        let decayed = match self.decay {
            Decay::Constant => 1.0,
            Decay::Step { epochs, gamma } => power(gamma, epoch / epochs.max(1)),
            Decay::Cosine => self.cosine(step),
            Decay::Plateau { patience, gamma } => {
                let finished = history.len().min(usize::try_from(epoch).unwrap_or(usize::MAX));
                power(gamma, plateau_cuts(&history[..finished], patience))
            }
        };
        decayed * self.warmup(step)
    }

    fn warmup(&self, step: u64) -> f64 {
        if step < self.warmup_steps { (step + 1) as f64 / self.warmup_steps as f64 } else { 1.0 }
    }

    fn cosine(&self, step: u64) -> f64 {
        let total = self.steps_per_epoch.saturating_mul(self.epochs);
        let falling = total.saturating_sub(self.warmup_steps).max(1);
        let done = step.saturating_sub(self.warmup_steps).min(falling);
        0.5 * (1.0 + (PI * done as f64 / falling as f64).cos())
    }
}

fn power(gamma: f64, times: u64) -> f64 {
    gamma.powf(times as f64)
}

/// The number of cuts after these accuracies. NaN is no improvement.
fn plateau_cuts(history: &[f64], patience: u64) -> u64 {
    let (mut best, mut bad, mut cuts) = (f64::NEG_INFINITY, 0, 0);
    for &accuracy in history {
        if accuracy > best * (1.0 + PLATEAU_THRESHOLD) {
            (best, bad) = (accuracy, 0);
        } else {
            bad += 1;
        }
        if bad > patience {
            (bad, cuts) = (0, cuts + 1);
        }
    }
    cuts
}
