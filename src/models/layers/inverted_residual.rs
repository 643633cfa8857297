//! The block of the mobile networks (Sandler et al., "MobileNetV2", CVPR 2018): channels are
//! expanded, filtered one by one and projected back. MnasNet, MobileNetV3 and EfficientNet vary it.

use super::{
    Activation, ConvConfig, ConvInit, Layer, NormConfig, Padding, Residual, Sequential, conv_norm,
    squeeze_excitation, stochastic_depth,
};
use crate::error::{Error, Result};
use crate::models::vars::Path;

/// A family's numbering of a block's convolutions and normalisations in the state dict.
#[derive(Clone, Copy, Debug)]
pub enum BlockKeys {
    /// `0.0` and `0.1`, `1.0` and `1.1`, …
    Nested,
    /// The same, but the projection's pair is directly in the block: `2` and `3`.
    NestedButProjection,
    /// Each convolution, normalisation and activation has its own number, from this one on: `0` and
    /// `1`, `3` and `4`, …
    Flat(usize),
    /// Names of the expansion, the depthwise convolution and the projection, each with its
    /// normalisation's.
    Named([[&'static str; 2]; 3]),
}

/// The shape of one inverted residual.
#[derive(Clone, Copy, Debug)]
pub struct InvertedResidualConfig {
    /// Channels of the input.
    pub inputs: i64,
    /// Channels between the convolutions; if equal to the inputs, nothing is expanded.
    pub expanded: i64,
    /// Channels of the output.
    pub outputs: i64,
    /// Side of the depthwise kernel, or of the fused one.
    pub kernel: i64,
    /// Stride of the same convolution.
    pub stride: i64,
    /// Whether one full convolution replaces the expansion and the depthwise convolution
    /// (EfficientNetV2's `FusedMBConv`).
    pub fused: bool,
    /// Channels of the squeeze-and-excitation, its activation and its gate.
    pub squeeze: Option<(i64, [Activation; 2])>,
    /// Behind every convolution but the projection.
    pub activation: Activation,
    /// Of every normalisation.
    pub norm: NormConfig,
    /// Padding of the depthwise or the fused convolution, unless it is the even one that keeps the
    /// size.
    pub padding: Option<Padding>,
    /// The initial distribution of every convolution.
    pub init: ConvInit,
    /// The drop probability of stochastic depth.
    pub drop: f64,
    /// The names in the state dict.
    pub keys: BlockKeys,
}

impl InvertedResidualConfig {
    /// The plainest block, without channels; families override it.
    pub const BASE: InvertedResidualConfig = InvertedResidualConfig {
        inputs: 0,
        expanded: 0,
        outputs: 0,
        kernel: 3,
        stride: 1,
        fused: false,
        squeeze: None,
        activation: Activation::Relu,
        norm: NormConfig::DEFAULT,
        padding: None,
        init: ConvInit::KaimingFanOut,
        drop: 0.,
        keys: BlockKeys::Nested,
    };
}

/// An inverted residual at `path`, below which its convolutions are numbered. The input is added to
/// an output of the same shape.
pub fn inverted_residual(path: &Path, config: InvertedResidualConfig) -> Result<Box<dyn Layer>> {
    let InvertedResidualConfig { inputs, expanded, outputs, kernel, stride, activation, .. } = config;
    let expands = expanded != inputs;
    let spatial = ConvConfig::new(kernel).stride(stride);
    let spatial = config.padding.map_or(spatial, |padding| spatial.padded(padding));
    let pointwise = ConvConfig::new(1);
    let mut layers: Vec<Box<dyn Layer>> = Vec::new();
    let mut add = |inputs, outputs, convolution: ConvConfig, activation| {
        let part = match activation {
            Activation::Identity => Part::Projection,
            _ if convolution.groups > 1 => Part::Depthwise,
            _ => Part::Expansion,
        };
        let paths = paths(path, config.keys, layers.len(), part);
        let convolution = convolution.init(config.init);
        layers.push(Box::new(conv_norm(paths, inputs, outputs, convolution, config.norm, activation)?));
        if let (Part::Depthwise, Some((squeezed, functions))) = (part, config.squeeze) {
            let path = path / layers.len();
            let squeeze = squeeze_excitation(&path, outputs, squeezed, functions, config.init)?;
            layers.push(Box::new(squeeze));
        }
        Ok::<_, Error>(())
    };
    match (config.fused, expands) {
        // A single convolution is the whole block, its activation included.
        (true, false) => add(inputs, outputs, spatial, activation)?,
        (true, true) => add(inputs, expanded, spatial, activation)?,
        (false, false) => add(expanded, expanded, spatial.groups(expanded), activation)?,
        (false, true) => {
            add(inputs, expanded, pointwise, activation)?;
            add(expanded, expanded, spatial.groups(expanded), activation)?;
        }
    }
    if expands || !config.fused {
        add(expanded, outputs, pointwise, Activation::Identity)?;
    }
    if stride != 1 || inputs != outputs {
        return Ok(Box::new(Sequential(layers)));
    }
    layers.push(stochastic_depth(config.drop));
    Ok(Box::new(Residual::plain(layers)))
}

/// Role of a convolution in its block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Or the fused convolution.
    Expansion,
    Depthwise,
    Projection,
}

/// The paths of the convolution and the normalisation at `index` of the block.
fn paths<'a>(path: &Path<'a>, keys: BlockKeys, index: usize, part: Part) -> [Path<'a>; 2] {
    match keys {
        BlockKeys::NestedButProjection if part == Part::Projection => [path / index, path / (index + 1)],
        BlockKeys::Nested | BlockKeys::NestedButProjection => [path / index / 0, path / index / 1],
        BlockKeys::Flat(first) => [path / (first + 3 * index), path / (first + 3 * index + 1)],
        BlockKeys::Named(names) => names[part as usize].map(|name| path / name),
    }
}

/// `channels` to the nearest multiple of 8, but at most a tenth below (torchvision's
/// `_make_divisible`).
pub fn divisible(channels: f64) -> i64 {
    let rounded = (((channels + 4.) as i64) / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * channels { rounded + 8 } else { rounded }
}
