//! What `report.html` shows of a finished run besides its figures.

use std::cell::OnceCell;
use std::path::Path;

use tch::Tensor;

use super::finetune::Args;
use crate::device::back_off::BackOff;
use crate::device::copy::upload;
use crate::device::precision::Precision;
use crate::error::Result;
use crate::inference::explain::{self, Explaining};
use crate::methods::Outcomes;
use crate::models::Network;
use crate::plan::{Plan, Training};
use crate::preprocess::{Preprocessing, RgbImage};
use crate::report::Shown;
use crate::report::gallery::{Examples, Mistakes, Reader};
use crate::text::path_text::path_text;
use crate::text::words::for_shell;

/// The pictures of a run, read once more from the images, and what spoke for the mistakes of `network`.
pub(super) fn shown<'a>(
    plan: &Plan,
    outcomes: &'a Outcomes,
    network: &Network,
    args: &Args,
) -> Result<Shown<'a>> {
    let Plan { settings, data, .. } = plan;
    let (samples, evaluation) = match (&data.test, &outcomes.test) {
        (Some(samples), Some(evaluation)) => (samples, evaluation),
        _ => (&data.val, &outcomes.val),
    };
    let reader = Reader { preprocessing: &settings.preprocessing, limits: settings.data.limits() };
    let augmentation = match &settings.candidate.training {
        Training::Gradient { augment, .. } => Some(augment),
        Training::Heads { .. } | Training::Race { .. } => None,
    };
    let mut trained_on = vec![0; data.classes.len()];
    data.train.iter().for_each(|sample| trained_on[sample.label] += 1);
    let heat = Heat::of(network, &settings.preprocessing);
    let heat = |pixels: &RgbImage, class| heat.over(pixels, class);
    let mistakes = match &evaluation.scores {
        Some(scores) => Mistakes::of(samples, scores, &data.classes, reader, &heat)?,
        None => Mistakes::default(),
    };
    Ok(Shown {
        evaluation,
        trained_on,
        mistakes,
        examples: Examples::of(&data.train, &data.classes, reader, augmentation, settings.seed)?,
        data: name_of(&settings.data.train),
        command: command(args, &settings.out),
    })
}

/// Grad-CAM of a network, for the pictures of a page.
pub(super) struct Heat<'a> {
    network: &'a Network,
    preprocessing: &'a Preprocessing,
    /// The last stage with places, found by an image that goes through the network.
    stage: OnceCell<Option<usize>>,
}

impl<'a> Heat<'a> {
    pub(super) fn of(network: &'a Network, preprocessing: &'a Preprocessing) -> Self {
        Heat { network, preprocessing, stage: OnceCell::new() }
    }

    /// What speaks for `class`, over the pixels that the network sees; nothing where no stage has places.
    pub(super) fn over(&self, pixels: &RgbImage, class: usize) -> Result<Option<RgbImage>> {
        let Heat { network, preprocessing, .. } = *self;
        let side = preprocessing.crop_size;
        let Some(stage) = *self.stage.get_or_init(|| network.map_stage(None, side).ok()) else {
            return Ok(None);
        };
        let mut values = vec![0.; pixels.data.len()];
        preprocessing.normalise_pixels(pixels, [0.; 3], &mut values);
        let length = i64::from(side);
        let images = Tensor::f_from_slice(&values)?.f_reshape([1, 3, length, length])?;
        let images = upload(&images, network.device())?;
        let parts = BackOff::new(network.device());
        let (method, precision) = (explain::Method::GradCam, Precision::Fp32);
        let explaining =
            Explaining { stage, method, class: Some(class), temperature: None, precision, parts: &parts };
        let found = explaining.run(network, &images)?;
        Ok(found.first().filter(|it| it.map.is_finite()).map(|it| it.map.overlay(pixels)))
    }
}

/// A name for the images at `path`: `photos` for `photos/train` and for `photos.csv`.
fn name_of(path: &Path) -> String {
    let own = path.file_stem().unwrap_or_default().to_string_lossy();
    let above = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy());
    match above.filter(|_| own.starts_with("train")) {
        Some(above) => above.into_owned(),
        None => own.into_owned(),
    }
}

/// The command that repeats a run.
fn command(args: &Args, out: &Path) -> String {
    let mut words = vec!["tl finetune".to_string(), for_shell(&path_text(&args.recipe))];
    words.extend(args.sets.iter().map(|set| format!("--set {}", for_shell(set))));
    words.push(format!("--out {}", for_shell(&path_text(out))));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_the_name_of_their_folder() {
        for (path, name) in [
            ("/a/photos/train", "photos"),
            ("/a/photos", "photos"),
            ("photos.csv", "photos"),
            ("/a/flowers/train.csv", "flowers"),
            ("train", "train"),
            ("/", ""),
        ] {
            assert_eq!(name_of(Path::new(path)), name, "{path}");
        }
    }
}
