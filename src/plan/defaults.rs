//! Default settings by method, with the reason for each.

use crate::recipe::{BatchNormMode, Method, OptimizerChoice};

/// What a method trains with unless the recipe says otherwise.
pub struct Defaults {
    /// Passes over the training images: at most so many, and a third at least, by BiT's rule between.
    pub epochs: usize,
    /// Peak learning rate of the body under SGD.
    pub lr: f64,
    /// Peak learning rate of the new head under SGD.
    pub head_lr: f64,
    /// BatchNorm in the stages that are trained.
    pub batch_norm: BatchNormMode,
    /// Epochs over which the learning rate first rises.
    pub warmup_epochs: usize,
    /// Whether the head is fitted before the first epoch.
    pub linear_head_first: bool,
}

/// Images that a training sees in all, by BiT's rule ("Big Transfer", Kolesnikov et al., ECCV 2020): steps of 512
/// images, by the size of the training set: 500, from 20,000 images on 10,000, from 500,000 on 20,000.
fn views(images: usize) -> usize {
    let steps = match images {
        0..20_000 => 500,
        20_000..500_000 => 10_000,
        _ => 20_000,
    };
    512 * steps
}

/// Steps that a training takes at least, and the most epochs that they may take: a few images make an epoch of one
/// or two steps, and 30 of those teach nothing.
const LEAST_STEPS: usize = 200;
/// See [`LEAST_STEPS`].
const MOST_EPOCHS: usize = 100;

/// AdamW takes steps of about the learning rate whatever the gradient's size; a hundredth of SGD's rate is
/// the usual translation (BiT and VTAB fine-tune with 0.003 to 0.01 by SGD, ViT and ConvNeXt with 5e-5 to
/// 1e-4 by AdamW).
const ADAMW_LR_FACTOR: f64 = 0.01;

/// The images in a step: small enough for a few hundred images to make some steps an epoch.
const BATCH_SIZE: usize = 32;
/// Where an epoch would have fewer steps than this, steps of half as many images.
const FEW_STEPS: usize = 20;
/// SGD's momentum in every course and reference recipe (AlexNet, VGG, ResNet).
pub const MOMENTUM: f64 = 0.9;
/// AlexNet's and VGG's weight decay for SGD.
pub const WEIGHT_DECAY_SGD: f64 = 5e-4;
/// Loshchilov and Hutter's weight decay for AdamW, as PyTorch has it.
pub const WEIGHT_DECAY_ADAMW: f64 = 0.01;
/// A cut by ten, as in the courses, when the schedule is `step` or `plateau`.
pub const GAMMA: f64 = 0.1;
/// Epochs without improvement before `plateau` cuts the rate.
pub const PATIENCE: usize = 5;
/// Cuts of the `step` schedule in a run: the rate falls after each third of the epochs.
pub const STEP_CUTS: usize = 3;
/// Folds of the cross-validation that chooses the strength of `linear`.
pub const FOLDS: usize = 5;
/// The greatest norm of the gradient where the head comes fitted. Its weights may be large (they are made for
/// features of small spread), and with BatchNorm in inference mode nothing holds the activations behind it: on 100
/// digits `partial` and `full` diverged at their own rate without a limit, and with this one learnt as well at rates
/// from 0.003 to 0.03.
pub const FITTED_CLIP: f64 = 1.;
/// Memory for the frozen stages' output in MiB: 5,000 images before `layer4` of a ResNet-18, 1,300 of a
/// ResNet-50.
pub const KEEP_MEMORY: usize = 1024;
/// Room for it in the run folder in MiB, beyond the memory.
pub const KEEP_DISK: usize = 16_384;
/// The images in a batch when features are computed: no gradients, so memory allows more.
pub const FEATURE_BATCH: usize = 32;

/// torchvision's defaults of `RandAugment`.
pub const RANDAUGMENT_OPS: u32 = 2;
/// See [`RANDAUGMENT_OPS`].
pub const RANDAUGMENT_MAGNITUDE: u32 = 9;

/// The images in a step of the methods that train by gradient.
pub fn batch_size(images: usize) -> usize {
    match images.div_ceil(BATCH_SIZE) < FEW_STEPS {
        true => BATCH_SIZE / 2,
        false => BATCH_SIZE,
    }
}

impl Defaults {
    /// Passes over `images` training images in steps of `batch_size`.
    pub fn epochs_for(&self, images: usize, batch_size: usize) -> usize {
        let images = images.max(1);
        let by_rule = views(images).div_ceil(images).clamp(self.epochs.div_ceil(3), self.epochs);
        let steps = images.div_ceil(batch_size.max(1));
        by_rule.max(LEAST_STEPS.div_ceil(steps).min(MOST_EPOCHS))
    }

    /// The head's rate over the body's.
    pub fn proportion(&self) -> f64 {
        self.head_lr / self.lr
    }

    /// The settings of a method that trains by gradient; `statistics` says whether BatchNorm follows the batches, which
    /// bears higher rates.
    pub fn of(method: Method, optimizer: OptimizerChoice, statistics: bool) -> Self {
        let sgd = match method {
            // Few stages move, from features that are near already; statistics of small batches would only
            // add noise to a frozen body's scale (LP-FT, Kumar et al. 2022, keeps BatchNorm in inference
            // mode).
            Method::Partial => Defaults {
                epochs: 15,
                lr: 0.01,
                head_lr: 0.1,
                batch_norm: BatchNormMode::Inference,
                warmup_epochs: 1,
                linear_head_first: true,
            },
            // VTAB-1k's rate where nothing holds the activations' scale. With BatchNorm four times as much: on six
            // development tasks with 16 images a class the mean test accuracy was 50 % at 0.01, and 56 % at 0.04 in steps
            // of half as many images; with 80 a class it was 59 % against 61 to 64 %.
            Method::Full => Defaults {
                epochs: 30,
                lr: if statistics && optimizer == OptimizerChoice::Sgd { 0.04 } else { 0.01 },
                head_lr: 0.1,
                batch_norm: BatchNormMode::Train,
                warmup_epochs: 1,
                linear_head_first: false,
            },
            // From random weights there is more to learn: longer, and one rate for all. On 100 digits 0.02
            // was safe where 0.05 sometimes failed and 0.1 mostly did.
            _ => Defaults {
                epochs: 60,
                lr: 0.02,
                head_lr: 0.02,
                batch_norm: BatchNormMode::Train,
                warmup_epochs: 3,
                linear_head_first: false,
            },
        };
        match optimizer {
            OptimizerChoice::Sgd => sgd,
            OptimizerChoice::AdamW => {
                Defaults { lr: sgd.lr * ADAMW_LR_FACTOR, head_lr: sgd.head_lr * ADAMW_LR_FACTOR, ..sgd }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_follow_the_size_of_the_dataset() {
        let epochs = |method, images| Defaults::of(method, OptimizerChoice::Sgd, true).epochs_for(images, 32);
        // Few images: 200 steps, in 100 epochs at most.
        assert_eq!(epochs(Method::Full, 50), 100);
        assert_eq!(epochs(Method::Full, 160), 40);
        assert_eq!(epochs(Method::Full, 1_000), 30);
        // BiT's 256,000 images, until its next step at 20,000.
        assert_eq!(epochs(Method::Full, 12_800), 20);
        assert_eq!(epochs(Method::Full, 19_999), 13);
        assert_eq!(epochs(Method::Full, 20_000), 30);
        assert_eq!(epochs(Method::Full, 400_000), 13);
        assert_eq!(epochs(Method::Full, 5_000_000), 10);
        assert_eq!(epochs(Method::Partial, 1_000), 15);
        assert_eq!(epochs(Method::Scratch, 1_000), 60);
    }
}
