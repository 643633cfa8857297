//! Two classic networks that torchvision lacks. There are no weights for them: they are trained
//! from scratch.
//!
//! LeNet-5: LeCun et al., "Gradient-based learning applied to document recognition", 1998. As usual
//! today, subsampling is plain averaging, C3 sees all of S2, activations are plain tanh, and the
//! output is linear under a softmax instead of radial basis functions. Its input is grey: colour
//! images are averaged.
//!
//! AlexNet of 2012: Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural
//! Networks", NIPS 2012: two groups (one a GPU), local response normalisation, 227 × 227 pixels
//! (the paper says 224, which does not give its 55 × 55).

use super::imagenet;
use super::layers::Activation::{Relu, Tanh};
use super::prelude::*;
use crate::preprocess::Preprocessing;

pub(super) const TABLE: &[Architecture] = &[
    Architecture {
        // Digits and letters: white on black, and scaled to a deviation near one.
        preset: Preprocessing { mean: [0.5; 3], std: [0.5; 3], ..imagenet(32, 32) },
        ..Architecture::family("LeNet", "fc6").min_size(32).builder("lenet5", lenet5)
    },
    Architecture {
        preset: imagenet(256, 227),
        ..Architecture::family("AlexNet", "fc6").min_size(67).builder("alexnet_2012", alexnet_2012)
    },
];

/// All convolutions of LeNet-5.
const FIVE: ConvConfig = ConvConfig::new(5).padding(0).bias();

fn lenet5(chain: &mut Chain) -> Result<()> {
    for (name, inputs, outputs) in [("conv1", 1, 6), ("conv3", 6, 16)] {
        chain.stage(name, |root| {
            let mut layers: Vec<Box<dyn Layer>> = Vec::new();
            if inputs == 1 {
                layers.push(Box::new(Func(|xs: &Tensor, _| xs.f_mean_dim([1i64].as_slice(), true, None))));
            }
            layers.push(Box::new(conv2d(&(root / name), inputs, outputs, FIVE)?));
            layers.push(Box::new(Tanh));
            layers.push(avg_pool2d(2, 2, 0));
            Ok(Sequential(layers))
        })?;
    }
    chain.stage("conv5", |root| {
        let conv = conv2d(&(root / "conv5"), 16, 120, FIVE)?;
        Ok(Sequential(vec![Box::new(conv), Box::new(Tanh)]))
    })?;
    chain.stage("fc6", |root| {
        let fc = linear(&(root / "fc6"), 120, 84, LinearInit::default(120))?;
        Ok(Sequential(vec![adaptive_avg_pool2d_flat(1), Box::new(fc), Box::new(Tanh)]))
    })?;
    chain.head("output", identity(), 84)
}

/// Standard deviation of all initial weights.
const DEVIATION: f64 = 0.01;

/// Name, input and output channels, kernel and stride and padding and groups, whether its biases
/// begin at one (which gives the ReLUs positive inputs), whether it is normalised, whether it is
/// pooled.
const CONVOLUTIONS: [(&str, i64, i64, ConvConfig, bool, bool, bool); 5] = [
    ("conv1", 3, 96, ConvConfig::new(11).stride(4).padding(0), false, true, true),
    ("conv2", 96, 256, ConvConfig::new(5).groups(2), true, true, true),
    ("conv3", 256, 384, ConvConfig::new(3), false, false, false),
    ("conv4", 384, 384, ConvConfig::new(3).groups(2), true, false, false),
    ("conv5", 384, 256, ConvConfig::new(3).groups(2), true, false, true),
];

fn alexnet_2012(chain: &mut Chain) -> Result<()> {
    for (name, inputs, outputs, config, ones, normalised, pooled) in CONVOLUTIONS {
        chain.stage(name, |root| {
            let init = if ones { ConvInit::NormalBiasOne(DEVIATION) } else { ConvInit::Normal(DEVIATION) };
            let conv = conv2d(&(root / name), inputs, outputs, config.bias().init(init))?;
            let mut layers: Vec<Box<dyn Layer>> = vec![Box::new(conv), Box::new(Relu)];
            if normalised {
                layers.push(local_response_norm());
            }
            if pooled {
                layers.push(max_pool2d(3, 2, 0));
            }
            Ok(Sequential(layers))
        })?;
    }
    chain.stage("fc6", |root| {
        let mut layers = vec![adaptive_avg_pool2d_flat(6)];
        layers.extend(hidden(&(root / "fc6"), 256 * 6 * 6)?);
        Ok(Sequential(layers))
    })?;
    chain.stage("fc7", |root| Ok(Sequential(hidden(&(root / "fc7"), 4096)?)))?;
    chain.head_with("fc8", dropout(0.5), 4096, LinearInit::weights(Init::Normal(DEVIATION)))
}

/// The paper drops out the outputs of both hidden layers: fc6's before fc7, fc7's before the last
/// layer.
fn hidden(path: &Path, inputs: i64) -> Result<Vec<Box<dyn Layer>>> {
    let init = LinearInit { weight: Init::Normal(DEVIATION), bias: Some(Init::Constant(1.)) };
    let linear = linear(path, inputs, 4096, init)?;
    let mut layers: Vec<Box<dyn Layer>> = vec![Box::new(linear), Box::new(Relu)];
    if inputs == 4096 {
        layers.insert(0, dropout(0.5));
    }
    Ok(layers)
}
