//! Normalisations.

use tch::Tensor;

use super::{Layer, Mode, moments, trace};
use crate::error::{Error, Result};
use crate::models::vars::{Init, Path, Role};

/// Parameters of a batch normalisation.
#[derive(Clone, Copy, Debug)]
pub struct NormConfig {
    /// Added to the variance.
    pub eps: f64,
    /// The share of the batch's statistics in the running ones.
    pub momentum: f64,
}

impl NormConfig {
    /// PyTorch's defaults.
    pub const DEFAULT: NormConfig = NormConfig { eps: 1e-5, momentum: 0.1 };
}

/// Batch normalisation over images (`nn.BatchNorm2d`; Ioffe and Szegedy, 2015).
pub struct BatchNorm2d {
    pub(in crate::models) weight: Tensor,
    pub(in crate::models) bias: Tensor,
    pub(in crate::models) running_mean: Tensor,
    pub(in crate::models) running_var: Tensor,
    batches: Tensor,
    pub(in crate::models) config: NormConfig,
}

/// A batch normalisation of `channels` at `path`.
pub fn batch_norm2d(path: &Path, channels: i64, config: NormConfig) -> Result<BatchNorm2d> {
    let var = |name, role, value| path.var(name, role, &[channels], Init::Constant(value));
    Ok(BatchNorm2d {
        weight: var("weight", Role::Norm, 1.)?,
        bias: var("bias", Role::Norm, 0.)?,
        running_mean: var("running_mean", Role::RunningStatistic, 0.)?,
        running_var: var("running_var", Role::RunningStatistic, 1.)?,
        batches: path.var("num_batches_tracked", Role::BatchCount, &[], Init::Constant(0.))?,
        config,
    })
}

impl Layer for BatchNorm2d {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let training = mode.batch_statistics;
        if training {
            // One value has no variance; PyTorch rejects it too, in Python.
            if xs.numel() as i64 == xs.size().get(1).copied().unwrap_or(1) {
                return Err(Error::run(
                    "a batch normalisation was given one value for each channel: raise `train.batch_size` or \
                     the image size (`preprocess`), or set `train.batch_norm: inference`",
                ));
            }
            // A copy of the handle: the count is shared, and in-place methods need `&mut`.
            let _ = tch::no_grad(|| self.batches.shallow_clone().f_add_scalar_(1))?;
        }
        moments::note(xs, &self.running_mean, &self.running_var, self.config.eps)?;
        let out = xs
            .f_batch_norm(
                Some(&self.weight),
                Some(&self.bias),
                Some(&self.running_mean),
                Some(&self.running_var),
                training,
                self.config.momentum,
                self.config.eps,
                true,
            )
            .map_err(Error::torch("run a batch normalisation"))?;
        trace::note(|| "BatchNorm2d".into(), Some(&self.weight), &out, 0);
        Ok(out)
    }
}

/// Layer normalisation over the last dimension (`nn.LayerNorm`; Ba et al., 2016).
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

/// A layer normalisation of `channels` at `path`.
pub fn layer_norm(path: &Path, channels: i64, eps: f64) -> Result<LayerNorm> {
    Ok(LayerNorm {
        weight: path.var("weight", Role::Norm, &[channels], Init::Constant(1.))?,
        bias: path.var("bias", Role::Norm, &[channels], Init::Constant(0.))?,
        eps,
    })
}

impl Layer for LayerNorm {
    fn forward(&self, xs: &Tensor, _: Mode) -> Result<Tensor> {
        let out = xs
            .f_layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, true)
            .map_err(Error::torch("run a layer normalisation"))?;
        trace::note(|| "LayerNorm".into(), Some(&self.weight), &out, 0);
        Ok(out)
    }
}

/// [`LayerNorm`] over the channels of images `[N, C, H, W]` (torchvision's `LayerNorm2d`).
pub struct LayerNorm2d(pub LayerNorm);

impl Layer for LayerNorm2d {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let xs = self.0.forward(&xs.f_permute([0, 2, 3, 1])?, mode)?;
        Ok(xs.f_permute([0, 3, 1, 2])?)
    }
}
