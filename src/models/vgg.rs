//! VGG, configurations A to E (Simonyan and Zisserman, "Very Deep Convolutional Networks for
//! Large-Scale Image Recognition", ICLR 2015; torchvision `models/vgg.py`), with and without
//! BatchNorm, and the paper's A-LRN and C, for which there are no weights.

use super::prelude::*;

pub(super) const TABLE: &[Architecture] = &[
    VGG.builder("vgg11", |chain| vgg(chain, A, Variant::Plain)),
    VGG.builder("vgg11_bn", |chain| vgg(chain, A, Variant::BatchNorm)),
    VGG.builder("vgg13", |chain| vgg(chain, B, Variant::Plain)),
    VGG.builder("vgg13_bn", |chain| vgg(chain, B, Variant::BatchNorm)),
    VGG.builder("vgg16", |chain| vgg(chain, D, Variant::Plain)),
    VGG.builder("vgg16_bn", |chain| vgg(chain, D, Variant::BatchNorm)),
    VGG.builder("vgg19", |chain| vgg(chain, E, Variant::Plain)),
    VGG.builder("vgg19_bn", |chain| vgg(chain, E, Variant::BatchNorm)),
    VGG.builder("vgg11_lrn", |chain| vgg(chain, A, Variant::LocalResponseNorm)),
    VGG.builder("vgg16_c", |chain| vgg(chain, D, Variant::C)),
];

/// Fields shared by the builders.
const VGG: Architecture = Architecture::family("VGG", "block5").min_size(32);

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

/// A configuration's additions to its 3×3 convolutions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Variant {
    Plain,
    /// A normalisation behind each convolution, as in torchvision's `_bn` builders.
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
                let conv: Box<dyn Layer> = match variant {
                    Variant::BatchNorm => {
                        let paths = [&path / index, &path / (index + 1)];
                        let norm = NormConfig::DEFAULT;
                        Box::new(conv_norm(paths, inputs, outputs, config, norm, Activation::Relu)?)
                    }
                    _ => Box::new(InPlace(
                        conv2d(&(&path / index), inputs, outputs, config)?,
                        Activation::Relu,
                    )),
                };
                // A convolution and its activation, and a normalisation between them.
                index += if variant == Variant::BatchNorm { 3 } else { 2 };
                let first = number == 1 && block == 1;
                let mut layers = vec![conv];
                if variant == Variant::LocalResponseNorm && first {
                    layers.push(local_response_norm());
                    index += 1;
                }
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

/// Initial values of all linear layers.
const INIT: LinearInit = LinearInit { weight: Init::Normal(0.01), bias: Some(Init::Constant(0.)) };

fn fully_connected(root: &Path, index: usize, inputs: i64) -> Result<Vec<Box<dyn Layer>>> {
    let linear = linear(&(root / "classifier" / index), inputs, HIDDEN, INIT)?;
    Ok(vec![Box::new(linear), Box::new(Activation::Relu), dropout(DROPOUT)])
}
