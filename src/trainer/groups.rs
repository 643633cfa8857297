//! When stages are trained, and at what rate.

use super::TrainingJob;
use crate::models::{Network, Role};
use crate::optim::{AdamW, Optimizer, OptimizerConfig, ParamGroup, Sgd};
use crate::plan::{OptimizerSettings, TrainSettings};

/// Number of stages that do not learn in `epoch` (from 0): frozen ones, and those to be unfrozen
/// later.
pub(super) fn held(job: &TrainingJob, network: &Network, epoch: usize) -> usize {
    let rows = job.settings.groups.iter();
    let joined = network.trained_groups().into_iter().zip(rows).find(|(_, row)| row.from_epoch <= epoch + 1);
    joined.map_or(network.stage_count(), |(group, _)| group.stages.start)
}

/// The update rule over the head and each group of stages, each with and without weight decay.
pub(super) fn optimizer(settings: &TrainSettings, network: &Network) -> Optimizer {
    let config = match settings.optimizer {
        OptimizerSettings::Sgd { momentum, nesterov } => OptimizerConfig::Sgd(Sgd { momentum, nesterov }),
        OptimizerSettings::AdamW => OptimizerConfig::AdamW(AdamW::default()),
    };
    let decays = |role: Role| settings.decay_norm_and_bias || role == Role::Weight;
    let stages = network.trained_groups();
    // Layers between the stages and the head belong to the last group; alone, they have the body's
    // rate.
    let group_of = |stage: Option<usize>| {
        stage.map(|stage| stages.iter().position(|group| group.stages.contains(&stage)))
    };
    let body = settings.groups.iter().enumerate().map(|(index, row)| (Some(Some(index)), row.lr));
    let rates = body.chain([(Some(None), settings.lr), (None, settings.head_lr)]);
    let groups = rates.flat_map(|(place, lr)| [true, false].map(|decay| (place, lr, decay)));
    let groups = groups.map(|(place, lr, decay)| ParamGroup {
        params: network
            .trained_by_stage()
            .filter(|(var, stage)| group_of(*stage) == place && decays(var.role) == decay)
            .map(|(var, _)| (var.key.clone(), var.tensor.shallow_clone()))
            .collect(),
        lr,
        weight_decay: if decay { settings.weight_decay } else { 0. },
    });
    Optimizer::new(config, groups.collect())
}
