//! Squeeze-and-excitation (Hu et al., CVPR 2018; torchvision `ops/misc.py`).

use tch::Tensor;

use super::conv::{Conv2d, ConvConfig, ConvInit, conv2d};
use super::{Activation, Layer, Mode};
use crate::error::Result;
use crate::models::vars::Path;

/// Channels scaled by two 1×1 convolutions of their means.
pub struct SqueezeExcitation {
    fc1: Conv2d,
    fc2: Conv2d,
    activation: Activation,
    gate: Activation,
}

/// A squeeze-and-excitation of `channels` through `squeezed` ones at `path`, with the keys `fc1`
/// and `fc2`.
pub fn squeeze_excitation(
    path: &Path,
    channels: i64,
    squeezed: i64,
    [activation, gate]: [Activation; 2],
    init: ConvInit,
) -> Result<SqueezeExcitation> {
    let config = ConvConfig::new(1).bias().init(init);
    Ok(SqueezeExcitation {
        fc1: conv2d(&(path / "fc1"), channels, squeezed, config)?,
        fc2: conv2d(&(path / "fc2"), squeezed, channels, config)?,
        activation,
        gate,
    })
}

impl Layer for SqueezeExcitation {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let scale = xs.f_adaptive_avg_pool2d([1, 1])?;
        let scale = self.activation.apply_in_place(self.fc1.forward(&scale, mode)?)?;
        let scale = self.gate.apply(&self.fc2.forward(&scale, mode)?)?;
        Ok(xs.f_mul(&scale)?)
    }
}
