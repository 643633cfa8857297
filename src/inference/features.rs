//! Features of a frozen network, computed once for each image.

use std::collections::HashMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::data::Sample;
use crate::data::loader::Batching;
use crate::device::back_off::BackOff;
use crate::device::copy::Download;
use crate::error::{Error, Result};
use crate::inference::Inference;
use crate::models::{Folding, Network, Tap};
use crate::preprocess::{DecodeLimits, Preprocessing};
use crate::text::path_text::path_text;
use crate::text::words::counted;
use crate::util::signal::Signals;
use crate::weights::checkpoint::{Dtype, RawTensor};
use crate::weights::{read_kept, to_tensor, write_kept};

/// Inputs of a feature extraction.
pub struct FeatureJob<'a> {
    /// The frozen network.
    pub network: &'a Network,
    /// The taps to read, in the chain's order.
    pub taps: &'a [Tap],
    /// Preprocessing of images.
    pub preprocessing: &'a Preprocessing,
    /// Pixels of an image at most.
    pub limits: DecodeLimits,
    /// Images in a batch.
    pub batch_size: usize,
    /// Decoding threads.
    pub threads: usize,
    /// Where finished features are stored, also when a signal stops the run.
    pub store: &'a Path,
    /// Checked between batches.
    pub signals: &'a Signals,
    /// The network's back-off.
    pub parts: BackOff,
}

/// Features of the first images of a list: the concatenated vectors of all taps, a row an image.
struct CachedFeatures {
    fingerprint: String,
    /// The length of each tap's vectors; empty before the first batch.
    widths: Vec<i64>,
    rows: Vec<f32>,
}

impl CachedFeatures {
    /// A tensor `[images, D]` for each tap.
    fn by_tap(self, images: usize) -> Result<Vec<Tensor>> {
        let rows = Tensor::f_from_slice(&self.rows)?.f_reshape([images as i64, self.width() as i64])?;
        drop(self.rows);
        if self.widths.len() < 2 {
            return Ok(vec![rows]);
        }
        let parts = rows.f_split_with_sizes(&self.widths, 1)?;
        Ok(parts.iter().map(Tensor::f_contiguous).collect::<Result<_, _>>()?)
    }

    fn images(&self) -> usize {
        self.rows.len() / self.width().max(1)
    }

    fn width(&self) -> usize {
        self.widths.iter().sum::<i64>() as usize
    }
}

const FINGERPRINT: &str = "listing";
const WIDTHS: &str = "widths";
const FEATURES: &str = "features";

impl FeatureJob<'_> {
    /// The vectors at each tap for each of `samples`, float32 `[N, D]` on the CPU. Each image goes
    /// through the network once. `fingerprint` identifies images and network: features kept by an
    /// interrupted run for the same listing are reused. `progress` receives the number of finished
    /// images.
    pub fn compute(
        &self,
        samples: &[&Sample],
        fingerprint: &str,
        resume: bool,
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<Tensor>> {
        let names: Vec<&str> = self.taps.iter().map(|&r| self.network.tap_name(r)).collect();
        let fingerprint = format!("{fingerprint} {}", names.join(" "));
        let mut kept = match resume && self.store.exists() {
            true => self.restore(&fingerprint)?,
            false => CachedFeatures { fingerprint, widths: Vec::new(), rows: Vec::new() },
        };
        let done = kept.images().min(samples.len());
        let batching = Batching {
            preprocessing: self.preprocessing,
            batch_size: self.batch_size,
            join_single: false,
            threads: self.threads,
        };
        // The threads share images and numbers; the network stays on this one, or each has its own.
        let (preprocessing, limits, taps, parts) = (self.preprocessing, self.limits, self.taps, &self.parts);
        let inference = Inference::new(&[self.network], samples.len(), self.threads, Folding::Folded)?;
        let worked = inference.images(
            &batching,
            done..samples.len(),
            |index| preprocessing.read_eval(samples[index].image(), limits),
            |network, images, _| {
                let vectors = parts.run(images, |images| network.read_all(images, taps))?;
                let widths: Vec<i64> = vectors.iter().map(|vectors| vectors.size()[1]).collect();
                Ok((widths, Download::begin(&Tensor::f_cat(&vectors, 1)?)?))
            },
            |_, error| Err(error),
            |_, (widths, vectors)| {
                self.stop_here(&kept)?;
                if kept.widths.is_empty() {
                    kept.widths = widths;
                    kept.rows.reserve_exact((samples.len() * kept.width()).saturating_sub(kept.rows.len()));
                }
                append(&mut kept.rows, &vectors.wait()?)?;
                progress(kept.images());
                Ok(())
            },
        );
        if worked.is_err() && kept.images() > done {
            // Report the error that ended the work, not one of keeping.
            let _ = self.keep(&kept);
        }
        worked?;
        self.stop_here(&kept)?;
        // The fit is still to come: whatever happens in it, no image has to be read again.
        if done < samples.len() {
            self.keep(&kept)?;
        }
        kept.by_tap(samples.len())
    }

    /// Keeps the finished features and ends the run, if a signal has arrived.
    fn stop_here(&self, kept: &CachedFeatures) -> Result<()> {
        if self.signals.received().is_none() {
            return Ok(());
        }
        self.keep(kept)?;
        self.signals.check(&format!(
            "stopped; the features of {} are kept in {}: go on with `--resume`",
            counted(kept.images(), "image", "images"),
            path_text(self.store)
        ))
    }

    fn keep(&self, kept: &CachedFeatures) -> Result<()> {
        let bytes = kept.rows.iter().flat_map(|value| value.to_le_bytes()).collect();
        let shape = vec![kept.images(), kept.width()];
        let widths: Vec<String> = kept.widths.iter().map(i64::to_string).collect();
        let metadata = HashMap::from([
            (FINGERPRINT.to_string(), kept.fingerprint.clone()),
            (WIDTHS.to_string(), widths.join(" ")),
        ]);
        let tensor = RawTensor { dtype: Dtype::F32, shape, bytes };
        write_kept(self.store, &[(FEATURES.to_string(), tensor)], metadata)
    }

    fn restore(&self, fingerprint: &str) -> Result<CachedFeatures> {
        let fresh = CachedFeatures { fingerprint: fingerprint.into(), widths: Vec::new(), rows: Vec::new() };
        let checkpoint = read_kept(self.store).map_err(|error| match error {
            Error::File { path, message } => {
                Error::file(path, format!("{message}; remove it, and its features are computed again"))
            }
            other => other,
        })?;
        let tensor = checkpoint.tensors.iter().find(|(key, _)| key == FEATURES);
        let same = checkpoint.metadata.get(FINGERPRINT).is_some_and(|kept| kept == fingerprint);
        let widths: Option<Vec<i64>> = checkpoint
            .metadata
            .get(WIDTHS)
            .and_then(|widths| widths.split_whitespace().map(|width| width.parse().ok()).collect());
        let (Some((_, raw)), Some(widths)) = (tensor.filter(|_| same), widths) else { return Ok(fresh) };
        let mut kept = CachedFeatures { widths, ..fresh };
        // Mismatching features are computed again.
        if kept.widths.len() != self.taps.len() || raw.shape.get(1) != Some(&kept.width()) {
            return Ok(CachedFeatures { widths: Vec::new(), ..kept });
        }
        append(&mut kept.rows, &to_tensor(raw)?)?;
        Ok(kept)
    }
}

/// Adds the rows of a float tensor `[N, D]`.
pub fn append(rows: &mut Vec<f32>, tensor: &Tensor) -> Result<()> {
    let tensor = tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let start = rows.len();
    rows.resize(start + tensor.numel(), 0.);
    tensor.f_copy_data(&mut rows[start..], tensor.numel()).map_err(Error::torch("read features"))
}
