//! MobileNetV3 (Howard et al., "Searching for MobileNetV3", ICCV 2019; torchvision
//! `models/mobilenetv3.py`).

use super::layers::Activation::{self, Hardsigmoid, Hardswish, Relu};
use super::prelude::*;

/// `method: partial` starts at the last resolution.
pub(super) const TABLE: &[Architecture] = &[
    Architecture::family("MobileNetV3", "stage6")
        .builder("mobilenet_v3_large", |chain| mobilenet_v3(chain, LARGE, 1280)),
    Architecture::family("MobileNetV3", "stage5")
        .builder("mobilenet_v3_small", |chain| mobilenet_v3(chain, SMALL, 1024)),
];

/// Blocks with the same number of output channels.
struct Stage {
    outputs: i64,
    /// Stride of the first block.
    stride: i64,
    kernel: i64,
    /// Whether it has squeeze-and-excitation.
    squeezes: bool,
    activation: Activation,
    /// Channels between the convolutions, block by block.
    expanded: &'static [i64],
}

const fn stage(
    (outputs, stride, kernel): (i64, i64, i64),
    squeezes: bool,
    activation: Activation,
    expanded: &'static [i64],
) -> Stage {
    Stage { outputs, stride, kernel, squeezes, activation, expanded }
}

/// Table 1 of the paper.
const LARGE: &[Stage] = &[
    stage((16, 1, 3), false, Relu, &[16]),
    stage((24, 2, 3), false, Relu, &[64, 72]),
    stage((40, 2, 5), true, Relu, &[72, 120, 120]),
    stage((80, 2, 3), false, Hardswish, &[240, 200, 184, 184]),
    stage((112, 1, 3), true, Hardswish, &[480, 672]),
    stage((160, 2, 5), true, Hardswish, &[672, 960, 960]),
];

/// Table 2 of the paper.
const SMALL: &[Stage] = &[
    stage((16, 2, 3), true, Relu, &[16]),
    stage((24, 2, 3), false, Relu, &[72, 88]),
    stage((40, 2, 5), true, Hardswish, &[96, 240, 240]),
    stage((48, 1, 5), true, Hardswish, &[120, 144]),
    stage((96, 2, 5), true, Hardswish, &[288, 576, 576]),
];

const STEM: i64 = 16;
const NORM: NormConfig = NormConfig { eps: 1e-3, momentum: 0.01 };
const DROPOUT: f64 = 0.2;

/// `hidden`: length of the features.
fn mobilenet_v3(chain: &mut Chain, stages: &[Stage], hidden: i64) -> Result<()> {
    chain.stage("stem", |root| {
        let path = root / "features" / 0;
        let config = ConvConfig::new(3).stride(2).init(ConvInit::KaimingFanOut);
        conv_norm([&path / 0, &path / 1], 3, STEM, config, NORM, Hardswish)
    })?;
    let (mut inputs, mut index) = (STEM, 1);
    for (stage, number) in stages.iter().zip(1..) {
        for (block, &expanded) in stage.expanded.iter().enumerate() {
            let squeezed = divisible((expanded / 4) as f64);
            let config = InvertedResidualConfig {
                inputs,
                expanded,
                outputs: stage.outputs,
                kernel: stage.kernel,
                stride: if block == 0 { stage.stride } else { 1 },
                squeeze: stage.squeezes.then_some((squeezed, [Relu, Hardsigmoid])),
                activation: stage.activation,
                norm: NORM,
                ..InvertedResidualConfig::BASE
            };
            chain.stage(format!("stage{number}.{block}"), |root| {
                inverted_residual(&(root / "features" / index / "block"), config)
            })?;
            (inputs, index) = (stage.outputs, index + 1);
        }
    }
    let last = 6 * inputs;
    chain.stage("last", |root| {
        let path = root / "features" / index;
        let config = ConvConfig::new(1).init(ConvInit::KaimingFanOut);
        conv_norm([&path / 0, &path / 1], inputs, last, config, NORM, Hardswish)
    })?;
    let init = LinearInit::weights(Init::Normal(0.01));
    chain.stage("fc", |root| {
        let linear = linear(&(root / "classifier" / 0), last, hidden, init)?;
        Ok(Sequential(vec![adaptive_avg_pool2d_flat(1), Box::new(linear), Box::new(Hardswish)]))
    })?;
    chain.head_with("classifier.3", dropout(DROPOUT), hidden, init)
}
