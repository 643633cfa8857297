//! Groups of stages, with their first epochs and rates.

use super::{GroupSettings, TrainSettings};
use crate::models::{Network, StageGroup};

/// The groups of the trained stages, first to last, with their rates and first epochs.
///
/// The last group learns at `lr`, the one before it at `lr × layer_decay`, and so on down the
/// chain. ELECTRA and BEiT do so by block with decays of 0.65 to 0.9, ULMFiT with 1 / 2.6; fastai
/// spreads a factor of 100 over the depth. With `unfreeze_epochs` (ULMFiT, Howard and Ruder, ACL
/// 2018) the last group joins first and one more follows after each period of this many epochs; a
/// head that is not fitted has the first period to itself.
pub fn groups(settings: &TrainSettings, network: &Network) -> Vec<GroupSettings> {
    let groups = network.trained_groups();
    let count = groups.len();
    let alone = usize::from(!settings.head_comes_trained());
    let row = |(index, group): (usize, StageGroup)| {
        let depth = count - 1 - index;
        GroupSettings {
            stages: group.name,
            lr: settings.lr * settings.layer_decay.powi(depth.try_into().unwrap_or(i32::MAX)),
            from_epoch: (depth + alone).saturating_mul(settings.unfreeze_epochs).saturating_add(1),
        }
    };
    groups.into_iter().enumerate().map(row).collect()
}
