//! The state of a training run, saved for an exact resume.
//!
//! One safetensors file holds everything (network, optimizer, progress) and a checksum, so that it is
//! either complete or absent, and known to be what was written. Random draws need no state: they are functions of the seed and of where they
//! are used.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::history::{EpochRow, LinearHead};
use crate::device::precision::LossScaleState;
use crate::error::{Error, Result};
use crate::models::{Network, bytes_of};
use crate::optim::{Ema, Optimizer};
use crate::weights::checkpoint::{Dtype, RawTensor};
use crate::weights::{assign, read_kept, state_dict, to_tensor, write_kept};

/// Progress of a run, between two steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingProgress {
    /// Finished epochs, with their metrics.
    pub history: Vec<EpochRow>,
    /// The fitted head that training started from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linear_head: Option<LinearHead>,
    /// Steps done in the current epoch.
    pub step: usize,
    /// Sum of the training loss over the images of the current epoch.
    pub loss_sum: f64,
    /// Right predictions among the images of the current epoch.
    pub correct: u64,
    /// Trained images of the current epoch.
    pub images: usize,
    /// The loss scale of float16, between two steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScaleState>,
    /// The most images that went through the network at once, if not a whole batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_at_once: Option<usize>,
}

const KEY: &str = "progress";
const FINGERPRINT: &str = "listing";
const NETWORK: &str = "network.";
const OPTIMIZER: &str = "optimizer.";
const AVERAGE: &str = "average.";

/// Writes the state of a run to `path`, atomically. `fingerprint` identifies its training images.
pub fn save(
    path: &Path,
    network: &Network,
    optimizer: &Optimizer,
    ema: Option<&Ema>,
    progress: &TrainingProgress,
    fingerprint: &str,
) -> Result<()> {
    let mut tensors: Vec<(String, RawTensor)> =
        state_dict(network)?.into_iter().map(|(key, raw)| (format!("{NETWORK}{key}"), raw)).collect();
    for var in network.auxiliary_vars() {
        tensors.push((format!("{NETWORK}{}", var.key), raw(&var.tensor)?));
    }
    for (name, tensor) in optimizer.state() {
        tensors.push((format!("{OPTIMIZER}{name}"), raw(&tensor)?));
    }
    for (name, tensor) in ema.iter().flat_map(|ema| ema.state()) {
        tensors.push((format!("{AVERAGE}{name}"), raw(tensor)?));
    }
    let json = serde_json::to_string(progress)
        .map_err(|error| Error::run(format!("cannot write the run's progress: {error}")))?;
    let metadata = [(KEY.to_string(), json), (FINGERPRINT.to_string(), fingerprint.to_string())];
    write_kept(path, &tensors, HashMap::from(metadata))
}

/// Restores the result of [`save`] into a network, an optimizer and a weight average of the same
/// run.
///
/// # Errors
/// [`Error::File`] for a damaged file, for another run's, and for one trained on other images: a
/// bad image that was repaired, or is new, would silently make it another run.
pub fn load(
    path: &Path,
    network: &Network,
    optimizer: &mut Optimizer,
    ema: Option<&mut Ema>,
    fingerprint: &str,
) -> Result<TrainingProgress> {
    let foreign = |what: String| {
        Error::file(path, format!("is not a checkpoint of this run ({what}); `--overwrite` starts afresh"))
    };
    let checkpoint = read_kept(path).map_err(|error| match error {
        Error::File { message, .. } => {
            let remedy = "the run cannot go on from here; `--overwrite` starts afresh";
            Error::file(path, format!("{message}; {remedy}"))
        }
        other => other,
    })?;
    if checkpoint.metadata.get(FINGERPRINT).is_some_and(|kept| kept != fingerprint) {
        return Err(Error::file(
            path,
            "was trained on other images: which of them can be read has changed since. Bring them back as \
             they were, or start afresh with `--overwrite`",
        ));
    }
    let json = checkpoint.metadata.get(KEY).ok_or_else(|| foreign("it lacks its progress".into()))?;
    let progress: TrainingProgress =
        serde_json::from_str(json).map_err(|error| foreign(error.to_string()))?;
    let mut found: HashMap<&str, &RawTensor> =
        checkpoint.tensors.iter().map(|(key, raw)| (key.as_str(), raw)).collect();
    for var in network.vars().iter().chain(network.auxiliary_vars()) {
        let key = format!("{NETWORK}{}", var.key);
        let raw = found.remove(key.as_str()).ok_or_else(|| foreign(format!("it lacks `{key}`")))?;
        let values = to_tensor(raw)?;
        if values.size() != var.tensor.size() {
            return Err(foreign(format!("`{key}` is {:?}", raw.shape)));
        }
        assign(var, &values)?;
    }
    let mut state = Vec::new();
    let mut average = HashMap::new();
    for (key, raw) in found {
        if let Some(name) = key.strip_prefix(OPTIMIZER) {
            state.push((name.to_string(), to_tensor(raw)?.f_to_device(network.device())?));
        } else if let Some(name) = key.strip_prefix(AVERAGE) {
            average.insert(name, to_tensor(raw)?);
        }
    }
    optimizer.load_state(&state)?;
    if let Some(ema) = ema {
        ema.load_state(&average)?;
    }
    Ok(progress)
}

fn raw(tensor: &Tensor) -> Result<RawTensor> {
    let dtype = match tensor.f_kind()? {
        tch::Kind::Int64 => Dtype::I64,
        tch::Kind::Double => Dtype::F64,
        _ => Dtype::F32,
    };
    let shape = tensor.size().iter().map(|&side| side as usize).collect();
    Ok(RawTensor { dtype, shape, bytes: bytes_of(tensor)? })
}
