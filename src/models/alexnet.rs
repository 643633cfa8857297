//! AlexNet, the one-column variant (Krizhevsky, "One weird trick for parallelizing convolutional
//! neural networks", 2014; torchvision `models/alexnet.py`).

use super::prelude::*;

pub(super) const TABLE: &[Architecture] =
    &[Architecture::family("AlexNet", "fc6").min_size(63).builder("alexnet", build)];

/// Index in torchvision's `features`, input and output channels, kernel and stride and padding, and
/// whether a pooling of 3 with stride 2 follows.
const CONVOLUTIONS: [(usize, i64, i64, ConvConfig, bool); 5] = [
    (0, 3, 64, ConvConfig::new(11).stride(4).padding(2).bias(), true),
    (3, 64, 192, ConvConfig::new(5).bias(), true),
    (6, 192, 384, ConvConfig::new(3).bias(), false),
    (8, 384, 256, ConvConfig::new(3).bias(), false),
    (10, 256, 256, ConvConfig::new(3).bias(), true),
];
const DROPOUT: f64 = 0.5;
const POOLED_SIDE: i64 = 6;
const HIDDEN: i64 = 4096;

fn build(chain: &mut Chain) -> Result<()> {
    for (number, (index, inputs, outputs, config, pooled)) in CONVOLUTIONS.into_iter().enumerate() {
        chain.stage(format!("conv{}", number + 1), |root| {
            let conv = conv2d(&(root / "features" / index), inputs, outputs, config)?;
            let mut layers: Vec<Box<dyn Layer>> = vec![Box::new(conv), Box::new(Activation::Relu)];
            if pooled {
                layers.push(max_pool2d(3, 2, 0));
            }
            Ok(Sequential(layers))
        })?;
    }
    chain.stage("fc6", |root| {
        let mut layers = vec![adaptive_avg_pool2d_flat(POOLED_SIDE)];
        layers.extend(fully_connected(root, 1, 256 * POOLED_SIDE * POOLED_SIDE)?);
        Ok(Sequential(layers))
    })?;
    chain.stage("fc7", |root| Ok(Sequential(fully_connected(root, 4, HIDDEN)?)))?;
    chain.head("classifier.6", identity(), HIDDEN)
}

fn fully_connected(root: &Path, index: usize, inputs: i64) -> Result<Vec<Box<dyn Layer>>> {
    let linear = linear(&(root / "classifier" / index), inputs, HIDDEN, LinearInit::default(inputs))?;
    Ok(vec![dropout(DROPOUT), Box::new(linear), Box::new(Activation::Relu)])
}
