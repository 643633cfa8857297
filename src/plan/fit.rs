//! Settings for images that are not square or have 16 bits a sample, and notes on such images.

use std::path::Path;

use super::Data;
use crate::data::Sample;
use crate::preprocess::{Brightness, Crops, DecodeLimits, Fit, Preprocessing, image_size};
use crate::recipe::{PreprocessChoice, Recipe};
use crate::text::words::counted;

/// Number of training images whose file heads are read, evenly over the list: enough to tell a
/// tenth from a fifth.
const LOOKED_AT: usize = 256;

/// Share of the longer side that the centre crop may leave out without a note.
const MOST_LOST: f64 = 1. / 3.;

/// A smaller share of such images is ignored.
const FEW: f64 = 0.1;

/// How images become squares, unless by the centre crop.
pub(super) fn line(preprocessing: &Preprocessing) -> Option<String> {
    let side = preprocessing.crop_size;
    match preprocessing.fit {
        Fit::Crop => None,
        Fit::Squash => Some(format!("images      squashed to {side} × {side} pixels")),
        Fit::Pad => {
            let [red, green, blue] = preprocessing.margin_color();
            let color = format!("red {red}, green {green}, blue {blue}");
            Some(format!("images      padded to {side} × {side} pixels with {color}"))
        }
    }
}

/// Keys that the fit does not use.
pub(super) fn unused_keys(recipe: &Recipe, preprocessing: &Preprocessing) -> Vec<String> {
    let Some(PreprocessChoice::Changes(changes)) = &recipe.preprocess else { return Vec::new() };
    let fit = preprocessing.fit;
    let both = changes.resize_size.is_some() && changes.crop_size.is_some();
    let one_crop = recipe.eval.crops.unwrap_or_default() == Crops::One;
    let color = (changes.pad_color.is_some() && fit != Fit::Pad).then_some("pad_color");
    let resize = (both && one_crop && !fit.is_crop()).then_some("resize_size");
    let said = |key| format!("`preprocess.{key}` is not used by `fit: {}`", fit.name());
    color.into_iter().chain(resize).map(said).collect()
}

/// A note if the centre crop leaves out much of many images.
pub(super) fn note(data: &Data, preprocessing: &Preprocessing) -> Option<String> {
    if !preprocessing.fit.is_crop() {
        return None;
    }
    let images = data.train.len();
    let looked_at = images.min(LOOKED_AT);
    let chosen = (0..looked_at).map(|index| &data.train[index * images / looked_at]);
    // Records have no file head of their own.
    let files = chosen.filter(|sample| sample.record.is_none());
    let sizes = files.filter_map(|sample| image_size(&sample.path));
    let lost: Vec<f64> = sizes.filter_map(|size| lost(size, preprocessing)).collect();
    let cut = lost.iter().filter(|lost| **lost > MOST_LOST).count();
    (cut as f64 > FEW * lost.len() as f64).then(|| {
        format!(
            "of {} looked at, {cut} {} more than a third of the longer side to the centre crop (`fit: crop`), the worst \
             {:.0} %: if what matters may lie there, `preprocess: {{ fit: squash }}` shows all of an image out of \
             proportion, and `fit: pad` all of it in proportion, between margins",
            counted(lost.len(), "training image", "training images"),
            if cut == 1 { "loses" } else { "lose" },
            100. * lost.iter().copied().fold(0., f64::max)
        )
    })
}

/// A warning if 16-bit images use few of their bits, or exceed the recipe's white level: of the
/// first part of which that is so.
pub(super) fn too_dark(data: &Data, preprocessing: &Preprocessing, limits: DecodeLimits) -> Option<String> {
    let advice = |white| format!("`preprocess: {{ white_level: {white} }}` makes {white} white");
    let note = |(samples, what): (&[Sample], &str)| {
        // Images inside a file of many have 8 bits.
        let files: Vec<&Path> =
            samples.iter().filter(|sample| sample.record.is_none()).map(|sample| &*sample.path).collect();
        Brightness::of(files.into_iter(), limits)?.note(what, preprocessing.white_level, advice)
    };
    let test = data.test.as_deref().unwrap_or_default();
    let parts = [(&data.train[..], "training image"), (&data.val, "validation image"), (test, "test image")];
    parts.into_iter().find_map(note)
}

/// The share of the longer side that the centre crop leaves out.
fn lost((width, height): (u32, u32), preprocessing: &Preprocessing) -> Option<f64> {
    let (short, long) = (width.min(height), width.max(height));
    let resized = f64::from(preprocessing.resize_size) * f64::from(long) / f64::from(short);
    (short > 0).then(|| 1. - (f64::from(preprocessing.crop_size) / resized).min(1.))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_centre_crop_leaves_out_of_the_longer_side() {
        let mut preset = crate::models::find("resnet18").unwrap().weights()[0].preprocessing.clone();
        assert_eq!((preset.resize_size, preset.crop_size), (256, 224));
        assert_eq!(lost((500, 500), &preset), Some(0.125));
        assert_eq!(lost((0, 500), &preset), None);
        preset.resize_size = 224;
        assert!((lost((300, 900), &preset).unwrap() - 2. / 3.).abs() < 1e-12);
        assert_eq!(lost((900, 300), &preset), lost((300, 900), &preset));
        preset.resize_size = 100;
        assert_eq!(lost((30, 60), &preset), Some(0.), "all of it is seen, between margins");
    }
}
