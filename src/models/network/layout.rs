//! Memory format of images and kernels.

use tch::{Device, Tensor};

use super::Network;
use crate::error::{Error, Result};

impl Network {
    /// Whether this network trains channels-last: on the CPU, for families that are faster in it.
    pub fn trains_channels_last(&self) -> bool {
        self.device == Device::Cpu && self.architecture.channels_last
    }

    /// Makes the kernels of all convolutions channels-last. A convolution's output has the format
    /// of its kernel, so that every later layer reads contiguous channels: convolutions,
    /// normalisations and poolings, and their gradients, are faster.
    ///
    /// Only the memory format changes: shapes, state dict and files stay the same.
    pub fn channels_last(&self) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for var in self.vars().iter().chain(self.auxiliary_vars()) {
            if var.tensor.dim() == 4 && var.role.is_parameter() {
                let arranged = var.tensor.f_detach().and_then(|kernel| channels_last(&kernel));
                // The handle is a copy of the layer's own tensor.
                arranged
                    .and_then(|arranged| var.tensor.shallow_clone().f_set_data(&arranged))
                    .map_err(Error::torch(format!("arrange `{}`", var.key)))?;
            }
        }
        Ok(())
    }
}

/// The same `[N, C, H, W]` with each pixel's channels contiguous in memory.
pub fn channels_last(xs: &Tensor) -> Result<Tensor, tch::TchError> {
    xs.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])
}

/// Whether `xs` is `[N, C, H, W]` with each pixel's channels contiguous in memory, and not each
/// channel's pixels.
pub fn is_channels_last(xs: &Tensor) -> bool {
    let beside = |xs: Result<Tensor, tch::TchError>| xs.is_ok_and(|xs| xs.is_contiguous());
    xs.dim() == 4 && !xs.is_contiguous() && beside(xs.f_permute([0, 2, 3, 1]))
}
