//! DenseNet-BC (Huang et al., "Densely Connected Convolutional Networks", CVPR 2017; torchvision
//! `models/densenet.py`).

use tch::Tensor;

use super::layers::Activation::Relu;
use super::layers::{
    BatchNorm2d, Conv2d, ConvConfig, ConvInit, ConvNorm, Layer, LinearInit, Mode, NormConfig, Sequential,
    adaptive_avg_pool2d_flat, avg_pool2d, batch_norm2d, conv_norm, conv2d, max_pool2d,
};
use super::network::Chain;
use super::vars::Path;
use super::{Architecture, BASE, entry, imagenet};
use crate::error::{Error, Result};

pub(super) const TABLE: &[Architecture] = &[
    Architecture {
        name: "densenet121",
        weights_enum: "DenseNet121_Weights",
        default: "IMAGENET1K_V1",
        weights: &[entry(
            "IMAGENET1K_V1",
            "densenet121-a639ec97.pth",
            7_978_856,
            2.834,
            [74.434, 91.972],
            imagenet(256, 224),
        )],
        build: |chain| densenet(chain, 32, [6, 12, 24, 16], 64),
        ..DENSENET
    },
    Architecture {
        name: "densenet161",
        weights_enum: "DenseNet161_Weights",
        default: "IMAGENET1K_V1",
        weights: &[entry(
            "IMAGENET1K_V1",
            "densenet161-8d451a50.pth",
            28_681_000,
            7.728,
            [77.138, 93.56],
            imagenet(256, 224),
        )],
        build: |chain| densenet(chain, 48, [6, 12, 36, 24], 96),
        ..DENSENET
    },
    Architecture {
        name: "densenet169",
        weights_enum: "DenseNet169_Weights",
        default: "IMAGENET1K_V1",
        weights: &[entry(
            "IMAGENET1K_V1",
            "densenet169-b2777c0a.pth",
            14_149_480,
            3.36,
            [75.6, 92.806],
            imagenet(256, 224),
        )],
        build: |chain| densenet(chain, 32, [6, 12, 32, 32], 64),
        ..DENSENET
    },
    Architecture {
        name: "densenet201",
        weights_enum: "DenseNet201_Weights",
        default: "IMAGENET1K_V1",
        weights: &[entry(
            "IMAGENET1K_V1",
            "densenet201-c1103571.pth",
            20_013_928,
            4.291,
            [76.896, 93.37],
            imagenet(256, 224),
        )],
        build: |chain| densenet(chain, 32, [6, 12, 48, 32], 64),
        ..DENSENET
    },
];

/// What the builders share.
const DENSENET: Architecture = Architecture {
    family: "DenseNet",
    min_size: 29,
    partial_from: "denseblock4",
    // The published files have the keys of a time when modules could have dots in their names.
    renames: &[
        (".norm.1.", ".norm1."),
        (".norm.2.", ".norm2."),
        (".conv.1.", ".conv1."),
        (".conv.2.", ".conv2."),
    ],
    ..BASE
};

/// A layer's 1×1 convolution has this many channels for each that the layer adds.
const BOTTLENECK: i64 = 4;

/// `growth`: channels that each layer adds; `layers`: in each of the four blocks; `stem`: channels of the
/// first convolution.
fn densenet(chain: &mut Chain, growth: i64, layers: [usize; 4], stem: i64) -> Result<()> {
    chain.stage("conv0", |root| {
        let path = root / "features";
        let config = convolution(3, 7).stride(2);
        let paths = [&(&path / "conv0"), &(&path / "norm0")];
        let conv = conv_norm(paths, 3, stem, config, NormConfig::DEFAULT, Relu)?;
        Ok(Sequential(vec![Box::new(conv), max_pool2d(3, 2, 1)]))
    })?;
    let mut channels = stem;
    for (block, count) in (1..).zip(layers) {
        for number in 1..=count {
            let (block, layer) = (format!("denseblock{block}"), format!("denselayer{number}"));
            chain.stage(format!("{block}.{layer}"), |root| {
                dense_layer(&(root / "features" / block / layer), channels, growth)
            })?;
            channels += growth;
        }
        if block < layers.len() {
            let name = format!("transition{block}");
            chain.stage(name.clone(), |root| transition(&(root / "features" / name), channels))?;
            channels /= 2;
        }
    }
    // A stage of its own, so that its statistics can be frozen like all others.
    chain.stage("norm5", |root| norm_relu(&(root / "features" / "norm5"), channels))?;
    let init = LinearInit::weights(LinearInit::default(channels).weight);
    chain.head_with("classifier", adaptive_avg_pool2d_flat(1), channels, init)
}

/// With `kaiming_normal_`'s default deviation, which counts inputs.
fn convolution(inputs: i64, kernel: i64) -> ConvConfig {
    let fan_in = (inputs * kernel * kernel) as f64;
    ConvConfig::new(kernel).init(ConvInit::Normal((2. / fan_in).sqrt()))
}

/// A normalisation and its activation, which stand before the convolutions here.
struct NormRelu(BatchNorm2d);

fn norm_relu(path: &Path, channels: i64) -> Result<NormRelu> {
    Ok(NormRelu(batch_norm2d(path, channels, NormConfig::DEFAULT)?))
}

impl Layer for NormRelu {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        Relu.apply_in_place(self.0.forward(xs, mode)?)
    }
}

/// A dense layer appends its output to its input, so that what passes along the chain is the concatenation
/// of all that came before in the block.
struct DenseLayer {
    norm1: NormRelu,
    conv1: ConvNorm,
    conv2: Conv2d,
}

fn dense_layer(path: &Path, inputs: i64, growth: i64) -> Result<DenseLayer> {
    let width = BOTTLENECK * growth;
    let norm1 = norm_relu(&(path / "norm1"), inputs)?;
    let paths = [&(path / "conv1"), &(path / "norm2")];
    let conv1 = conv_norm(paths, inputs, width, convolution(inputs, 1), NormConfig::DEFAULT, Relu)?;
    Ok(DenseLayer { norm1, conv1, conv2: conv2d(&(path / "conv2"), width, growth, convolution(width, 3))? })
}

impl Layer for DenseLayer {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let new = self.conv1.forward(&self.norm1.forward(xs, mode)?, mode)?;
        let new = self.conv2.forward(&new, mode)?;
        Tensor::f_cat(&[xs, &new], 1).map_err(Error::torch("join a dense layer's input and output"))
    }
}

/// Halves channels and resolution.
fn transition(path: &Path, channels: i64) -> Result<Sequential> {
    let norm = norm_relu(&(path / "norm"), channels)?;
    let conv = conv2d(&(path / "conv"), channels, channels / 2, convolution(channels, 1))?;
    Ok(Sequential(vec![Box::new(norm), Box::new(conv), avg_pool2d(2, 2, 0)]))
}
