//! The sections of a recipe, each key as typed or absent.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::choices::*;
use super::is_default;
use super::method::Method;
use crate::device::precision::Precision;
use crate::preprocess::{Crops, Decode, Fit};

/// `preprocess:`, in one of its two forms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PreprocessChoice {
    /// The preprocessing of this weights entry.
    Tag(String),
    /// The preprocessing of the weights in use, with these changes.
    Changes(PreprocessSection),
}

/// The keys under `preprocess:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct PreprocessSection {
    /// The shorter side after resizing, 1 to 4096 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize_size: Option<usize>,
    /// The side of the centre crop, 1 to 4096 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_size: Option<usize>,
    /// The resizing filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<InterpolationChoice>,
    /// Red, green, blue; finite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<[f64; 3]>,
    /// Red, green, blue; above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<[f64; 3]>,
    /// Handling of images that are not square.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<Fit>,
    /// Red, green, blue of the margins, 0 to 255.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad_color: Option<[u8; 3]>,
    /// The value of white in images of 16 bits a sample, 1 to 65535.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub white_level: Option<u16>,
}

/// The keys under `data:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct DataSection {
    /// Class folders or a CSV. Always present unless
    /// [`Recipe::read_leniently`](super::Recipe::read_leniently) reported it missing or wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<PathBuf>,
    /// A share of `train`, or separate images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val: Option<ValChoice>,
    /// Images measured once, at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<PathBuf>,
    /// Treatment of unreadable images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad_images: Option<BadImages>,
    /// Pixels of an image at most, 1 to 4294967295.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pixels: Option<u64>,
    /// How much of a JPEG is decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode: Option<Decode>,
}

/// `data.val:`, in one of its two forms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ValChoice {
    /// A stratified share of the training images, between 0 and 1.
    Fraction(f64),
    /// A folder or a CSV.
    Path(PathBuf),
}

/// The keys under `strategy:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct StrategySection {
    /// Amount of data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<DatasetSize>,
    /// Similarity to the source data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similarity: Option<Similarity>,
    /// The method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// The first trained stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_from: Option<String>,
    /// Fewer images a class than this are little, 1 to a million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub little_below: Option<usize>,
    /// A smaller distance of BatchNorm statistics is similar, above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similar_below: Option<f64>,
    /// A greater share of information is similar, above 0, up to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similar_above: Option<f64>,
    /// Whether to train the rival of the table's choice too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rival: Option<bool>,
    /// Whether to average heads, and heads and `full`, unless one is clearly ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average: Option<bool>,
    /// The stages whose features `stages` compares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Vec<String>>,
    /// Images a class for that comparison, 2 or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare_on: Option<usize>,
    /// Settings of `race`.
    #[serde(skip_serializing_if = "is_default")]
    pub race: RaceSection,
}

/// The keys under `strategy.race:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct RaceSection {
    /// The methods to compare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<Method>>,
    /// Folds of the training images, 2 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<usize>,
    /// Passes over the images in the race, 1 to a million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
}

/// The keys under `train:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct TrainSection {
    /// 1 to a million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
    /// Images per step, 1 to 65536.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,
    /// Images that go through the network at once, 1 to 65536.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// Precision of a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// The optimizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerChoice>,
    /// Peak learning rate of the body, above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Peak learning rate of the head, above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_lr: Option<f64>,
    /// From 0, below 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Nesterov's form of momentum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// From 0 up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Whether decay applies to normalisation layers and biases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_norm_and_bias: Option<bool>,
    /// The learning rate after the warm-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleChoice>,
    /// 0 to a million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_epochs: Option<usize>,
    /// Epochs between two cuts, for `step`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_epochs: Option<usize>,
    /// The factor of a cut, between 0 and 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// Epochs without improvement before a cut, for `plateau`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// From 0, below 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_smoothing: Option<f64>,
    /// Weight of the auxiliary classifiers' losses, from 0 up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux_weight: Option<f64>,
    /// Weights of classes in the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// Above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_grad_norm: Option<f64>,
    /// Epochs without improvement before training stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<usize>,
    /// The figure by which an epoch is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Monitor>,
    /// BatchNorm in the trained stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_norm: Option<BatchNormMode>,
    /// Mixup's alpha, from 0 up; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixup: Option<f64>,
    /// CutMix's alpha, from 0 up; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutmix: Option<f64>,
    /// The decay of averaged weights, between 0 and 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Whether TensorBoard's event file follows the metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensorboard: Option<bool>,
    /// Whether the head is fitted before fine-tuning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear_head_first: Option<bool>,
    /// Learning rate of a group of stages relative to that of the group behind it, above 0, up to
    /// 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_decay: Option<f64>,
    /// Epochs between unfreezing one group of stages and the next, 0 to a million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfreeze_epochs: Option<usize>,
    /// Whether the frozen stages' output is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepChoice>,
    /// Memory for it, in MiB, 0 to a million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_memory: Option<usize>,
    /// File size for it, in MiB, 0 to a hundred million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_disk: Option<usize>,
    /// Augmented views of each training image, 0 to a million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_views: Option<usize>,
    /// The inverse L2 strength of a fitted head, above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub c: Option<f64>,
    /// Folds of the cross-validation that chooses it, 2 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<usize>,
}

/// The keys under `augment:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct AugmentSection {
    /// Whether to train on random parts of the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random_resized_crop: Option<bool>,
    /// Least and largest share of the area, above 0, up to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<[f64; 2]>,
    /// Least and largest width / height, above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<[f64; 2]>,
    /// Least and largest shorter side after resizing, 1 to 4096 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_jitter: Option<[u32; 2]>,
    /// The probability of a horizontal flip, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flip: Option<f64>,
    /// The probability of a vertical flip, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vertical_flip: Option<f64>,
    /// Random operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyChoice>,
    /// Operations in a row, for `randaugment`, 1 to 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_ops: Option<u32>,
    /// The strength of the operations, for `randaugment`, 0 to 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub magnitude: Option<u32>,
    /// Random brightness, contrast, saturation and hue.
    #[serde(skip_serializing_if = "is_default")]
    pub color_jitter: ColorJitterSection,
    /// The standard deviation of AlexNet's colour shift, from 0 up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pca_color: Option<f64>,
}

/// The keys under `augment.color_jitter:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct ColorJitterSection {
    /// Strength of brightness changes, from 0 up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brightness: Option<f64>,
    /// Strength of contrast changes, from 0 up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contrast: Option<f64>,
    /// Strength of saturation changes, from 0 up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saturation: Option<f64>,
    /// Largest hue shift, 0 to 0.5 turns of the colour circle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hue: Option<f64>,
}

/// The keys under `eval:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct EvalSection {
    /// The centre, or ten crops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crops: Option<Crops>,
    /// Shorter sides after resizing, 1 to 4096 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scales: Option<Vec<u32>>,
}
