//! Enums for the words that a recipe can choose.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `strategy.size`: how much data there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatasetSize {
    /// Measured.
    Auto,
    /// Very little.
    Little,
    /// Quite a lot.
    Lots,
}

impl fmt::Display for DatasetSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DatasetSize::Auto => "auto",
            DatasetSize::Little => "little",
            DatasetSize::Lots => "lots of",
        })
    }
}

/// `strategy.similarity`: similarity to the source data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Similarity {
    /// Measured.
    Auto,
    /// Very similar.
    Similar,
    /// Very different.
    Different,
}

impl fmt::Display for Similarity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Similarity::Auto => "auto",
            Similarity::Similar => "similar",
            Similarity::Different => "different",
        })
    }
}

/// `data.bad_images`: treatment of unreadable images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BadImages {
    /// Continue without them.
    Skip,
    /// Stop before training.
    Fail,
}

/// `preprocess.interpolation`: the resizing filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterpolationChoice {
    /// Triangle filter.
    Bilinear,
    /// Keys' cubic with a = -0.5.
    Bicubic,
}

/// `train.optimizer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerChoice {
    /// Stochastic gradient descent.
    Sgd,
    /// Adam with decoupled weight decay.
    AdamW,
}

/// `train.schedule`: the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleChoice {
    /// Constant.
    Constant,
    /// Cut every few epochs.
    Step,
    /// Half a cosine, down to 0.
    Cosine,
    /// Cut when the validation accuracy stalls.
    Plateau,
}

impl fmt::Display for ScheduleChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ScheduleChoice::Constant => "constant",
            ScheduleChoice::Step => "step",
            ScheduleChoice::Cosine => "cosine",
            ScheduleChoice::Plateau => "plateau",
        })
    }
}

/// `augment.policy`: random operations on training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyChoice {
    /// None.
    None,
    /// Pairs of operations learned on ImageNet.
    AutoAugment,
    /// A number of random operations of one magnitude.
    RandAugment,
    /// One random operation of a random magnitude.
    TrivialAugment,
}

impl fmt::Display for PolicyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PolicyChoice::None => "none",
            PolicyChoice::AutoAugment => "autoaugment",
            PolicyChoice::RandAugment => "randaugment",
            PolicyChoice::TrivialAugment => "trivialaugment",
        })
    }
}

/// `train.class_weights`: weights of classes in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// Each image counts the same.
    None,
    /// Each class counts the same.
    Balanced,
}

/// `train.monitor`: the figure on the validation images by which an epoch is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// The share of right predictions.
    #[default]
    Accuracy,
    /// Mean recall of the classes.
    BalancedAccuracy,
    /// Mean F1 of the classes.
    MacroF1,
    /// Mean cross-entropy: the lowest is best.
    Loss,
}

impl fmt::Display for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Monitor::Accuracy => "accuracy",
            Monitor::BalancedAccuracy => "balanced accuracy",
            Monitor::MacroF1 => "macro F1",
            Monitor::Loss => "loss",
        })
    }
}

/// `train.batch_norm`: BatchNorm in the trained stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchNormMode {
    /// Uses and updates batch statistics.
    Train,
    /// Keeps the pretrained statistics.
    Inference,
}

/// `train.keep`: the output of the frozen stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepChoice {
    /// Computed once and kept, if constant and if there is room for it.
    Auto,
    /// Computed in every epoch.
    Never,
}
