//! The start of fine-tuning, the schedule and rates of its stages, and what is computed only once.

use super::defaults::{self, Defaults};
use super::groups::groups;
use super::{CacheSettings, TrainSettings};
use crate::models::Network;
use crate::recipe::{KeepChoice, Method, OptimizerChoice, Recipe};

/// The keys resolved here, and those of the head's fit.
pub(super) const KEYS: [&str; 9] = [
    "train.c",
    "train.folds",
    "train.linear_head_first",
    "train.layer_decay",
    "train.unfreeze_epochs",
    "train.keep",
    "train.keep_memory",
    "train.keep_disk",
    "train.kept_views",
];

/// Completes `train` for `network`, whose frozen stages are set.
pub(super) fn resolve(
    recipe: &Recipe,
    method: Method,
    augmented: bool,
    network: &Network,
    train: &mut TrainSettings,
    notes: &mut Vec<String>,
) {
    let typed = &recipe.train;
    if typed.linear_head_first == Some(true) && !method.is_from_random() && !network.holds_linear() {
        notes.push(format!(
            "`train.linear_head_first` needs a last layer that is linear, which that of {} is not: the head starts from \
             random values",
            network.architecture.name
        ));
    }
    if !method.is_from_random() {
        train.layer_decay = typed.layer_decay.unwrap_or(1.);
        train.unfreeze_epochs = typed.unfreeze_epochs.unwrap_or(0);
    }
    train.groups = groups(train, network);
    let late = train.groups.iter().rfind(|group| group.from_epoch > train.epochs);
    notes.extend(late.map(|group| {
        format!(
            "`unfreeze_epochs: {}` leaves no epoch for `{}` and what is before it: they would join in epoch {} of {}",
            train.unfreeze_epochs, group.stages, group.from_epoch, train.epochs
        )
    }));
    // A head on several stages reads the frozen ones too.
    if network.frozen() == 0 || !network.head_taps().is_empty() {
        return;
    }
    train.kept = match typed.keep.unwrap_or(KeepChoice::Auto) {
        KeepChoice::Never => None,
        KeepChoice::Auto => Some(CacheSettings {
            memory_mib: typed.keep_memory.unwrap_or(defaults::KEEP_MEMORY),
            disk_mib: typed.keep_disk.unwrap_or(defaults::KEEP_DISK),
        }),
    };
    if augmented {
        train.kept_views = typed.kept_views.unwrap_or(0);
        if train.kept_views >= train.epochs {
            notes.push(format!(
                "`kept_views: {}` is not below `epochs: {}`: each epoch sees new views, and none is kept",
                train.kept_views, train.epochs
            ));
        }
    }
}

/// The setting that fits no head.
pub(super) const HEAD_AS_IT_IS: &str = "linear_head_first: false";

/// Why a key of [`KEYS`] is not used, if it is not. `taken`: the head is the source's own, unless
/// the recipe says otherwise.
pub(super) fn unused(recipe: &Recipe, method: Method, key: &str, taken: bool) -> Option<String> {
    let typed = &recipe.train;
    let by_method = Some(format!("method: {method}"));
    match (method, key) {
        (method, _) if method.is_from_random() => by_method,
        (_, "train.c" | "train.folds") => {
            let by_default = Defaults::of(method, OptimizerChoice::Sgd, 0.).linear_head_first;
            match typed.linear_head_first {
                Some(false) => Some(HEAD_AS_IT_IS.into()),
                None if !by_default => by_method,
                None if taken => Some(HEAD_AS_IT_IS.into()),
                _ if key == "train.folds" => typed.c.map(|c| format!("c: {c}")),
                _ => None,
            }
        }
        (Method::Partial, "train.keep_memory" | "train.keep_disk")
            if typed.keep == Some(KeepChoice::Never) =>
        {
            Some("keep: never".into())
        }
        (Method::Partial, "train.kept_views")
            if recipe.augment.random_resized_crop == Some(false) && recipe.augment.flip == Some(0.) =>
        {
            Some("augment: { random_resized_crop: false, flip: 0 }".into())
        }
        (Method::Partial, _)
        | (_, "train.linear_head_first" | "train.layer_decay" | "train.unfreeze_epochs") => None,
        _ => by_method,
    }
}
