//! GoogLeNet, or Inception v1 (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015;
//! torchvision `models/googlenet.py`). As there, a batch normalisation follows each convolution,
//! and the paper's 5×5 convolutions are 3×3, as in the published weights.

use super::prelude::*;
use super::{Auxiliaries, Auxiliary};

pub(super) const TABLE: &[Architecture] = &[Architecture {
    auxiliaries: Auxiliaries {
        weight: 0.3,
        min_size: 15,
        classifiers: &[
            Auxiliary {
                key: "aux1",
                after: "inception4a",
                build: |path, classes| auxiliary(path, 512, classes),
            },
            Auxiliary {
                key: "aux2",
                after: "inception4d",
                build: |path, classes| auxiliary(path, 528, classes),
            },
        ],
    },
    transform_input: true,
    ..Architecture::family("GoogLeNet", "inception5a").min_size(15).builder("googlenet", build)
}];

/// Name, kernel of the pooling before it, input and output channels, convolution.
const STEM: [(&str, Option<i64>, i64, i64, ConvConfig); 3] = [
    ("conv1", None, 3, 64, convolution(7).stride(2)),
    ("conv2", Some(3), 64, 64, convolution(1)),
    ("conv3", None, 64, 192, convolution(3)),
];

/// Name, kernel of the pooling before it, input channels, and output channels in the order of the
/// paper's table 1: 1×1, 3×3 reduced, 3×3, 5×5 reduced, 5×5, projected behind the pooling.
const MODULES: [(&str, Option<i64>, i64, [i64; 6]); 9] = [
    ("inception3a", Some(3), 192, [64, 96, 128, 16, 32, 32]),
    ("inception3b", None, 256, [128, 128, 192, 32, 96, 64]),
    ("inception4a", Some(3), 480, [192, 96, 208, 16, 48, 64]),
    ("inception4b", None, 512, [160, 112, 224, 24, 64, 64]),
    ("inception4c", None, 512, [128, 128, 256, 24, 64, 64]),
    ("inception4d", None, 512, [112, 144, 288, 32, 64, 64]),
    ("inception4e", None, 528, [256, 160, 320, 32, 128, 128]),
    ("inception5a", Some(2), 832, [256, 160, 320, 32, 128, 128]),
    ("inception5b", None, 832, [384, 192, 384, 48, 128, 128]),
];
const FEATURES: i64 = 1024;
const DROPOUT: f64 = 0.2;
/// Standard deviation of the initial weights, of convolutions and of linear layers.
const DEVIATION: f64 = 0.01;

/// Poolings belong to the stage they feed, so that a stage's output is that of torchvision's module
/// of the same name.
fn build(chain: &mut Chain) -> Result<()> {
    for (name, pooled, inputs, outputs, config) in STEM {
        chain.stage(name, |root| {
            Ok(behind(pooled.map(halved), basic_conv(&(root / name), inputs, outputs, config)?))
        })?;
    }
    for (name, pooled, inputs, outputs) in MODULES {
        chain.stage(name, |root| {
            Ok(behind(pooled.map(halved), inception(&(root / name), inputs, outputs)?))
        })?;
    }
    let neck = Sequential(vec![adaptive_avg_pool2d_flat(1), dropout(DROPOUT)]);
    chain.head_with("fc", Box::new(neck), FEATURES, linear_init(FEATURES, DEVIATION))
}

/// The initial values of the linear layers in both Inception families.
pub(super) fn linear_init(inputs: i64, deviation: f64) -> LinearInit {
    LinearInit { weight: Init::TruncatedNormal(deviation), ..LinearInit::default(inputs) }
}

fn auxiliary(path: &Path, inputs: i64, classes: i64) -> Result<Box<dyn Layer>> {
    const CHANNELS: i64 = 128;
    const SIDE: i64 = 4;
    const HIDDEN: i64 = 1024;
    const DROPOUT: f64 = 0.7;
    let flat = CHANNELS * SIDE * SIDE;
    Ok(Box::new(Sequential(vec![
        Box::new(Func(|xs: &Tensor, _| xs.f_adaptive_avg_pool2d([SIDE, SIDE]))),
        Box::new(basic_conv(&(path / "conv"), inputs, CHANNELS, convolution(1))?),
        Box::new(Func(|xs: &Tensor, _| xs.f_flatten(1, -1))),
        Box::new(linear(&(path / "fc1"), flat, HIDDEN, linear_init(flat, DEVIATION))?),
        Box::new(Activation::Relu),
        dropout(DROPOUT),
        Box::new(linear(&(path / "fc2"), HIDDEN, classes, linear_init(HIDDEN, DEVIATION))?),
    ])))
}

/// A pooling that halves the resolution.
fn halved(kernel: i64) -> Box<dyn Layer> {
    max_pool2d_ceil(kernel, 2, 0)
}

/// A layer behind an optional pooling.
pub(super) fn behind(pooling: Option<Box<dyn Layer>>, layer: impl Layer + 'static) -> Sequential {
    Sequential(pooling.into_iter().chain([Box::new(layer) as _]).collect())
}

const fn convolution(kernel: i64) -> ConvConfig {
    ConvConfig::new(kernel).init(ConvInit::TruncatedNormal(DEVIATION))
}

/// A convolution at `conv`, its normalisation at `bn` with the Inception families' eps, and a ReLU.
pub(super) fn basic_conv(path: &Path, inputs: i64, outputs: i64, config: ConvConfig) -> Result<ConvNorm> {
    let norm = NormConfig { eps: 1e-3, ..NormConfig::DEFAULT };
    conv_norm([path / "conv", path / "bn"], inputs, outputs, config, norm, Activation::Relu)
}

fn inception(path: &Path, inputs: i64, outputs: [i64; 6]) -> Result<Branches> {
    let [one, three_reduced, three, five_reduced, five, projected] = outputs;
    let conv = |name: &str, inputs, outputs, kernel| -> Result<Box<dyn Layer>> {
        Ok(Box::new(basic_conv(&(path / name), inputs, outputs, convolution(kernel))?))
    };
    let branches = [
        vec![conv("branch1", inputs, one, 1)?],
        vec![conv("branch2.0", inputs, three_reduced, 1)?, conv("branch2.1", three_reduced, three, 3)?],
        vec![conv("branch3.0", inputs, five_reduced, 1)?, conv("branch3.1", five_reduced, five, 3)?],
        vec![max_pool2d_ceil(3, 1, 1), conv("branch4.1", inputs, projected, 1)?],
    ];
    Ok(Branches(branches.into_iter().map(|branch| Box::new(Sequential(branch)) as Box<dyn Layer>).collect()))
}
