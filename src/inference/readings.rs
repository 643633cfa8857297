//! Features and logits of images, in one pass.

use tch::Tensor;

use super::Inference;
use crate::data::Sample;
use crate::data::loader::Batching;
use crate::device::back_off::BackOff;
use crate::device::copy::Download;
use crate::error::{Error, Result};
use crate::models::{Folding, Network};
use crate::preprocess::DecodeLimits;
use crate::unknown::Reading;
use crate::util::signal::Signals;

/// Reads `samples` with `network`, as evaluation sees them; `progress` receives each number of newly
/// finished ones. A signal ends it with [`Error::Interrupted`].
pub fn readings(
    network: &Network,
    samples: &[&Sample],
    batching: &Batching,
    limits: DecodeLimits,
    signals: &Signals,
    mut progress: impl FnMut(usize),
) -> Result<Reading> {
    let (preprocessing, parts) = (batching.preprocessing, BackOff::new(network.device()));
    let inference = Inference::new(&[network], samples.len(), batching.threads, Folding::Folded)?;
    let (mut features, mut logits) = (Vec::new(), Vec::new());
    inference.images(
        batching,
        0..samples.len(),
        |index| preprocessing.read_eval(samples[index].image(), limits),
        |network, images, _| {
            let both = parts.run(images, |images| network.read_both(images).map(Vec::from))?;
            both.iter().map(Download::begin).collect::<Result<Vec<_>>>()
        },
        |_, error| Err(error),
        |indices, both| {
            signals.check("stopped while measuring; the training is saved: go on with `--resume`")?;
            for (download, rows) in both.into_iter().zip([&mut features, &mut logits]) {
                rows.push(download.wait()?);
            }
            progress(indices.len());
            Ok(())
        },
    )?;
    let joined = |rows: &[Tensor]| Tensor::f_cat(rows, 0).map_err(Error::torch("join what was read"));
    Ok(Reading { features: joined(&features)?, logits: joined(&logits)? })
}
