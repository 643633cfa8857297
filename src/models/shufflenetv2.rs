//! ShuffleNet V2 (Ma et al., "Practical Guidelines for Efficient CNN Architecture Design", ECCV
//! 2018; torchvision `models/shufflenetv2.py`).

use super::layers::Activation::{self, Identity, Relu};
use super::prelude::*;

pub(super) const TABLE: &[Architecture] = &[
    SHUFFLENET.builder("shufflenet_v2_x0_5", |chain| shufflenet_v2(chain, [24, 48, 96, 192, 1024])),
    SHUFFLENET.builder("shufflenet_v2_x1_0", |chain| shufflenet_v2(chain, [24, 116, 232, 464, 1024])),
    SHUFFLENET.builder("shufflenet_v2_x1_5", |chain| shufflenet_v2(chain, [24, 176, 352, 704, 1024])),
    SHUFFLENET.builder("shufflenet_v2_x2_0", |chain| shufflenet_v2(chain, [24, 244, 488, 976, 2048])),
];

/// Fields shared by the four builders.
const SHUFFLENET: Architecture = Architecture::family("ShuffleNet V2", "stage4");

/// Blocks in `stage2`, `stage3` and `stage4`, the same in all four widths.
const REPEATS: [usize; 3] = [4, 8, 4];

/// `channels`: of the stem, the three stages and the last convolution.
fn shufflenet_v2(chain: &mut Chain, channels: [i64; 5]) -> Result<()> {
    chain.stage("conv1", |root| {
        let conv = unit(&(root / "conv1"), 0, [3, channels[0]], ConvConfig::new(3).stride(2), Relu)?;
        Ok(Sequential(vec![Box::new(conv), max_pool2d(3, 2, 1)]))
    })?;
    for (index, repeats) in REPEATS.into_iter().enumerate() {
        let stage = format!("stage{}", index + 2);
        let (inputs, outputs) = (channels[index], channels[index + 1]);
        for block in 0..repeats {
            chain.stage(format!("{stage}.{block}"), |root| {
                let path = root / &stage / block;
                if block == 0 { downsampling(&path, inputs, outputs) } else { basic(&path, outputs) }
            })?;
        }
    }
    chain.stage("conv5", |root| {
        unit(&(root / "conv5"), 0, [channels[3], channels[4]], ConvConfig::new(1), Relu)
    })?;
    chain.head("fc", global_mean(), channels[4])
}

/// A convolution at `index` and its normalisation at the next.
fn unit(
    path: &Path,
    index: usize,
    [inputs, outputs]: [i64; 2],
    config: ConvConfig,
    activation: Activation,
) -> Result<ConvNorm> {
    conv_norm([path / index, path / (index + 1)], inputs, outputs, config, NormConfig::DEFAULT, activation)
}

/// torchvision's `InvertedResidual`: channels are split (or, where the block halves the resolution,
/// copied) into two branches, joined and shuffled.
struct InvertedResidual {
    /// Present if the block halves the resolution; otherwise half of the channels pass unchanged.
    branch1: Option<Sequential>,
    branch2: Sequential,
}

fn basic(path: &Path, channels: i64) -> Result<InvertedResidual> {
    Ok(InvertedResidual { branch1: None, branch2: branch2(path, channels / 2, channels / 2, 1)? })
}

fn downsampling(path: &Path, inputs: i64, outputs: i64) -> Result<InvertedResidual> {
    let path1 = path / "branch1";
    let depthwise = ConvConfig::new(3).stride(2).groups(inputs);
    let branch1 = [
        unit(&path1, 0, [inputs, inputs], depthwise, Identity)?,
        unit(&path1, 2, [inputs, outputs / 2], ConvConfig::new(1), Relu)?,
    ];
    let branch1 = Some(branch1.into_iter().collect());
    Ok(InvertedResidual { branch1, branch2: branch2(path, inputs, outputs / 2, 2)? })
}

fn branch2(path: &Path, inputs: i64, outputs: i64, stride: i64) -> Result<Sequential> {
    let path = path / "branch2";
    let depthwise = ConvConfig::new(3).stride(stride).groups(outputs);
    let layers = [
        unit(&path, 0, [inputs, outputs], ConvConfig::new(1), Relu)?,
        unit(&path, 3, [outputs, outputs], depthwise, Identity)?,
        unit(&path, 5, [outputs, outputs], ConvConfig::new(1), Relu)?,
    ];
    Ok(layers.into_iter().collect())
}

impl Layer for InvertedResidual {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let (first, second) = match &self.branch1 {
            Some(branch1) => (branch1.forward(xs, mode)?, xs.shallow_clone()),
            None => {
                let half = xs.size()[1] / 2;
                (xs.f_narrow(1, 0, half)?, xs.f_narrow(1, half, half)?)
            }
        };
        Ok(channel_shuffle(&Tensor::f_cat(&[first, self.branch2.forward(&second, mode)?], 1)?)?)
    }
}

/// Interleaves the channels of the two branches, in either memory format.
fn channel_shuffle(xs: &Tensor) -> Result<Tensor, tch::TchError> {
    let (n, c, h, w) = xs.size4()?;
    if is_channels_last(xs) {
        // As below, in memory order: otherwise the copy comes out channels-first.
        let xs = xs.f_permute([0, 2, 3, 1])?.f_reshape([n, h, w, 2, c / 2])?.f_transpose(3, 4)?;
        return xs.f_reshape([n, h, w, c])?.f_permute([0, 3, 1, 2]);
    }
    xs.f_reshape([n, 2, c / 2, h, w])?.f_transpose(1, 2)?.f_reshape([n, c, h, w])
}
