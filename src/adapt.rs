//! BatchNorm's running statistics, taken anew from the images at hand ("Adaptive Batch Normalization", Li et al., Pattern
//! Recognition 80, 2018): where images differ from the source data in light, contrast or noise alone, the features fit again
//! without a weight being changed.

use crate::dataset::Sample;
use crate::error::Result;
use crate::loader::{Batching, Layout};
use crate::models::Network;
use crate::models::layers::moments::merge;
use crate::preprocess::{DecodeLimits, Preprocessing};
use crate::signal::Signals;
use crate::strategy::similarity::sample;

/// So many images are looked at, at most: a mean and a variance need no more.
const IMAGES: usize = 512;
/// Images that normalise each other, drawn from all classes.
const BATCH: usize = 64;
/// Fewer images than this have no statistics worth the name.
const LEAST: usize = 8;
/// Pixels of a batch at most, for the memory's sake: 64 images of 224 by 224.
const PIXELS: usize = BATCH * 224 * 224;

/// What adapting a network is given.
pub struct Job<'a> {
    /// The network, whose weights stay as they are.
    pub network: &'a Network,
    /// How images become its inputs.
    pub preprocessing: &'a Preprocessing,
    /// What decoding may cost.
    pub limits: DecodeLimits,
    /// Which images are looked at, and in which order.
    pub seed: u64,
    /// Threads that decode.
    pub threads: usize,
    /// Asked between two batches.
    pub signals: &'a Signals,
}

impl Job<'_> {
    /// Gives the network the statistics of `samples`, as validation would see them, and returns the number of those that were
    /// looked at; 0 where they are too few, or the device's memory is too small for as many at once, and nothing has changed.
    pub fn adapt(&self, samples: &[Sample]) -> Result<usize> {
        let chosen = sample(samples.len(), IMAGES, self.seed, "adapt");
        if chosen.len() < LEAST {
            return Ok(0);
        }
        let mut most = (PIXELS / (self.preprocessing.crop_size as usize).pow(2)).clamp(LEAST, BATCH);
        loop {
            match self.in_batches(samples, &chosen, most) {
                Err(error) if error.is_out_of_memory() && most / 2 >= LEAST => most /= 2,
                Err(error) if error.is_out_of_memory() => return Ok(0),
                adapted => return adapted.map(|()| chosen.len()),
            }
        }
    }

    fn in_batches(&self, samples: &[Sample], chosen: &[usize], most: usize) -> Result<()> {
        // No last batch of a few: they would count as much as many.
        let batches = chosen.len().div_ceil(most);
        let (preprocessing, limits, network) = (self.preprocessing, self.limits, self.network);
        let batching = Batching {
            preprocessing,
            batch_size: chosen.len().div_ceil(batches),
            join_single: true,
            threads: self.threads,
        };
        let before = network.running_statistics()?;
        let mut seen = Vec::new();
        let read = batching.run_on(
            network.device(),
            Layout::Planes,
            chosen.len(),
            |index| preprocessing.read_eval(&samples[chosen[index]].path, limits),
            |_, error| Err(error),
            |batch| {
                self.signals.check("stopped before the heads were fitted: go on with `--resume`")?;
                Ok(merge(&mut seen, network.batch_moments(&batch.images)?)?)
            },
        );
        // Also after an error: what moved in between is nobody's.
        network.set_running_statistics(&before)?;
        read?;
        network.adopt_moments(&seen)
    }
}
