//! The end of every method: the temperature of the kept model's probabilities, and what tells it
//! strangers, go into its file.

use std::sync::Arc;

use tch::Tensor;

use super::{Chosen, Context, Outcomes};
use crate::data::Sample;
use crate::data::loader::Batching;
use crate::error::Result;
use crate::inference::readings::readings;
use crate::linear;
use crate::models::Network;
use crate::plan::Plan;
use crate::report::Calibration;
use crate::stats::calibration;
use crate::stats::metrics::Evaluation;
use crate::stats::scores::Scores;
use crate::trainer::ForwardCount;
use crate::unknown::{self, Reading};
use crate::weights::write_model;

/// Training images, and validation images, that are read at most: both are as good a picture of
/// what is known as all of them, and a pass over them takes no longer than a part of an epoch.
const MOST: usize = 2000;
/// Training images of each class in any case.
const EACH: usize = 5;

/// What the kept network finds in some training and validation images.
pub struct Known {
    /// Features of training images, `[N, D]`.
    pub train: Tensor,
    /// The readings of validation images.
    pub val: Reading,
}

/// Indices of the images that are read.
pub(super) struct KnownImages {
    pub train: Vec<usize>,
    pub val: Vec<usize>,
}

impl KnownImages {
    /// As many of each class for training, and evenly spaced ones for validation.
    pub fn of(plan: &Plan) -> Self {
        let Plan { settings, data, .. } = plan;
        let labels: Vec<i64> = data.train.iter().map(|sample| sample.label as i64).collect();
        let classes = data.classes.len();
        let each = (MOST / classes.max(1)).max(EACH);
        let train = linear::stratified_subset(&labels, classes, each, settings.seed);
        let step = data.val.len().div_ceil(MOST).max(1);
        KnownImages { train, val: (0..data.val.len()).step_by(step).collect() }
    }
}

impl Context<'_> {
    /// Fits the temperature to the validation images, and what tells strangers to these and to
    /// training images, and writes both into the model's file. The probabilities in `outcomes` get
    /// the temperature, as `predict` gives them. `known`: what was read before.
    pub fn calibrate(
        &self,
        kept: &Chosen,
        known: Option<Known>,
        outcomes: &mut Outcomes,
    ) -> Result<Option<Calibration>> {
        let images = KnownImages::of(self.plan);
        let known = match known {
            Some(known) => known,
            None => self.known(kept.network, &images, outcomes)?,
        };
        let labels: Vec<usize> =
            images.train.iter().map(|&image| self.plan.data.train[image].label).collect();
        let mut card = self.kept_card(kept);
        card.unknown = unknown::fit(&known.train, &labels, &known.val)?;
        if card.unknown.is_none() {
            let note = "the model cannot tell images that are like none of its classes (`unknown` in predict): its \
                        validation images are too few, or all the same to it";
            self.observer.say(&format!("note: {note}"));
            outcomes.notes.push(note.into());
        }
        card.temperature = outcomes.val.scores.as_deref().and_then(calibration::temperature);
        let calibration = card.temperature.and_then(|temperature| {
            let val = tempered(&mut outcomes.val, temperature)?;
            let test = outcomes.test.as_mut().and_then(|test| tempered(test, temperature));
            Some(Calibration::of(temperature, val, test))
        });
        self.folder.check_lock()?;
        write_model(&self.folder.model(), kept.network, &card)?;
        Ok(calibration)
    }

    /// Reads the images with the kept network.
    fn known(&self, network: &Network, images: &KnownImages, outcomes: &mut Outcomes) -> Result<Known> {
        let Plan { settings, data, .. } = self.plan;
        let batching = Batching {
            preprocessing: &settings.preprocessing,
            batch_size: settings.candidate.batch_size(),
            join_single: false,
            threads: settings.threads,
        };
        let total = images.train.len() + images.val.len();
        let (bar, mut done) = (self.observer.counting("reading what is known", total), 0);
        let stages = network.whole_name();
        let mut read = |part, samples: &[Sample], images: &[usize]| {
            let samples: Vec<&Sample> = images.iter().map(|&image| &samples[image]).collect();
            let count = ForwardCount { part, stages: stages.clone(), images: samples.len(), times: 1 };
            outcomes.passes.push(count);
            readings(network, &samples, &batching, settings.data.limits(), self.signals, |more| {
                done += more;
                bar.at(done);
            })
        };
        let train = read("train", &data.train, &images.train)?.features;
        Ok(Known { train, val: read("val", &data.val, &images.val)? })
    }
}

/// Gives the probabilities of an evaluation a temperature; returns those of before and after, if
/// there are any.
fn tempered(evaluation: &mut Evaluation, temperature: f64) -> Option<[Arc<Scores>; 2]> {
    let before = evaluation.scores.take()?;
    let after = Arc::new(Scores::clone(&before).tempered(temperature));
    evaluation.scores = Some(Arc::clone(&after));
    Some([before, after])
}
