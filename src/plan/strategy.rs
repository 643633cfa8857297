//! Resolves `strategy`: size and similarity, measured or as in the recipe, and the method.

use std::path::Path;
use std::time::Instant;

use serde::Deserialize;

use super::{Data, file};
use crate::device;
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::preprocess::{DecodeLimits, Preprocessing};
use crate::recipe::{Method, Recipe, Similarity};
use crate::strategy::similarity::{self, SIMILAR_ABOVE, SIMILAR_BELOW, SimilarityJob};
use crate::strategy::size::LITTLE_BELOW;
use crate::strategy::{Choice, Measure, Measured, SimilarityEstimate, Size, Strategy, choose};
use crate::weights::download::DownloadProgress;
use crate::weights::source::{Opened, Source, Weights};

/// Observer of planning, which may download weights and measure images.
pub struct Watch<'a> {
    /// Downloads of weights.
    pub downloads: &'a dyn DownloadProgress,
    /// Called before each batch of the sample: done and total images. An error stops the work.
    pub measuring: &'a dyn Fn(usize, usize) -> Result<()>,
}

/// Inputs of the decision that do not depend on the method.
pub(super) struct Decision<'a> {
    pub recipe: &'a Recipe,
    pub source: &'a Source,
    pub preprocessing: &'a Preprocessing,
    pub data: &'a Data,
    pub limits: DecodeLimits,
    pub seed: u64,
    pub device: DeviceChoice,
    pub threads: usize,
    /// The plan of the run to resume, if there is one: its measurement holds.
    pub earlier: Option<&'a Path>,
}

/// A strategy and a method, with measurements.
pub(super) struct Decided {
    pub strategy: Strategy,
    pub choice: Choice,
    /// Images per second through the network, if any were measured.
    pub rate: Option<f64>,
}

impl Decision<'_> {
    /// Decides. Reads the source's file into `opened` if the similarity must be measured.
    pub fn make(&self, asked: Method, opened: &mut Option<Opened>, watch: &Watch) -> Result<Decided> {
        let typed = &self.recipe.strategy;
        let size = Size::of(&self.data.counts(), typed.size, typed.little_below.unwrap_or(LITTLE_BELOW));
        let forced = typed.similarity.filter(|&similarity| similarity != Similarity::Auto);
        let decided = |similarity, choice, rate| Decided {
            strategy: Strategy { size: size.clone(), similarity },
            choice,
            rate,
        };
        if asked != Method::Auto {
            let choice = Choice { method: asked, rival: None, reason: "the recipe says so".into() };
            return Ok(decided(forced.map(SimilarityEstimate::forced), choice, None));
        }
        let (similarity, rate) = match forced {
            _ if matches!(self.source.weights, Weights::None) => (None, None),
            Some(similarity) => (Some(SimilarityEstimate::forced(similarity)), None),
            None => {
                let (measured, rate) = self.measure(opened, watch)?;
                (Some(SimilarityEstimate::of(measured)), rate)
            }
        };
        let young = opened.as_ref().is_some_and(Opened::begun_at_random);
        let mut choice = choose(&Strategy { size: size.clone(), similarity: similarity.clone() }, young);
        choice.rival = choice.rival.filter(|_| typed.rival.unwrap_or(true));
        Ok(decided(similarity, choice, rate))
    }

    fn measure(&self, opened: &mut Option<Opened>, watch: &Watch) -> Result<(Measured, Option<f64>)> {
        if let Some(measured) = self.earlier.and_then(|plan| earlier(plan, &self.data.fingerprint())) {
            return Ok((measured, None));
        }
        let opened = match opened {
            Some(opened) => opened,
            None => opened.insert(self.source.open(watch.downloads).map_err(|error| match error {
                Error::Interrupted { .. } => error,
                error => Error::run(format!(
                    "{error}\n  The weights are needed already to measure how similar the images are to the source \
                     data; `strategy: {{ similarity: different }}` or `similar`, or a `method`, plans without them"
                )),
            })?),
        };
        device::set_threads(self.threads);
        let device = device::choose(self.device)?;
        let network = opened.with_own_head(self.preprocessing.crop_size, device, self.seed)?;
        let typed = &self.recipe.strategy;
        let threshold = match similarity::measure_for(&network) {
            Measure::Statistics => typed.similar_below.unwrap_or(SIMILAR_BELOW),
            Measure::Information => typed.similar_above.unwrap_or(SIMILAR_ABOVE),
        };
        let job = SimilarityJob {
            network: &network,
            preprocessing: self.preprocessing,
            limits: self.limits,
            seed: self.seed,
            threads: self.threads,
            classes: self.data.classes.len(),
        };
        let total = self.data.train.len().min(similarity::SAMPLE);
        let started = Instant::now();
        let measured = job
            .measure(&self.data.train, threshold, |done| (watch.measuring)(done, total))
            .map_err(|error| match error {
                Error::Interrupted { .. } => error,
                error => Error::run(format!(
                    "{error}; `strategy: {{ similarity: … }}` or `method: …` in the recipe does without"
                )),
            })?;
        let rate = measured.images as f64 / started.elapsed().as_secs_f64().max(1e-9);
        Ok((measured, Some(rate)))
    }
}

/// The measurement in the plan of an earlier part of the same run. A new measurement might differ
/// in the last digits with the number of threads, and make it another run.
fn earlier(plan: &Path, fingerprint: &str) -> Option<Measured> {
    #[derive(Deserialize)]
    struct Data {
        #[serde(rename = "listing")]
        fingerprint: String,
    }
    #[derive(Deserialize)]
    struct Plan {
        data: Data,
        strategy: Strategy,
    }
    let plan: Plan = file::read(plan).ok()??;
    (plan.data.fingerprint == fingerprint).then(|| plan.strategy.similarity?.measured)?
}
