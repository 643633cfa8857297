//! VGG, configurations A to E (Simonyan and Zisserman, "Very Deep Convolutional Networks for
//! Large-Scale Image Recognition", ICLR 2015; torchvision `models/vgg.py`), with and without BatchNorm,
//! and the paper's A-LRN and C, of which there are no weights.

use super::layers::{
    Activation, ConvConfig, ConvInit, Layer, LinearInit, NormConfig, Sequential, adaptive_avg_pool2d_flat,
    batch_norm2d, conv2d, dropout, identity, linear, local_response_norm, max_pool2d,
};
use super::network::Chain;
use super::vars::{Init, Path};
use super::{Architecture, BASE, entry, imagenet};
use crate::error::Result;
use crate::preprocess::Preprocessing;

pub(super) const TABLE: &[Architecture] = &[
    Architecture {
        name: "vgg11",
        weights_enum: "VGG11_Weights",
        default: "IMAGENET1K_V1",
        weights: &[entry(
            "IMAGENET1K_V1",
            "vgg11-8a719046.pth",
            132_863_336,
            7.609,
            [69.02, 88.628],
            imagenet(256, 224),
        )],
        build: |chain| vgg(chain, A, Variant::Plain),
        ..VGG
    },
    Architecture {
        name: "vgg11_bn",
        weights_enum: "VGG11_BN_Weights",
        default: "IMAGENET1K_V1",
        weights: &[entry(
            "IMAGENET1K_V1",
            "vgg11_bn-6002323d.pth",
            132_868_840,
            7.609,
            [70.37, 89.81],
            imagenet(256, 224),
        )],
        build: |chain| vgg(chain, A, Variant::BatchNorm),
        ..VGG
    },
    Architecture {
        name: "vgg13",
        weights_enum: "VGG13_Weights",
        default: "IMAGENET1K_V1",
        weights: &[entry(
            "IMAGENET1K_V1",
            "vgg13-19584684.pth",
            133_047_848,
            11.308,
            [69.928, 89.246],
            imagenet(256, 224),
        )],
        build: |chain| vgg(chain, B, Variant::Plain),
        ..VGG
    },
    Architecture {
        name: "vgg13_bn",
        weights_enum: "VGG13_BN_Weights",
        default: "IMAGENET1K_V1",
        weights: &[entry(
            "IMAGENET1K_V1",
            "vgg13_bn-abd245e5.pth",
            133_053_736,
            11.308,
            [71.586, 90.374],
            imagenet(256, 224),
        )],
        build: |chain| vgg(chain, B, Variant::BatchNorm),
        ..VGG
    },
    Architecture {
        name: "vgg16",
        weights_enum: "VGG16_Weights",
        default: "IMAGENET1K_V1",
        weights: &[
            entry(
                "IMAGENET1K_V1",
                "vgg16-397923af.pth",
                138_357_544,
                15.47,
                [71.592, 90.382],
                imagenet(256, 224),
            ),
            entry(
                "IMAGENET1K_FEATURES",
                "vgg16_features-amdegroot-88682ab5.pth",
                138_357_544,
                15.47,
                [f64::NAN, f64::NAN],
                Preprocessing {
                    mean: [0.48235, 0.45882, 0.40784],
                    std: [1. / 255.; 3],
                    ..imagenet(256, 224)
                },
            ),
        ],
        build: |chain| vgg(chain, D, Variant::Plain),
        ..VGG
    },
    Architecture {
        name: "vgg16_bn",
        weights_enum: "VGG16_BN_Weights",
        default: "IMAGENET1K_V1",
        weights: &[entry(
            "IMAGENET1K_V1",
            "vgg16_bn-6c64b313.pth",
            138_365_992,
            15.47,
            [73.36, 91.516],
            imagenet(256, 224),
        )],
        build: |chain| vgg(chain, D, Variant::BatchNorm),
        ..VGG
    },
    Architecture {
        name: "vgg19",
        weights_enum: "VGG19_Weights",
        default: "IMAGENET1K_V1",
        weights: &[entry(
            "IMAGENET1K_V1",
            "vgg19-dcbb9e9d.pth",
            143_667_240,
            19.632,
            [72.376, 90.876],
            imagenet(256, 224),
        )],
        build: |chain| vgg(chain, E, Variant::Plain),
        ..VGG
    },
    Architecture {
        name: "vgg19_bn",
        weights_enum: "VGG19_BN_Weights",
        default: "IMAGENET1K_V1",
        weights: &[entry(
            "IMAGENET1K_V1",
            "vgg19_bn-c79401a0.pth",
            143_678_248,
            19.632,
            [74.218, 91.842],
            imagenet(256, 224),
        )],
        build: |chain| vgg(chain, E, Variant::BatchNorm),
        ..VGG
    },
    Architecture { name: "vgg11_lrn", build: |chain| vgg(chain, A, Variant::LocalResponseNorm), ..VGG },
    Architecture { name: "vgg16_c", build: |chain| vgg(chain, D, Variant::C), ..VGG },
];

/// What the builders share.
const VGG: Architecture = Architecture { family: "VGG", min_size: 32, partial_from: "block5", ..BASE };

/// Convolutions in each of the five blocks, by the paper's letter.
const A: [usize; 5] = [1, 1, 2, 2, 2];
const B: [usize; 5] = [2, 2, 2, 2, 2];
const D: [usize; 5] = [2, 2, 3, 3, 3];
const E: [usize; 5] = [2, 2, 4, 4, 4];

/// Channels of the blocks, the same in all configurations.
const CHANNELS: [i64; 5] = [64, 128, 256, 512, 512];
const CONVOLUTION: ConvConfig = ConvConfig::new(3).bias().init(ConvInit::KaimingFanOut);
const POINTWISE: ConvConfig = ConvConfig::new(1).bias().init(ConvInit::KaimingFanOut);
const POOLED_SIDE: i64 = 7;
const HIDDEN: i64 = 4096;
const DROPOUT: f64 = 0.5;

/// What a configuration has besides its 3×3 convolutions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Variant {
    Plain,
    /// A normalisation behind each convolution, as torchvision's `_bn` builders.
    BatchNorm,
    /// The paper's A-LRN: local response normalisation behind the first convolution.
    LocalResponseNorm,
    /// The paper's C: in blocks 3 to 5 the third convolution is 1×1.
    C,
}

fn vgg(chain: &mut Chain, convolutions: [usize; 5], variant: Variant) -> Result<()> {
    let mut inputs = 3;
    // torchvision numbers convolutions, normalisations, activations and poolings in one list.
    let mut index = 0;
    for (block, (count, outputs)) in (1..).zip(convolutions.into_iter().zip(CHANNELS)) {
        for number in 1..=count {
            chain.stage(format!("block{block}.conv{number}"), |root| {
                let path = root / "features";
                let pointwise = variant == Variant::C && number == 3;
                let config = if pointwise { POINTWISE } else { CONVOLUTION };
                let conv = conv2d(&(&path / index), inputs, outputs, config)?;
                let mut layers: Vec<Box<dyn Layer>> = vec![Box::new(conv)];
                if variant == Variant::BatchNorm {
                    layers.push(Box::new(batch_norm2d(
                        &(&path / (index + 1)),
                        outputs,
                        NormConfig::DEFAULT,
                    )?));
                }
                layers.push(Box::new(Activation::Relu));
                if variant == Variant::LocalResponseNorm && index == 0 {
                    layers.push(local_response_norm());
                }
                index += layers.len();
                if number == count {
                    layers.push(max_pool2d(2, 2, 0));
                    index += 1;
                }
                Ok(Sequential(layers))
            })?;
            inputs = outputs;
        }
    }
    chain.stage("fc6", |root| {
        let mut layers = vec![adaptive_avg_pool2d_flat(POOLED_SIDE)];
        layers.extend(fully_connected(root, 0, inputs * POOLED_SIDE * POOLED_SIDE)?);
        Ok(Sequential(layers))
    })?;
    chain.stage("fc7", |root| Ok(Sequential(fully_connected(root, 3, HIDDEN)?)))?;
    chain.head_with("classifier.6", identity(), HIDDEN, INIT)
}

/// Of all linear layers.
const INIT: LinearInit = LinearInit { weight: Init::Normal(0.01), bias: Some(Init::Constant(0.)) };

fn fully_connected(root: &Path, index: usize, inputs: i64) -> Result<Vec<Box<dyn Layer>>> {
    let linear = linear(&(root / "classifier" / index), inputs, HIDDEN, INIT)?;
    Ok(vec![Box::new(linear), Box::new(Activation::Relu), dropout(DROPOUT)])
}
