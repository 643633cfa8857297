//! ShuffleNet V2 (Ma et al., "Practical Guidelines for Efficient CNN Architecture Design", ECCV 2018;
//! torchvision `models/shufflenetv2.py`).

use tch::Tensor;

use super::layers::{ConvConfig, ConvNorm, Layer, Mode, Sequential, conv_norm, global_mean, max_pool2d};
use super::network::Chain;
use super::vars::Path;
use super::{Architecture, WeightEntry, imagenet};
use crate::error::Result;
use crate::preprocess::Preprocessing;

pub(super) const TABLE: &[Architecture] = &[
    Architecture {
        name: "shufflenet_v2_x0_5",
        weights_enum: "ShuffleNet_V2_X0_5_Weights",
        weights: &[v1("shufflenetv2_x0.5-f707e7126e.pth", 60.552, 81.746, imagenet(256, 224))],
        parameters: 1_366_792,
        gflops: 0.04,
        build: |chain| shufflenet_v2(chain, [24, 48, 96, 192, 1024]),
        ..SHUFFLENET
    },
    Architecture {
        name: "shufflenet_v2_x1_0",
        weights_enum: "ShuffleNet_V2_X1_0_Weights",
        weights: &[v1("shufflenetv2_x1-5666bf0f80.pth", 69.362, 88.316, imagenet(256, 224))],
        parameters: 2_278_604,
        gflops: 0.145,
        build: |chain| shufflenet_v2(chain, [24, 116, 232, 464, 1024]),
        ..SHUFFLENET
    },
    Architecture {
        name: "shufflenet_v2_x1_5",
        weights_enum: "ShuffleNet_V2_X1_5_Weights",
        weights: &[v1("shufflenetv2_x1_5-3c479a10.pth", 72.996, 91.086, imagenet(232, 224))],
        parameters: 3_503_624,
        gflops: 0.296,
        build: |chain| shufflenet_v2(chain, [24, 176, 352, 704, 1024]),
        ..SHUFFLENET
    },
    Architecture {
        name: "shufflenet_v2_x2_0",
        weights_enum: "ShuffleNet_V2_X2_0_Weights",
        weights: &[v1("shufflenetv2_x2_0-8be3c8ee.pth", 76.23, 93.006, imagenet(232, 224))],
        parameters: 7_393_996,
        gflops: 0.583,
        build: |chain| shufflenet_v2(chain, [24, 244, 488, 976, 2048]),
        ..SHUFFLENET
    },
];

/// What the four builders share.
const SHUFFLENET: Architecture = Architecture {
    name: "",
    family: "ShuffleNet V2",
    weights_enum: "",
    default: "IMAGENET1K_V1",
    weights: &[],
    parameters: 0,
    gflops: 0.,
    min_size: 1,
    partial_from: "stage4",
    build: |_| Ok(()),
};

const fn v1(file: &'static str, top1: f64, top5: f64, preprocessing: Preprocessing) -> WeightEntry {
    WeightEntry { tag: "IMAGENET1K_V1", file, top1, top5, preprocessing }
}

/// Blocks in `stage2`, `stage3` and `stage4`, the same in all four widths.
const REPEATS: [usize; 3] = [4, 8, 4];

/// `channels`: of the stem, the three stages and the last convolution.
fn shufflenet_v2(chain: &mut Chain, channels: [i64; 5]) -> Result<()> {
    chain.stage("conv1", |root| {
        let path = root / "conv1";
        let conv = conv_norm(&(&path / 0), &(&path / 1), 3, channels[0], ConvConfig::new(3).stride(2), true)?;
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
        let path = root / "conv5";
        conv_norm(&(&path / 0), &(&path / 1), channels[3], channels[4], ConvConfig::new(1), true)
    })?;
    chain.head("fc", global_mean(), channels[4])
}

/// torchvision's `InvertedResidual`: channels are split (or, where the block halves the resolution,
/// copied) into two branches, joined and shuffled.
struct InvertedResidual {
    /// Present where the block halves the resolution; otherwise half of the channels pass unchanged.
    branch1: Option<[ConvNorm; 2]>,
    branch2: [ConvNorm; 3],
}

fn basic(path: &Path, channels: i64) -> Result<InvertedResidual> {
    let branch2 = branch2(path, channels / 2, channels / 2, 1)?;
    Ok(InvertedResidual { branch1: None, branch2 })
}

fn downsampling(path: &Path, inputs: i64, outputs: i64) -> Result<InvertedResidual> {
    let path1 = path / "branch1";
    let depthwise = ConvConfig::new(3).stride(2).groups(inputs);
    let branch1 = [
        conv_norm(&(&path1 / 0), &(&path1 / 1), inputs, inputs, depthwise, false)?,
        conv_norm(&(&path1 / 2), &(&path1 / 3), inputs, outputs / 2, ConvConfig::new(1), true)?,
    ];
    Ok(InvertedResidual { branch1: Some(branch1), branch2: branch2(path, inputs, outputs / 2, 2)? })
}

fn branch2(path: &Path, inputs: i64, outputs: i64, stride: i64) -> Result<[ConvNorm; 3]> {
    let path = path / "branch2";
    let depthwise = ConvConfig::new(3).stride(stride).groups(outputs);
    Ok([
        conv_norm(&(&path / 0), &(&path / 1), inputs, outputs, ConvConfig::new(1), true)?,
        conv_norm(&(&path / 3), &(&path / 4), outputs, outputs, depthwise, false)?,
        conv_norm(&(&path / 5), &(&path / 6), outputs, outputs, ConvConfig::new(1), true)?,
    ])
}

impl Layer for InvertedResidual {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let (first, second) = match &self.branch1 {
            Some(branch1) => (run(branch1, xs, mode)?, xs.shallow_clone()),
            None => {
                let half = xs.size()[1] / 2;
                (xs.f_narrow(1, 0, half)?, xs.f_narrow(1, half, half)?)
            }
        };
        let second = run(&self.branch2, &second, mode)?;
        Ok(channel_shuffle(&Tensor::f_cat(&[first, second], 1)?)?)
    }
}

fn run(layers: &[ConvNorm], xs: &Tensor, mode: Mode) -> Result<Tensor> {
    layers.iter().try_fold(xs.shallow_clone(), |xs, layer| layer.forward(&xs, mode))
}

/// Interleaves the channels of the two branches.
fn channel_shuffle(xs: &Tensor) -> Result<Tensor, tch::TchError> {
    let (n, c, h, w) = xs.size4()?;
    xs.f_reshape([n, 2, c / 2, h, w])?.f_transpose(1, 2)?.f_reshape([n, c, h, w])
}
