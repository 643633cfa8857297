//! Default settings by method, with the reason for each.

use crate::recipe::{BatchNormMode, Method, OptimizerChoice};

/// What a method trains with unless the recipe says otherwise.
pub struct Defaults {
    /// Passes over the training images.
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

/// AdamW takes steps of about the learning rate whatever the gradient's size; a hundredth of SGD's rate is
/// the usual translation (BiT and VTAB fine-tune with 0.003 to 0.01 by SGD, ViT and ConvNeXt with 5e-5 to
/// 1e-4 by AdamW).
const ADAMW_LR_FACTOR: f64 = 0.01;

/// The images in a step: small enough for a few hundred images to make some steps an epoch.
pub const BATCH_SIZE: usize = 32;
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

impl Defaults {
    /// The settings of a method that trains by gradient.
    pub fn of(method: Method, optimizer: OptimizerChoice) -> Self {
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
            // VTAB-1k's rate; the body adapts its statistics to the new images.
            Method::Full => Defaults {
                epochs: 30,
                lr: 0.01,
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
