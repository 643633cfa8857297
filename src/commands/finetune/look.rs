//! A look at the heads on fixed features before `full` is trained: fitted to a part of the images, in a fraction of its time.

use std::time::Instant;

use tch::Tensor;

use super::candidates::chosen;
use super::{Run, Seconds};
use crate::dataset::Sample;
use crate::error::{Error, Result};
use crate::linear;
use crate::models::{Network, Reading};
use crate::plan::LinearSettings;
use crate::recipe::Method;
use crate::strategy::race;
use crate::strategy::rival::LOOK_AT;
use crate::trainer;

/// What a look has found.
pub(super) struct Look {
    /// Training images that the heads were fitted to.
    pub images: usize,
    /// The cross-validated accuracy at each stage alone.
    pub by_stage: Vec<f64>,
    /// The same of the best, where there is one.
    pub chosen: Option<f64>,
    /// What that did on each validation image.
    pub on_val: race::Outcomes,
}

impl Run<'_> {
    /// Fits heads to [`LOOK_AT`] training images of each class; `None` where that would be nearly all of them.
    pub(super) fn look(
        &self,
        network: &Network,
        settings: &LinearSettings,
        seconds: &mut Seconds,
    ) -> Result<Option<Look>> {
        let started = Instant::now();
        let (data, seed) = (&self.plan.data, self.plan.settings.seed);
        let labels: Vec<i64> = data.train.iter().map(|sample| sample.label as i64).collect();
        let images = linear::at_most(&labels, data.classes.len(), LOOK_AT, seed);
        if 2 * images.len() > labels.len() {
            return Ok(None);
        }
        let train: Vec<Sample> = images.iter().map(|&image| data.train[image].clone()).collect();
        let samples: Vec<&Sample> = train.iter().chain(&data.val).collect();
        let readings: Vec<Reading> =
            settings.stages.iter().map(|name| network.reading(name)).collect::<Result<_>>()?;
        let store = self.folder.features();
        let listing = format!("look {} {}", data.listing(), network.frozen_hash()?);
        let job = self.features_job(network, &readings, settings.batch_size, &store);
        let bar = self.terminal.images("features", samples.len());
        let vectors = seconds.of("features", || {
            job.compute(&samples, &listing, self.resume, |done| bar.set_position(done as u64))
        });
        bar.finish_and_clear();
        let vectors = vectors?;
        let rows = |start: usize, length: usize| -> Result<Vec<Tensor>> {
            let narrow = |x: &Tensor| x.f_narrow(0, start as i64, length as i64);
            vectors
                .iter()
                .map(narrow)
                .collect::<Result<_, _>>()
                .map_err(Error::torch("take rows of features"))
        };
        let settings = LinearSettings { compare_on: None, ..settings.clone() };
        let x = rows(0, train.len())?;
        let candidates = seconds.of("fit", || self.candidates(network, &settings, &x, &train));
        self.signals.check("stopped while fitting heads; what is done is kept: go on with `--resume`")?;
        let candidates = candidates?;
        let best = &candidates[chosen(&candidates)];
        let labels = trainer::labels_of(data.val.iter())?;
        let measured = best.measure(&rows(train.len(), data.val.len())?, &labels, data.classes.len())?;
        let alone = candidates.iter().filter(|candidate| candidate.readings.len() == 1);
        Ok(Some(Look {
            images: train.len(),
            by_stage: alone.filter_map(|candidate| Some(candidate.cross_validated()?.accuracy)).collect(),
            chosen: best.cross_validated().map(|row| row.accuracy),
            on_val: race::Outcomes {
                method: Method::Stages,
                right: measured.confusion.outcomes().to_vec(),
                seconds: started.elapsed().as_secs_f64(),
            },
        }))
    }
}
