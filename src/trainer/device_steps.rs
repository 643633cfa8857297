//! Parts of a step that are specific to GPUs, float16 or a lack of memory.

use tch::{Device, Kind, Tensor};

use super::TrainingJob;
use super::gradient::Learner;
use crate::device::back_off::place;
use crate::device::precision::LossScale;
use crate::error::{Error, Result};
use crate::models::Network;
use crate::optim::clip_grad_norm;
use crate::text::words::counted;

/// Clips all gradients as [`clip_grad_norm`] does; returns the norm before that, as a scalar on the
/// device. On a GPU nothing waits for it: the factor is computed there, and a norm that is not
/// finite is found when it is read.
pub(super) fn clip<'a>(
    params: impl Iterator<Item = &'a Tensor>,
    most: f64,
    device: Device,
) -> Result<Tensor> {
    if !device.is_cuda() {
        return Ok(Tensor::from(clip_grad_norm(params, most)?));
    }
    let _guard = tch::no_grad_guard();
    let clip = |mut gradients: Vec<Tensor>| {
        if gradients.is_empty() {
            return Tensor::f_zeros([0i64; 0], (Kind::Float, device));
        }
        let norms: Vec<Tensor> = gradients.iter().map(Tensor::f_norm).collect::<Result<_, _>>()?;
        let norm = Tensor::f_stack(&norms, 0)?.f_norm()?;
        let factor = norm.f_add_scalar(1e-6)?.f_reciprocal()?.f_mul_scalar_(most)?.f_clamp_max_(1.)?;
        for gradient in &mut gradients {
            let _ = gradient.f_mul_(&factor)?;
        }
        Ok(norm)
    };
    clip(gradients(params)?).map_err(Error::torch("clip the gradients"))
}

/// Divides the gradients by the loss scale; returns whether all are finite, so that the step may be
/// made.
///
/// # Errors
/// [`Error::Diverged`] if they are not finite even at the smallest scale.
pub(super) fn unscale(
    job: &TrainingJob,
    network: &Network,
    scale: &mut LossScale,
    epoch: usize,
    step: usize,
) -> Result<bool> {
    let finite = scale.unscale(&gradients(network.trained().map(|(var, _)| &var.tensor))?)?;
    if !finite && scale.state()?.scale < LossScale::LEAST {
        return Err(Error::Diverged(format!(
            "the gradients are not finite in epoch {epoch}, step {step}, nor have they been in the steps before, \
             however the loss was scaled: the training has diverged, or float16 cannot hold this network's numbers. \
             Try `train.precision: bf16`, or a lower `train.lr` (now {}), and start again with `--overwrite`",
            job.settings.lr
        )));
    }
    Ok(finite)
}

fn gradients<'a>(params: impl Iterator<Item = &'a Tensor>) -> Result<Vec<Tensor>> {
    let mut found = Vec::new();
    for param in params {
        let gradient = param.f_grad().map_err(Error::torch("read a gradient"))?;
        if gradient.defined() {
            found.push(gradient);
        }
    }
    Ok(found)
}

/// Restores running statistics.
pub(super) fn put_back(statistics: &[(Tensor, Tensor)]) -> Result<()> {
    let _guard = tch::no_grad_guard();
    statistics.iter().try_for_each(|(live, kept)| {
        live.shallow_clone().f_copy_(kept).map_err(Error::torch("put back the running statistics"))
    })
}

/// The note that a batch of `images` goes through the network in parts from now on.
pub(super) fn smaller_parts(learner: &Learner, most: usize, images: usize) -> String {
    let same = match learner.normalises_batches() {
        false => "the same training to rounding (but for what dropout draws)".to_string(),
        true => {
            "not the same training, for BatchNorm normalises fewer images at once: with `train.batch_norm: \
                 inference` it would be"
                .into()
        }
    };
    format!(
        "{} has no room for {} at once: they go through the network in parts of {most} at most from here, and the \
         gradients are added up; {same}. `train.micro_batch: {most}` says so from the start",
        place(learner.network.device()),
        counted(images, "image", "images")
    )
}
