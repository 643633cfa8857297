//! The network of a plan: its source, its file, and its preprocessing.

use crate::models::Architecture;
use crate::preprocess::{Interpolation, Preprocessing};
use crate::recipe::{InterpolationChoice, Method, Mistake, PreprocessChoice, Recipe};
use crate::weights::Head;
use crate::weights::download::Silent;
use crate::weights::source::{Opened, Source, Weights, preprocessing_by_tag};

pub(super) fn source(recipe: &Recipe, method: Method, mistakes: &mut Vec<Mistake>) -> Option<Source> {
    let model = recipe.model.as_deref()?;
    let weights = recipe.weights.as_deref();
    let mut source = match Source::resolve(model, weights, |path| recipe.resolve(path)) {
        Ok(source) => source,
        Err(message) => {
            // The weights are at fault if the model alone would do.
            let alone = Source::resolve(model, None, |path| recipe.resolve(path)).is_ok();
            mistakes.push(recipe.mistake(if alone { "weights" } else { "model" }, message));
            return None;
        }
    };
    if source.features_only() {
        mistakes.push(recipe.mistake("weights", source.features_only_refusal()));
        return None;
    }
    if method.is_from_random() && weights.is_none() && matches!(source.weights, Weights::Entry(_)) {
        source.weights = Weights::None;
    }
    Some(source)
}

/// Opens an available file now, so that one that does not fit is a mistake of the recipe and does
/// not end the run later.
pub(super) fn open(recipe: &Recipe, source: &Source, mistakes: &mut Vec<Mistake>) -> Option<Opened> {
    if matches!(source.weights, Weights::Entry(_)) {
        return None;
    }
    source
        .open(&Silent)
        .map_err(|error| mistakes.push(recipe.mistake(key_of(source), error.to_string())))
        .ok()
}

/// The key that names the source's file.
pub(super) fn key_of(source: &Source) -> &'static str {
    if matches!(source.weights, Weights::Model(_)) { "model" } else { "weights" }
}

/// Checks that the opened file fits the network, at the images' size.
pub(super) fn check_weights(
    recipe: &Recipe,
    source: &Source,
    opened: &Opened,
    preprocessing: &Preprocessing,
    mistakes: &mut Vec<Mistake>,
) {
    if fits(source.architecture, preprocessing).is_err() {
        return;
    }
    if let Err(error) = opened.check(Head::Replace, preprocessing.crop_size) {
        mistakes.push(recipe.mistake(key_of(source), error.to_string()));
    }
}

pub(super) fn preprocessing(
    recipe: &Recipe,
    source: &Source,
    opened: Option<&Opened>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Preprocessing> {
    let mut preprocessing = match (opened, &source.weights) {
        (Some(opened), _) => opened.preprocessing.clone(),
        (None, Weights::Entry(entry)) => entry.preprocessing.clone(),
        // An unreadable file has left its mistake; the other keys are still worth checking.
        (None, _) => source.architecture.preprocessing(),
    };
    match &recipe.preprocess {
        None => {}
        Some(PreprocessChoice::Tag(tag)) => match preprocessing_by_tag(source.architecture, tag) {
            Ok(by_tag) => preprocessing = by_tag,
            Err(message) => {
                mistakes.push(recipe.mistake("preprocess", message));
                return None;
            }
        },
        Some(PreprocessChoice::Changes(changes)) => {
            // A crop alone would otherwise cut a corner-sized piece out of a much larger image, and
            // a resize alone would be padded: if only one is given, the other follows it.
            let (resize, crop) = (changes.resize_size, changes.crop_size);
            if let Some(size) = resize.or(crop) {
                preprocessing.resize_size = size as u32;
            }
            if let Some(size) = crop.or(resize) {
                preprocessing.crop_size = size as u32;
            }
            if let Some(choice) = changes.interpolation {
                preprocessing.interpolation = match choice {
                    InterpolationChoice::Bilinear => Interpolation::Bilinear,
                    InterpolationChoice::Bicubic => Interpolation::Bicubic,
                };
            }
            if let Some(mean) = changes.mean {
                preprocessing.mean = mean.map(|value| value as f32);
            }
            if let Some(std) = changes.std {
                preprocessing.std = std.map(|value| value as f32);
            }
            preprocessing.white_level = changes.white_level.or(preprocessing.white_level);
            preprocessing.pad_color = changes.pad_color.or(preprocessing.pad_color);
            preprocessing = preprocessing.with_fit(changes.fit.unwrap_or(preprocessing.fit));
        }
    }
    if let Err(message) = fits(source.architecture, &preprocessing) {
        mistakes.push(recipe.mistake("preprocess", message));
    }
    Some(preprocessing)
}

/// Checks that the network can take images of this size.
pub fn fits(architecture: &Architecture, preprocessing: &Preprocessing) -> Result<(), String> {
    if let Some(mistake) = preprocessing.mistake() {
        return Err(mistake);
    }
    architecture.check_side(preprocessing.crop_size)
}
