//! Which stages are trained when, and at what rate.

use super::Job;
use crate::models::{Network, Role};
use crate::optim::{AdamW, Optimizer, OptimizerConfig, ParamGroup, Sgd};
use crate::plan::{GroupSettings, OptimizerSettings, TrainSettings};

/// The groups of the stages that are trained, first to last, with their rates and first epochs.
///
/// The last group learns at `lr`, the one before it at `lr × layer_decay`, and so on down the chain: ELECTRA
/// and BEiT do so by block with decays of 0.65 to 0.9, ULMFiT with 1 / 2.6, fastai spreads a factor of 100
/// over the depth. With `unfreeze_epochs` (ULMFiT, Howard and Ruder, ACL 2018) the last group joins first and
/// one more follows every so many epochs; a head that does not come fitted has the first of these periods to
/// itself.
pub fn groups(settings: &TrainSettings, network: &Network) -> Vec<GroupSettings> {
    let groups = network.trained_groups();
    let count = groups.len();
    let alone = usize::from(!settings.head_comes_trained());
    let row = |(index, group): (usize, crate::models::StageGroup)| {
        let depth = count - 1 - index;
        GroupSettings {
            stages: group.name,
            lr: settings.lr * settings.layer_decay.powi(depth.try_into().unwrap_or(i32::MAX)),
            from_epoch: (depth + alone).saturating_mul(settings.unfreeze_epochs).saturating_add(1),
        }
    };
    groups.into_iter().enumerate().map(row).collect()
}

/// How many stages are held in `epoch` (from 0): those that are frozen, and those whose turn has not come.
pub(super) fn held(job: &Job, network: &Network, epoch: usize) -> usize {
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
    // What stands between the stages and the head goes with the last group; alone, it has the body's rate.
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
