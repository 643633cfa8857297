//! A look at the heads on fixed features before `full` is trained: fitted to a part of the images, in a fraction of its time.

use tch::Tensor;

use super::candidates::chosen;
use super::on_features::rows;
use super::{Run, Seconds};
use crate::dataset::Sample;
use crate::error::{Error, Result};
use crate::linear;
use crate::models::{Network, Reading};
use crate::plan::LinearSettings;
use crate::strategy::rival::LOOK_AT;
use crate::trainer;

/// What heads have told, whatever number of images they were fitted to.
pub(super) struct Look {
    /// Training images that they were compared on.
    pub images: usize,
    /// The cross-validated accuracy at each stage alone.
    pub by_stage: Vec<f64>,
    /// The same of the best, where there is one.
    pub chosen: Option<f64>,
    /// Whether that was right, on each validation image that was looked at.
    pub on_val: Vec<bool>,
}

impl Run<'_> {
    /// Fits heads on several stages to [`LOOK_AT`] training images of each class, and measures the best on as many validation
    /// images. `None` where these would be most of the training images, unless `anyhow`.
    pub(super) fn look(
        &self,
        network: &Network,
        settings: &LinearSettings,
        anyhow: bool,
        seconds: &mut Seconds,
    ) -> Result<Option<Look>> {
        let (data, seed) = (&self.plan.data, self.plan.settings.seed);
        let some = |samples: &[Sample]| -> Vec<Sample> {
            let labels: Vec<i64> = samples.iter().map(|sample| sample.label as i64).collect();
            let images = linear::at_most(&labels, data.classes.len(), LOOK_AT, seed);
            images.iter().map(|&image| samples[image].clone()).collect()
        };
        let (train, val) = (some(&data.train), some(&data.val));
        if 2 * train.len() > data.train.len() && !anyhow {
            return Ok(None);
        }
        let samples: Vec<&Sample> = train.iter().chain(&val).collect();
        let readings: Vec<Reading> =
            settings.stages.iter().map(|name| network.reading(name)).collect::<Result<_>>()?;
        let (vectors, _) =
            self.vectors(network, &readings, settings, &samples, ("look ", self.folder), seconds)?;
        // Heads on the early stages together and on all of them are nearly as good as the best of all, in a third of the time.
        let stages = settings.stages.iter().take(1).cloned().collect();
        let settings = LinearSettings { stages, compare_on: None, rough: true, ..settings.clone() };
        let joined = |start, length| -> Result<Vec<Tensor>> {
            let parts = rows(&vectors, start, length)?;
            let early = &parts[..parts.len() / 2];
            let sets = [early, &parts[..]].into_iter().filter(|set| !set.is_empty());
            let joined = sets.map(|set| Tensor::f_cat(set, 1)).collect::<Result<_, _>>();
            joined.map_err(Error::torch("join the features of stages"))
        };
        let x = joined(0, train.len())?;
        let candidates = seconds.of("fit", || self.candidates(network, &settings, &x, &train, true));
        self.signals.check("stopped while fitting heads; what is done is kept: go on with `--resume`")?;
        let candidates = candidates?;
        let best = &candidates[chosen(&candidates)];
        let labels = trainer::labels_of(val.iter())?;
        let measured = best.measure(&joined(train.len(), val.len())?, &labels, data.classes.len())?;
        Ok(Some(Look {
            images: train.len(),
            by_stage: Vec::new(),
            chosen: best.cross_validated().map(|row| row.accuracy),
            on_val: measured.confusion.outcomes().to_vec(),
        }))
    }
}
