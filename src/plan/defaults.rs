//! Default settings by method, with the reason for each.

use crate::recipe::Trains;
use crate::recipe::{BatchNormMode, Method, OptimizerChoice};

/// Default training settings of a method.
pub struct Defaults {
    /// Peak learning rate of the body under SGD.
    pub lr: f64,
    /// Peak learning rate of a new head under SGD.
    pub head_lr: f64,
    /// BatchNorm mode of the trained stages.
    pub batch_norm: BatchNormMode,
    /// Epochs of rising learning rate at the start.
    pub warmup_epochs: usize,
    /// Whether the head is fitted before the first epoch.
    pub linear_head_first: bool,
}

/// How often fine-tuning sees each image, times the root of the number of images: 32 times with 40
/// images, 16 with 160, 8 at least. From a fitted head this was enough on ten tasks of photographs;
/// a training of 100 epochs gained nothing more.
const EPOCHS_TIMES_ROOT: f64 = 200.;
/// See [`EPOCHS_TIMES_ROOT`].
const LEAST_EPOCHS: usize = 8;
/// Peak learning rate from published weights, whose steps are limited by [`FITTED_CLIP`].
/// EfficientNet-Lite0 on ten tasks of photographs, 112 pixels: with 4 images a class 0.03 was 3.7
/// points behind, with 16 level.
const RATE: f64 = 0.01;
/// The same with lots of data, for networks with BatchNorm: with 80 images a class 0.03 was 2
/// points ahead of 0.01, and 0.05 broke the network: 0.02 is between (docs/strategy.md).
const RATE_WITH_LOTS: f64 = 0.02;
/// From weights that `tl` itself trained from random ones: they have seen thousands of images, not
/// a million, and have further to go. On 38 cells of the made tasks auto was 2.7 points behind its
/// older rules with the rates above, and 1 with this one.
const RATE_OF_YOUNG_WEIGHTS: f64 = 0.06;
/// Random weights have everything to learn: as many images as BiT's rule shows a network with less
/// than 20,000 of them (500 steps of 512: "Big Transfer", Kolesnikov et al., ECCV 2020), in 20 to
/// 60 epochs.
const SCRATCH_VIEWS: usize = 512 * 500;

/// AdamW's steps are about the learning rate, whatever the gradient's size; a hundredth of SGD's
/// rate is the usual translation (BiT and VTAB fine-tune with 0.003 to 0.01 by SGD, ViT and
/// ConvNeXt with 5e-5 to 1e-4 by AdamW).
const ADAMW_LR_FACTOR: f64 = 0.01;

/// Images in a step: few enough for several steps an epoch with a few hundred images.
const BATCH_SIZE: usize = 32;
/// With fewer steps an epoch than this, steps have half as many images.
const FEW_STEPS: usize = 40;
/// SGD's momentum in every course and reference recipe (AlexNet, VGG, ResNet).
pub const MOMENTUM: f64 = 0.9;
/// AlexNet's and VGG's weight decay for SGD.
pub const WEIGHT_DECAY_SGD: f64 = 5e-4;
/// Loshchilov and Hutter's weight decay for AdamW, as in PyTorch.
pub const WEIGHT_DECAY_ADAMW: f64 = 0.01;
/// A cut by ten, as in the courses, for the schedules `step` and `plateau`.
pub const GAMMA: f64 = 0.1;
/// Epochs without improvement before `plateau` cuts the rate.
pub const PATIENCE: usize = 5;
/// Cuts of the `step` schedule in a run: the rate falls after each third of the epochs.
pub const STEP_CUTS: usize = 3;
/// Folds of the cross-validation that chooses the strength of `linear`.
pub const FOLDS: usize = 5;
/// Maximum norm of the gradient after a fitted head. Its weights may be large (they suit features
/// of small spread), and with BatchNorm in inference mode nothing limits the activations after it:
/// on 100 digits `partial` and `full` diverged at their own rate without a limit, and with this one
/// learnt equally well at rates from 0.003 to 0.03.
pub const FITTED_CLIP: f64 = 1.;
/// Memory for the frozen stages' output in MiB: 5,000 images before `layer4` of a ResNet-18, 1,300
/// of a ResNet-50.
pub const KEEP_MEMORY: usize = 1024;
/// Disk space for it in the run folder in MiB, beyond the memory.
pub const KEEP_DISK: usize = 16_384;
/// Images in a batch when features are computed: no gradients, so memory allows more.
pub const FEATURE_BATCH: usize = 32;

/// torchvision's defaults of `RandAugment`.
pub const RANDAUGMENT_OPS: u32 = 2;
/// See [`RANDAUGMENT_OPS`].
pub const RANDAUGMENT_MAGNITUDE: u32 = 9;

/// Images in a step of the methods that train by gradient.
pub fn batch_size(images: usize) -> usize {
    match images.div_ceil(BATCH_SIZE) < FEW_STEPS {
        true => BATCH_SIZE / 2,
        false => BATCH_SIZE,
    }
}

/// Approximate cost of a step in passes through the network: one forward, and twice as much
/// backward if all stages learn.
pub fn passes_of_a_step(method: Method) -> f64 {
    match method.trains() {
        Trains::Head => 0.,
        Trains::LastStages => 2.,
        Trains::AllStages => 3.,
    }
}

/// Passes of `method` over `images` training images.
pub fn epochs(method: Method, images: usize) -> usize {
    let images = images.max(1);
    match method.is_from_random() {
        true => SCRATCH_VIEWS.div_ceil(images).clamp(20, 60),
        false => ((EPOCHS_TIMES_ROOT / (images as f64).sqrt()).round() as usize).max(LEAST_EPOCHS),
    }
}

/// Peak learning rate for a pretrained network.
pub fn rate(batch_norm: bool, young: bool, lots: bool) -> f64 {
    match (batch_norm, young, lots) {
        (true, true, _) => RATE_OF_YOUNG_WEIGHTS,
        (true, false, true) => RATE_WITH_LOTS,
        _ => RATE,
    }
}

impl Defaults {
    /// Default settings of a method that trains by gradient, from weights with this
    /// `pretrained_rate`: see [`rate`].
    pub fn of(method: Method, optimizer: OptimizerChoice, pretrained_rate: f64) -> Self {
        let sgd = match method.is_from_random() {
            // Random weights have more to learn: longer training, and one rate for all. On 100
            // digits 0.02 was safe, 0.05 sometimes failed and 0.1 mostly did.
            true => Defaults {
                lr: 0.02,
                head_lr: 0.02,
                batch_norm: BatchNormMode::Train,
                warmup_epochs: 3,
                linear_head_first: false,
            },
            // LP-FT (Kumar et al. 2022): from the fitted head, with BatchNorm in inference mode, as
            // for the features that it was fitted to. On photographs with 16 images a class
            // BatchNorm that follows the batches was 2 to 5 points behind, and a random head 2 to
            // 14.
            false => Defaults {
                lr: pretrained_rate,
                head_lr: 10. * pretrained_rate,
                batch_norm: BatchNormMode::Inference,
                warmup_epochs: 1,
                linear_head_first: true,
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
        for (images, passes) in [(4, 100), (40, 32), (160, 16), (400, 10), (800, 8), (1_000_000, 8)] {
            assert_eq!(epochs(Method::Full, images), passes);
            assert_eq!(epochs(Method::Partial, images), passes);
        }
        for (images, passes) in [(1_000, 60), (8_000, 32), (1_000_000, 20)] {
            assert_eq!(epochs(Method::Scratch, images), passes);
        }
    }
}
