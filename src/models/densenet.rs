//! DenseNet-BC (Huang et al., "Densely Connected Convolutional Networks", CVPR 2017; torchvision
//! `models/densenet.py`).

use super::layers::Activation::Relu;
use super::prelude::*;

pub(super) const TABLE: &[Architecture] = &[
    DENSENET.builder("densenet121", |chain| densenet(chain, 32, [6, 12, 24, 16], 64)),
    DENSENET.builder("densenet161", |chain| densenet(chain, 48, [6, 12, 36, 24], 96)),
    DENSENET.builder("densenet169", |chain| densenet(chain, 32, [6, 12, 32, 32], 64)),
    DENSENET.builder("densenet201", |chain| densenet(chain, 32, [6, 12, 48, 32], 64)),
];

/// Fields shared by the builders.
const DENSENET: Architecture = Architecture {
    // The published files have keys from a time when modules could have dots in their names.
    renames: &[
        (".norm.1.", ".norm1."),
        (".norm.2.", ".norm2."),
        (".conv.1.", ".conv1."),
        (".conv.2.", ".conv2."),
    ],
    ..Architecture::family("DenseNet", "denseblock4").min_size(29)
};

/// A layer's 1×1 convolution has this many channels for each that the layer adds.
const BOTTLENECK: i64 = 4;

/// `growth`: channels added by each layer; `layers`: in each of the four blocks; `stem`: channels
/// of the first convolution.
fn densenet(chain: &mut Chain, growth: i64, layers: [usize; 4], stem: i64) -> Result<()> {
    chain.stage("conv0", |root| {
        let path = root / "features";
        let config = convolution(3, 7).stride(2);
        let paths = [&path / "conv0", &path / "norm0"];
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

/// With `kaiming_normal_`'s default mode, `fan_in`.
fn convolution(inputs: i64, kernel: i64) -> ConvConfig {
    let fan_in = (inputs * kernel * kernel) as f64;
    ConvConfig::new(kernel).init(ConvInit::Normal((2. / fan_in).sqrt()))
}

/// A normalisation and its activation, which precede the convolutions here.
fn norm_relu(path: &Path, channels: i64) -> Result<InPlace<BatchNorm2d>> {
    Ok(InPlace(batch_norm2d(path, channels, NormConfig::DEFAULT)?, Relu))
}

/// A dense layer appends its output to its input, so that the chain carries the concatenation of
/// all earlier outputs of the block.
fn dense_layer(path: &Path, inputs: i64, growth: i64) -> Result<Branches> {
    let width = BOTTLENECK * growth;
    let norm1 = norm_relu(&(path / "norm1"), inputs)?;
    let paths = [path / "conv1", path / "norm2"];
    let conv1 = conv_norm(paths, inputs, width, convolution(inputs, 1), NormConfig::DEFAULT, Relu)?;
    let conv2 = conv2d(&(path / "conv2"), width, growth, convolution(width, 3))?;
    let new = Sequential(vec![Box::new(norm1), Box::new(conv1), Box::new(conv2)]);
    Ok(Branches(vec![identity(), Box::new(new)]))
}

/// Halves channels and resolution.
fn transition(path: &Path, channels: i64) -> Result<Sequential> {
    let norm = norm_relu(&(path / "norm"), channels)?;
    let conv = conv2d(&(path / "conv"), channels, channels / 2, convolution(channels, 1))?;
    Ok(Sequential(vec![Box::new(norm), Box::new(conv), avg_pool2d(2, 2, 0)]))
}
