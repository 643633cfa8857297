//! What will happen: every default resolved, every mistake that can be found without training found.
//!
//! [`Recipe`] is what the user typed; [`Plan`] is what a run does. After
//! [`Plan::read`] no option is open. `tl plan` and `tl finetune --dry-run` print the same plan, and the
//! run folder keeps it as `plan.yaml`.

mod augment;
mod bad_images;
mod candidate;
mod copies;
mod data;
mod defaults;
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
use crate::recipe::{BadImages, BatchNormMode, ClassWeights, Recipe};
use crate::strategy::Strategy;
use crate::text::path_text;
use crate::weights::source::{Opened, Source};

/// The plan in a run folder.
pub const PLAN_FILE: &str = "plan.yaml";

/// A run, resolved.
pub struct Plan {
    /// All choices: what `plan.yaml` holds.
    pub settings: Settings,
    /// Where the network comes from.
    pub source: Source,
    /// The source's file, if it was at hand and has been read already.
    pub opened: Option<Opened>,
    /// The images.
    pub data: Data,
    /// Things to know, each said once.
    pub notes: Vec<String>,
    /// The recipe it came from.
    pub recipe: Recipe,
    /// Which of the classes the source's own head knows, if it knows any.
    pub head: Option<SourceHead>,
    /// Images that went through the network in a second while their similarity was measured, if it was.
    pub rate: Option<f64>,
}

/// Every choice of a run, none of them open.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// torchvision's name of the network.
    pub model: String,
    /// Where its first values come from.
    pub weights: String,
    /// How an image becomes its input.
    pub preprocessing: Preprocessing,
    /// The images.
    pub data: DataSettings,
    /// How much data there is, and how like the source data it is.
    pub strategy: Strategy,
    /// Why this method.
    pub reason: String,
    /// The method, with all that it decides.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// What is trained beside it, where `auto` compares the two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rival: Option<Candidate>,
    /// Whether both are kept and averaged, where neither is clearly ahead.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub average: bool,
    /// What the kept model sees when it is measured once more, if that is not the plain crop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval: Option<Views>,
    /// Where all randomness comes from.
    pub seed: u64,
    /// Where it computes.
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
    /// Where the training images are.
    #[serde(serialize_with = "path_text::serialize")]
    pub train: PathBuf,
    /// How many there are.
    pub train_images: usize,
    /// A share of `train`, or a path.
    pub val: String,
    /// How many there are.
    pub val_images: usize,
    /// Where the test images are.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "path_text::serialize")]
    pub test: Option<PathBuf>,
    /// How many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_images: Option<usize>,
    /// Number of classes.
    pub classes: usize,
    /// What to do about images that cannot be read.
    pub bad_images: BadImages,
    /// The most pixels that an image may have.
    pub max_pixels: u64,
    /// How much of a JPEG is decoded.
    pub decode: Decode,
    /// sha256 over the names, labels and parts of all images: another listing is another run.
    #[serde(rename = "listing")]
    pub fingerprint: String,
}

impl DataSettings {
    /// What decoding an image may cost.
    pub fn limits(&self) -> DecodeLimits {
        DecodeLimits { max_pixels: self.max_pixels, decode: self.decode, white_level: None }
    }
}

/// Settings of the methods that fit a head to features.
#[derive(Clone, Debug, Serialize)]
pub struct LinearSettings {
    /// For `stages`: where features are read; each of them and all together are compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<String>,
    /// For `stages`: images a class on which they are compared, and C is chosen; all where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare_on: Option<usize>,
    /// For `stages`: whether the head is the mean of all, each by what it explains of held-out images, and not one of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub average: bool,
    /// A fixed inverse L2 strength, scikit-learn's `C`; chosen by cross-validation where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub c: Option<f64>,
    /// Folds of the cross-validation.
    pub folds: usize,
    /// How classes count in the loss.
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
    /// The most of them that go through the network at once; all where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// In what numbers a step computes.
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
    /// Epochs over which the learning rate first rises.
    pub warmup_epochs: usize,
    /// The share of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// What the losses of auxiliary classifiers count; none are built without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux_weight: Option<f64>,
    /// How classes count in the loss.
    pub class_weights: ClassWeights,
    /// The greatest norm of the gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_grad_norm: Option<f64>,
    /// Epochs without improvement before training stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<usize>,
    /// BatchNorm in the stages that are trained.
    pub batch_norm: BatchNormMode,
    /// How the images of a batch are mixed.
    #[serde(flatten)]
    pub mixing: Mixing,
    /// How much of the averaged weights is kept at each step; no average without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// What the head takes over from that of the model that training begins with, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_head: Option<SourceHead>,
    /// The fit of the head before the first epoch, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear_head: Option<LinearHeadSettings>,
    /// The rate of a group of stages over that of the group behind it.
    pub layer_decay: f64,
    /// Epochs from one group's beginning to the next one's; 0 trains all from the start.
    pub unfreeze_epochs: usize,
    /// The groups of stages that are trained, first to last, as the two above make them.
    pub groups: Vec<GroupSettings>,
    /// What is kept of the frozen stages' output, where any are frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<CacheSettings>,
    /// How many different augmentations of each image are seen, epoch after epoch; 0 for ever new ones.
    pub kept_views: usize,
}

/// The head of a model that `tl` has trained, and the classes of another run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SourceHead {
    /// Classes of this run that it knows by name.
    pub known: usize,
    /// Classes of this run that it does not know.
    pub new: usize,
    /// All that it knows.
    pub of: usize,
}

impl SourceHead {
    /// Whether its classes are this run's, in whatever order.
    pub fn is_the_same(&self) -> bool {
        self.new == 0 && self.known == self.of
    }
}

/// The fit of the head that fine-tuning begins with.
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
    /// Their common name, or the first and the last.
    pub stages: String,
    /// Peak learning rate.
    pub lr: f64,
    /// The first epoch, from 1, in which they are trained.
    pub from_epoch: usize,
}

/// How much of the frozen stages' output is kept. It is part of what a run is: whether a batch is put together
/// before or after the frozen stages may show in the last bits.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CacheSettings {
    /// In memory, in MiB.
    pub memory_mib: usize,
    /// In a file in the run folder, in MiB.
    pub disk_mib: usize,
}

/// The update rule with its numbers.
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
    /// Stays.
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
        /// Epochs without improvement that are borne.
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

    /// The steps of an epoch of so many images: as many as the trainer makes.
    pub fn steps(&self, images: usize) -> usize {
        batch_count(images, self.batch_size, self.joins_single())
    }

    /// Whether a single last image joins the batch before it.
    pub fn joins_single(&self) -> bool {
        self.batch_norm == BatchNormMode::Train
    }
}

impl Settings {
    /// `plan.yaml`'s text.
    pub fn to_yaml(&self) -> crate::Result<String> {
        serde_yaml::to_string(self)
            .map_err(|error| crate::Error::run(format!("cannot write the plan as YAML: {error}")))
    }

    /// The plan as YAML without what does not make it another run (see [`Settings::neutralise`]).
    pub fn identity(&self) -> crate::Result<String> {
        let unreadable = |error| crate::Error::run(format!("cannot write the plan as YAML: {error}"));
        // Through text, as the plan in a run folder has gone: a float32 that becomes a `Value` directly is
        // another number than the one that was written.
        let mut value: serde_yaml::Value = serde_yaml::from_str(&self.to_yaml()?).map_err(unreadable)?;
        Settings::neutralise(&mut value);
        serde_yaml::to_string(&value).map_err(unreadable)
    }

    /// Removes where a run goes, on what it computes and where its images lie (the listing tells whether
    /// they are the same images): a checkout may move, and a run may go on with more threads.
    pub fn neutralise(plan: &mut serde_yaml::Value) {
        if let Some(plan) = plan.as_mapping_mut() {
            for key in ["out", "device", "threads"] {
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
