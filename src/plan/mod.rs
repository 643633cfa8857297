//! The plan of a run: every default resolved, every mistake found that can be found without
//! training.
//!
//! [`Recipe`] is what the user typed; [`Plan`] is what a run does. After [`Plan::read`] no option
//! is open. `tl plan` and `tl finetune --dry-run` print the same plan, and the run folder keeps it
//! as `plan.yaml`.

mod augment;
mod bad_images;
mod candidate;
mod copies;
mod data;
mod defaults;
pub mod file;
mod fine_tuning;
mod fit;
mod groups;
mod method;
mod network;
mod notes;
mod race;
mod resolve;
mod strategy;
mod summary;

use std::path::PathBuf;

use serde::Serialize;

pub use candidate::{Candidate, Training};
pub use data::{Data, Part};
pub use network::fits;
pub use race::{RaceSettings, SINGLE};
pub use resolve::Overrides;
pub use strategy::Watch;

use crate::data::loader::batch_count;
use crate::data::mixing::Mixing;
use crate::device::DeviceChoice;
use crate::device::precision::Precision;
use crate::preprocess::{Decode, DecodeLimits, Preprocessing, Views};
use crate::recipe::{BadImages, BatchNormMode, ClassWeights, Monitor, Recipe};
use crate::strategy::Strategy;
use crate::text::path_text;
use crate::weights::source::{Opened, Source};

/// The plan in a run folder.
pub const PLAN_FILE: &str = "plan.yaml";

/// A run, resolved.
pub struct Plan {
    /// All choices: the contents of `plan.yaml`.
    pub settings: Settings,
    /// Source of the network.
    pub source: Source,
    /// The source's file, if it was available and has already been read.
    pub opened: Option<Opened>,
    /// The images.
    pub data: Data,
    /// Notes for the user, each shown once.
    pub notes: Vec<String>,
    /// Its recipe.
    pub recipe: Recipe,
    /// Which of the classes the source's own head knows, if any.
    pub head: Option<SourceHead>,
    /// Images per second through the network when their similarity was measured, if it was.
    pub rate: Option<f64>,
}

/// Every choice of a run, all resolved.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// torchvision's name of the network.
    pub model: String,
    /// Source of the initial weights.
    pub weights: String,
    /// Conversion of an image to the network's input.
    pub preprocessing: Preprocessing,
    /// The images.
    pub data: DataSettings,
    /// The amount of data, and its similarity to the source data.
    pub strategy: Strategy,
    /// Why this method.
    pub reason: String,
    /// The method with all its settings.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// The rival that is trained too, if `auto` compares two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rival: Option<Candidate>,
    /// Whether both are kept and averaged if neither is clearly ahead.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub average: bool,
    /// The views of an extra measurement of the kept model, if not the plain crop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval: Option<Views>,
    /// Whether TensorBoard's event file follows the metrics.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tensorboard: bool,
    /// The seed of all randomness.
    pub seed: u64,
    /// The device.
    pub device: DeviceChoice,
    /// CPU threads.
    pub threads: usize,
    /// The run folder.
    #[serde(serialize_with = "path_text::serialize")]
    pub out: PathBuf,
}

/// The images, resolved.
#[derive(Clone, Debug, Serialize)]
pub struct DataSettings {
    /// Path of the training images.
    #[serde(serialize_with = "path_text::serialize")]
    pub train: PathBuf,
    /// Number of training images.
    pub train_images: usize,
    /// A share of `train`, or a path.
    pub val: String,
    /// Number of validation images.
    pub val_images: usize,
    /// Path of the test images.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "path_text::serialize")]
    pub test: Option<PathBuf>,
    /// Number of test images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_images: Option<usize>,
    /// Number of classes.
    pub classes: usize,
    /// Handling of unreadable images.
    pub bad_images: BadImages,
    /// Maximum number of pixels of an image.
    pub max_pixels: u64,
    /// Size at which a JPEG is decoded.
    pub decode: Decode,
    /// sha256 over the names, labels and parts of all images: another listing is another run.
    #[serde(rename = "listing")]
    pub fingerprint: String,
}

impl DataSettings {
    /// The limits of decoding an image.
    pub fn limits(&self) -> DecodeLimits {
        DecodeLimits { max_pixels: self.max_pixels, decode: self.decode, white_level: None }
    }
}

/// Settings of the methods that fit a head to features.
#[derive(Clone, Debug, Serialize)]
pub struct LinearSettings {
    /// For `stages`: where features are read; each reading, and all together, are compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<String>,
    /// For `stages`: images a class on which they are compared, and C is chosen; all where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare_on: Option<usize>,
    /// For `stages`: whether the head is the mean of all, weighted by how well they explain
    /// held-out images, rather than one of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub average: bool,
    /// A fixed inverse L2 strength, scikit-learn's `C`; chosen by cross-validation where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub c: Option<f64>,
    /// Folds of the cross-validation.
    pub folds: usize,
    /// Class weights in the loss.
    pub class_weights: ClassWeights,
    /// Images in a batch when features are computed.
    pub batch_size: usize,
}

/// Settings of the methods that train by gradient.
#[derive(Clone, Debug, Serialize)]
pub struct TrainSettings {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images in a step.
    pub batch_size: usize,
    /// Maximum number of them in the network at once; all where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// Number format of a step.
    pub precision: Precision,
    /// The update rule.
    pub optimizer: OptimizerSettings,
    /// Peak learning rate of the body.
    pub lr: f64,
    /// Peak learning rate of the head.
    pub head_lr: f64,
    /// Weight decay of weights.
    pub weight_decay: f64,
    /// Whether it applies to normalisation layers and biases too.
    pub decay_norm_and_bias: bool,
    /// The learning rate after the warm-up.
    pub schedule: ScheduleSettings,
    /// Epochs of rising learning rate at the start.
    pub warmup_epochs: usize,
    /// The share of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// Weight of the auxiliary classifiers' losses; without it none are built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux_weight: Option<f64>,
    /// Class weights in the loss.
    pub class_weights: ClassWeights,
    /// Maximum norm of the gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_grad_norm: Option<f64>,
    /// Epochs without improvement before training stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<usize>,
    /// The figure by which an epoch is kept.
    pub monitor: Monitor,
    /// BatchNorm mode of the trained stages.
    pub batch_norm: BatchNormMode,
    /// How the images of a batch are mixed.
    #[serde(flatten)]
    pub mixing: Mixing,
    /// Decay of the averaged weights; no average without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// The head's values taken over from the initial model, if any are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_head: Option<SourceHead>,
    /// The fit of the head before the first epoch, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear_head: Option<LinearHeadSettings>,
    /// Ratio of a group's rate to that of the next group.
    pub layer_decay: f64,
    /// Epochs between the starts of two groups; 0 trains all from the start.
    pub unfreeze_epochs: usize,
    /// The groups of trained stages, first to last, from the two settings above.
    pub groups: Vec<GroupSettings>,
    /// Room for the frozen stages' output, if any are frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<CacheSettings>,
    /// Number of different augmentations of each image, in turn; 0 for new ones in every epoch.
    pub kept_views: usize,
}

/// Overlap between the classes of a trained `tl` model's head and those of another run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SourceHead {
    /// Classes of this run that it knows by name.
    pub known: usize,
    /// Classes of this run that it does not know.
    pub new: usize,
    /// All its classes.
    pub of: usize,
}

impl SourceHead {
    /// Whether its classes are this run's, in any order.
    pub fn is_the_same(&self) -> bool {
        self.new == 0 && self.known == self.of
    }
}

/// The fit of the head before fine-tuning.
#[derive(Clone, Debug, Serialize)]
pub struct LinearHeadSettings {
    /// A fixed inverse L2 strength, scikit-learn's `C`; chosen by cross-validation where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub c: Option<f64>,
    /// Folds of the cross-validation.
    pub folds: usize,
}

/// Stages that are trained at one rate, from one epoch on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupSettings {
    /// Their common name, or the names of the first and the last.
    pub stages: String,
    /// Peak learning rate.
    pub lr: f64,
    /// The first epoch, from 1, in which they are trained.
    pub from_epoch: usize,
}

/// Room for the frozen stages' output. It is part of a run's identity: whether a batch is assembled
/// before or after the frozen stages may change the last bits.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CacheSettings {
    /// In memory, in MiB.
    pub memory_mib: usize,
    /// In a file in the run folder, in MiB.
    pub disk_mib: usize,
}

/// The update rule and its settings.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum OptimizerSettings {
    /// Stochastic gradient descent.
    Sgd {
        /// Share of the last update that is kept.
        momentum: f64,
        /// Nesterov's form of momentum.
        nesterov: bool,
    },
    /// Adam with decoupled weight decay.
    AdamW,
}

/// The learning rate after the warm-up.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum ScheduleSettings {
    /// Constant.
    Constant,
    /// Times `gamma` every `epochs` epochs.
    Step {
        /// Epochs between two cuts.
        epochs: usize,
        /// The factor of a cut.
        gamma: f64,
    },
    /// Half a cosine, down to 0.
    Cosine,
    /// Times `gamma` after more than `patience` epochs without improvement.
    Plateau {
        /// Epochs without improvement that are tolerated.
        patience: usize,
        /// The factor of a cut.
        gamma: f64,
    },
}

impl TrainSettings {
    /// Whether the head knows all classes before the first step.
    pub fn head_comes_trained(&self) -> bool {
        self.linear_head.is_some() || self.source_head.is_some_and(|head| head.new == 0)
    }

    /// Number of the trainer's steps in an epoch of this many images.
    pub fn steps(&self, images: usize) -> usize {
        batch_count(images, self.batch_size, self.joins_single())
    }

    /// Whether a single last image joins the previous batch.
    pub fn joins_single(&self) -> bool {
        self.batch_norm == BatchNormMode::Train
    }
}

impl Settings {
    /// The text of `plan.yaml`.
    pub fn to_yaml(&self) -> crate::Result<String> {
        serde_yaml::to_string(self)
            .map_err(|error| crate::Error::run(format!("cannot write the plan as YAML: {error}")))
    }

    /// The plan as YAML without parts that do not distinguish runs (see [`Settings::neutralise`]).
    pub fn identity(&self) -> crate::Result<String> {
        let unreadable = |error| crate::Error::run(format!("cannot write the plan as YAML: {error}"));
        // Through text, like the plan in a run folder: a float32 converted directly to a `Value` is
        // another number than the written one.
        let mut value: serde_yaml::Value = serde_yaml::from_str(&self.to_yaml()?).map_err(unreadable)?;
        Settings::neutralise(&mut value);
        serde_yaml::to_string(&value).map_err(unreadable)
    }

    /// Removes the run's place, its device, whether TensorBoard can follow it, and the place of its
    /// images (the listing tells whether they are the same): a checkout may move, and a run may
    /// resume with more threads.
    pub fn neutralise(plan: &mut serde_yaml::Value) {
        if let Some(plan) = plan.as_mapping_mut() {
            for key in ["out", "device", "threads", "tensorboard"] {
                plan.remove(key);
            }
        }
        if let Some(data) = plan.get_mut("data").and_then(|data| data.as_mapping_mut()) {
            for key in ["train", "test"] {
                data.remove(key);
            }
        }
    }
}
