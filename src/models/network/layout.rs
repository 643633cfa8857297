//! In what order the numbers of images and kernels lie in memory.

use tch::{Device, Tensor};

use super::Network;
use crate::error::{Error, Result};

impl Network {
    /// Whether channels-last is this network's layout in training: on the CPU, for families that are faster in it.
    pub fn trains_channels_last(&self) -> bool {
        self.device == Device::Cpu && self.architecture.channels_last
    }

    /// Puts the kernels of all convolutions channels-last. A convolution passes this on to what it computes, so
    /// that every layer behind the first works channel by channel where the processor reads in one go:
    /// convolutions, normalisations and poolings, and their gradients, are faster.
    ///
    /// Nothing but the order in memory changes: shapes, state dict and files stay as they are.
    pub fn channels_last(&self) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for var in self.vars().iter().chain(self.auxiliary_vars()) {
            if var.tensor.dim() == 4 && var.role.is_parameter() {
                let arranged = var.tensor.f_detach().and_then(|kernel| channels_last(&kernel));
                // The handle is a copy, the tensor the same that the layer holds.
                arranged
                    .and_then(|arranged| var.tensor.shallow_clone().f_set_data(&arranged))
                    .map_err(Error::torch(format!("arrange `{}`", var.key)))?;
            }
        }
        Ok(())
    }
}

/// The same `[N, C, H, W]` with each pixel's channels side by side in memory.
pub fn channels_last(xs: &Tensor) -> Result<Tensor, tch::TchError> {
    xs.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])
}

/// Whether `xs` is `[N, C, H, W]` with each pixel's channels side by side in memory, and not with each channel's
/// pixels side by side.
pub fn is_channels_last(xs: &Tensor) -> bool {
    let beside = |xs: Result<Tensor, tch::TchError>| xs.is_ok_and(|xs| xs.is_contiguous());
    xs.dim() == 4 && !xs.is_contiguous() && beside(xs.f_permute([0, 2, 3, 1]))
}
