//! What a frozen network computes of each image, computed once.

use std::collections::HashMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::artifact::write_tensors;
use crate::dataset::Sample;
use crate::error::{Error, Result};
use crate::loader::Batching;
use crate::models::{Network, Reading};
use crate::preprocess::{DecodeLimits, Preprocessing, decode_file};
use crate::signal::Signals;
use crate::weights::checkpoint::{Dtype, RawTensor, read_checkpoint};
use crate::weights::to_tensor;

/// What computing features is given.
pub struct Job<'a> {
    /// The frozen network.
    pub network: &'a Network,
    /// How images become inputs.
    pub preprocessing: &'a Preprocessing,
    /// The most pixels that an image may have.
    pub limits: DecodeLimits,
    /// Images in a batch.
    pub batch_size: usize,
    /// Threads that decode.
    pub threads: usize,
    /// Where the features are kept when they are done, or when a signal stops the run.
    pub store: &'a Path,
    /// Asked between two batches.
    pub signals: &'a Signals,
}

/// Features of the first images of a list.
struct Kept {
    listing: String,
    rows: Vec<f32>,
}

const KEY: &str = "listing";
const FEATURES: &str = "features";

impl Job<'_> {
    /// The input of the final classifier layer for each of `samples`, float32 `[N, D]` on the CPU. Each
    /// image goes through the network once. `listing` names images and network: features that an interrupted run
    /// has kept for the same listing are not computed again. `progress` is told how many are done.
    pub fn compute(
        &self,
        samples: &[&Sample],
        listing: &str,
        resume: bool,
        mut progress: impl FnMut(usize),
    ) -> Result<Tensor> {
        let length = self.network.feature_length();
        let mut kept = match resume && self.store.exists() {
            true => self.restore(listing)?,
            false => Kept { listing: listing.into(), rows: Vec::new() },
        };
        kept.rows.reserve_exact((samples.len() * length).saturating_sub(kept.rows.len()));
        let rest = &samples[(kept.rows.len() / length).min(samples.len())..];
        let batching = Batching {
            preprocessing: self.preprocessing,
            batch_size: self.batch_size,
            join_single: false,
            threads: self.threads,
        };
        // What the threads share is images and numbers; the network stays on this one.
        let (preprocessing, limits) = (self.preprocessing, self.limits);
        batching.run(
            rest.len(),
            |index| Ok(preprocessing.eval_pixels(&decode_file(&rest[index].path, limits)?)),
            |_, error| Err(error),
            |batch| {
                self.stop_here(&kept)?;
                let images = batch.images.f_to_device(self.network.device())?;
                let features = self.network.read(&images, Reading::Features)?;
                append(&mut kept.rows, &features)?;
                progress(kept.rows.len() / length);
                Ok(())
            },
        )?;
        self.stop_here(&kept)?;
        // The fit is still to come, and whatever happens in it, no image has to be seen again.
        if !rest.is_empty() {
            self.keep(&kept)?;
        }
        Ok(Tensor::f_from_slice(&kept.rows)?.f_reshape([samples.len() as i64, length as i64])?)
    }

    /// Keeps the features that are done, and ends the run, if a signal has arrived.
    fn stop_here(&self, kept: &Kept) -> Result<()> {
        if self.signals.received().is_none() {
            return Ok(());
        }
        self.keep(kept)?;
        self.signals.check(&format!(
            "stopped; the features of {} images are kept in {}: go on with `--resume`",
            kept.rows.len() / self.network.feature_length(),
            self.store.display()
        ))
    }

    fn keep(&self, kept: &Kept) -> Result<()> {
        let length = self.network.feature_length();
        let bytes = kept.rows.iter().flat_map(|value| value.to_le_bytes()).collect();
        let shape = vec![kept.rows.len() / length, length];
        let metadata = HashMap::from([(KEY.to_string(), kept.listing.clone())]);
        let tensor = RawTensor { dtype: Dtype::F32, shape, bytes };
        write_tensors(self.store, &[(FEATURES.to_string(), tensor)], metadata)
    }

    fn restore(&self, listing: &str) -> Result<Kept> {
        let fresh = Kept { listing: listing.into(), rows: Vec::new() };
        let checkpoint = read_checkpoint(self.store)?;
        let tensor = checkpoint.tensors.iter().find(|(key, _)| key == FEATURES);
        let same = checkpoint.metadata.get(KEY).is_some_and(|kept| kept == listing);
        let Some((_, raw)) = tensor.filter(|_| same) else { return Ok(fresh) };
        // Features of another network would be silently wrong: the length is the least that must agree.
        if raw.shape.get(1) != Some(&self.network.feature_length()) {
            return Ok(fresh);
        }
        let mut rows = Vec::new();
        append(&mut rows, &to_tensor(raw)?)?;
        Ok(Kept { rows, ..fresh })
    }
}

/// Adds the rows of a float tensor `[N, D]`.
pub fn append(rows: &mut Vec<f32>, tensor: &Tensor) -> Result<()> {
    let tensor = tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let start = rows.len();
    rows.resize(start + tensor.numel(), 0.);
    tensor.f_copy_data(&mut rows[start..], tensor.numel()).map_err(Error::torch("read features"))
}
