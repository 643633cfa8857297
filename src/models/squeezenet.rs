//! SqueezeNet 1.0 and 1.1 (Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer
//! parameters and <0.5MB model size", 2016; torchvision `models/squeezenet.py`).
//!
//! The classifier is a convolution (the paper's conv10), and its logits, ReLU behind it, are
//! averaged over height and width. `features` is that convolution's input, averaged over height and
//! width to `[N, 512]`; the logits cannot be computed from it.

use super::layers::Activation::Relu;
use super::prelude::*;

pub(super) const TABLE: &[Architecture] = &[
    SQUEEZENET.min_size(21).builder("squeezenet1_0", |chain| squeezenet(chain, 96, 7, [1, 4, 8])),
    SQUEEZENET.min_size(17).builder("squeezenet1_1", |chain| squeezenet(chain, 64, 3, [1, 3, 5])),
];

/// Fields shared by the builders.
const SQUEEZENET: Architecture = Architecture::family("SqueezeNet", "fire8");

/// Channels that the fire modules 2 to 9 squeeze to, and that each of their two branches expands
/// to.
const FIRES: [[i64; 2]; 8] =
    [[16, 64], [16, 64], [32, 128], [32, 128], [48, 192], [48, 192], [64, 256], [64, 256]];
const DROPOUT: f64 = 0.5;

/// `stem` and `kernel`: channels and side of the first convolution. `pooled`: the modules, by the
/// paper's numbers, that a pooling follows.
fn squeezenet(chain: &mut Chain, stem: i64, kernel: i64, pooled: [usize; 3]) -> Result<()> {
    chain.stage("conv1", |root| {
        let config = convolution(kernel).stride(2).padding(0);
        let conv = conv2d(&(root / "features" / 0), 3, stem, config)?;
        Ok(Sequential(vec![Box::new(conv), Box::new(Relu), max_pool2d_ceil(3, 2, 0)]))
    })?;
    let mut inputs = stem;
    // torchvision numbers modules and poolings in one list, in which conv1 and its followers are 0
    // to 2.
    let mut index = 3;
    for (number, [squeezed, expanded]) in (2..).zip(FIRES) {
        chain.stage(format!("fire{number}"), |root| {
            let fire = fire(&(root / "features" / index), inputs, squeezed, expanded)?;
            let mut layers: Vec<Box<dyn Layer>> = vec![Box::new(fire)];
            if pooled.contains(&number) {
                layers.push(max_pool2d_ceil(3, 2, 0));
            }
            index += layers.len();
            Ok(Sequential(layers))
        })?;
        inputs = 2 * expanded;
    }
    chain.convolution_head("classifier.1", dropout(DROPOUT), inputs, ConvInit::Normal(0.01))
}

const fn convolution(kernel: i64) -> ConvConfig {
    ConvConfig::new(kernel).bias().init(ConvInit::KaimingUniform)
}

/// A fire module: few channels, then many, half through 1×1 and half through 3×3 kernels.
fn fire(path: &Path, inputs: i64, squeezed: i64, expanded: i64) -> Result<Sequential> {
    let squeeze = conv2d(&(path / "squeeze"), inputs, squeezed, convolution(1))?;
    let ones = conv2d(&(path / "expand1x1"), squeezed, expanded, convolution(1))?;
    let threes = conv2d(&(path / "expand3x3"), squeezed, expanded, convolution(3))?;
    let expand = Branches(vec![Box::new(ones), Box::new(threes)]);
    // The activation is elementwise, so it may follow the concatenation.
    Ok(Sequential(vec![Box::new(InPlace(squeeze, Relu)), Box::new(InPlace(expand, Relu))]))
}
