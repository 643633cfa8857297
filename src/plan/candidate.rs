//! One way to come to a model, resolved: a method with all that it decides.

use serde::Serialize;

use super::groups::groups;
use super::{LinearSettings, RaceSettings, ScheduleSettings, Settings, TrainSettings};
use crate::models::Network;
use crate::preprocess::Augmentation;
use crate::recipe::Method;

/// A method with all that it decides.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// How much of the network is trained, and how.
    pub method: Method,
    /// Stages that keep their weights and running statistics.
    pub frozen_stages: Vec<String>,
    /// Stages that are trained, besides the head.
    pub trained_stages: Vec<String>,
    /// How.
    #[serde(flatten)]
    pub training: Training,
}

/// How a method comes to a model.
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
        /// What is measured.
        race: RaceSettings,
    },
}

impl Candidate {
    /// The fit of a head, where the method is that.
    pub fn linear(&self) -> Option<&LinearSettings> {
        match &self.training {
            Training::Heads { linear } => Some(linear),
            _ => None,
        }
    }

    /// The training by gradient, where the method has one.
    pub fn train(&self) -> Option<&TrainSettings> {
        match &self.training {
            Training::Gradient { train, .. } => Some(train),
            _ => None,
        }
    }

    /// Images that go through the network at once.
    pub fn batch_size(&self) -> usize {
        match &self.training {
            Training::Gradient { train, .. } => train.batch_size,
            Training::Heads { linear } => linear.batch_size,
            Training::Race { .. } => 1,
        }
    }
}

impl Settings {
    /// Makes one of several candidates what the run has trained, as if the recipe had named it.
    pub fn adopt(&mut self, winner: Candidate, reason: String) {
        if winner.method.is_from_random() {
            self.weights = "none".into();
        }
        (self.candidate, self.reason) = (winner, reason);
    }
}

impl TrainSettings {
    /// The same training in `epochs` epochs, for a race. Cuts of the rate and unfreezing come in proportion. Nothing
    /// looks at the images that are held out before the last epoch is done: there is no best epoch, no early stopping,
    /// and the rate that `plateau` would cut stays.
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
