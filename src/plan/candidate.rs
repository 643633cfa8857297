//! One way to a model, resolved: a method with all its settings.

use serde::Serialize;

use super::groups::groups;
use super::{LinearSettings, RaceSettings, ScheduleSettings, Settings, TrainSettings};
use crate::models::Network;
use crate::preprocess::Augmentation;
use crate::recipe::Method;

/// A method with all its settings.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// How much of the network is trained, and how.
    pub method: Method,
    /// Stages that keep their weights and running statistics.
    pub frozen_stages: Vec<String>,
    /// Stages that are trained, besides the head.
    pub trained_stages: Vec<String>,
    /// The settings of the method.
    #[serde(flatten)]
    pub training: Training,
}

/// Settings by kind of method.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Training {
    /// `linear` and `stages`: a head is fitted to the features of a frozen network.
    Heads {
        /// The fit.
        linear: LinearSettings,
    },
    /// `partial`, `full` and `scratch`: stages are trained by gradient.
    Gradient {
        /// The training.
        train: Box<TrainSettings>,
        /// Random changes to training images.
        augment: Augmentation,
    },
    /// Several methods are measured, and one of them is trained.
    Race {
        /// The settings of the race.
        race: RaceSettings,
    },
}

impl Candidate {
    /// The fit of a head, if the method has one.
    pub fn linear(&self) -> Option<&LinearSettings> {
        match &self.training {
            Training::Heads { linear } => Some(linear),
            _ => None,
        }
    }

    /// The training by gradient, if the method has one.
    pub fn train(&self) -> Option<&TrainSettings> {
        match &self.training {
            Training::Gradient { train, .. } => Some(train),
            _ => None,
        }
    }

    /// Number of images in a batch through the network.
    pub fn batch_size(&self) -> usize {
        match &self.training {
            Training::Gradient { train, .. } => train.batch_size,
            Training::Heads { linear } => linear.batch_size,
            Training::Race { .. } => 1,
        }
    }
}

impl Settings {
    /// Makes one of several candidates the method of the plan, as if the recipe had named it.
    pub fn adopt(&mut self, winner: Candidate, reason: String) {
        if winner.method.is_from_random() {
            self.weights = "none".into();
        }
        (self.candidate, self.reason) = (winner, reason);
    }
}

impl TrainSettings {
    /// The same training in `epochs` epochs, for a race. Cuts of the rate and unfreezing scale with
    /// it. The held-out images are not used before the last epoch is done: there is no best epoch
    /// and no early stopping, and `plateau` does not cut the rate.
    pub fn shortened(&self, epochs: usize, network: &Network) -> TrainSettings {
        let share = |count: usize| (count * epochs + self.epochs / 2) / self.epochs.max(1);
        let mut short = TrainSettings {
            epochs,
            warmup_epochs: self.warmup_epochs.min(epochs / 4),
            unfreeze_epochs: share(self.unfreeze_epochs),
            schedule: match self.schedule {
                ScheduleSettings::Step { epochs, gamma } => {
                    ScheduleSettings::Step { epochs: share(epochs).max(1), gamma }
                }
                ScheduleSettings::Plateau { .. } => ScheduleSettings::Constant,
                other => other,
            },
            early_stopping: None,
            ..self.clone()
        };
        short.groups = groups(&short, network);
        short
    }
}
