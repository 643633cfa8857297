//! Resolves the random changes to training images.

use super::defaults;
use crate::preprocess::{Augmentation, ColorJitter, Policy, Preprocessing};
use crate::recipe::{Mistake, PolicyChoice, Recipe};

/// Resolves a recipe's `augment`. `preprocessing` is missing if the recipe names no network.
pub(super) fn augmentation(
    recipe: &Recipe,
    preprocessing: Option<&Preprocessing>,
    mistakes: &mut Vec<Mistake>,
) -> Augmentation {
    let typed = &recipe.augment;
    let default = Augmentation::default();
    let policy = match typed.policy.unwrap_or(PolicyChoice::None) {
        PolicyChoice::None => None,
        PolicyChoice::AutoAugment => Some(Policy::AutoAugment),
        PolicyChoice::RandAugment => Some(Policy::RandAugment {
            num_ops: typed.num_ops.unwrap_or(defaults::RANDAUGMENT_OPS),
            magnitude: typed.magnitude.unwrap_or(defaults::RANDAUGMENT_MAGNITUDE),
        }),
        PolicyChoice::TrivialAugment => Some(Policy::TrivialAugment),
    };
    let jitter = &typed.color_jitter;
    let augment = Augmentation {
        // One replaces the other.
        random_resized_crop: typed.random_resized_crop.unwrap_or(typed.scale_jitter.is_none()),
        scale: typed.scale.unwrap_or(default.scale),
        ratio: typed.ratio.unwrap_or(default.ratio),
        scale_jitter: typed.scale_jitter,
        flip: typed.flip.unwrap_or(default.flip),
        vertical_flip: typed.vertical_flip.unwrap_or(default.vertical_flip),
        policy,
        color_jitter: ColorJitter {
            brightness: jitter.brightness.unwrap_or(0.),
            contrast: jitter.contrast.unwrap_or(0.),
            saturation: jitter.saturation.unwrap_or(0.),
            hue: jitter.hue.unwrap_or(0.),
        },
        pca_color: typed.pca_color.unwrap_or(default.pca_color),
    };
    let crop_size = preprocessing.map_or(1, |preprocessing| preprocessing.crop_size);
    for message in augment.mistakes(crop_size) {
        let (key, message) = message.split_once(": ").unwrap_or(("", &message));
        mistakes.push(recipe.mistake(&format!("augment.{key}"), message));
    }
    augment
}
