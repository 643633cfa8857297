//! EfficientNet (Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
//! Networks", ICML 2019) and EfficientNetV2 (Tan and Le, ICML 2021); torchvision
//! `models/efficientnet.py`.

use super::layers::Activation::{Sigmoid, Silu};
use super::prelude::*;

pub(super) const TABLE: &[Architecture] = &[
    EFFICIENTNET.builder("efficientnet_b0", |chain| scaled(chain, 1.0, 1.0, 0.2, NormConfig::DEFAULT)),
    EFFICIENTNET.builder("efficientnet_b1", |chain| scaled(chain, 1.0, 1.1, 0.2, NormConfig::DEFAULT)),
    EFFICIENTNET.builder("efficientnet_b2", |chain| scaled(chain, 1.1, 1.2, 0.3, NormConfig::DEFAULT)),
    EFFICIENTNET.builder("efficientnet_b3", |chain| scaled(chain, 1.2, 1.4, 0.3, NormConfig::DEFAULT)),
    EFFICIENTNET.builder("efficientnet_b4", |chain| scaled(chain, 1.4, 1.8, 0.4, NormConfig::DEFAULT)),
    EFFICIENTNET.builder("efficientnet_b5", |chain| scaled(chain, 1.6, 2.2, 0.4, LARGE_NORM)),
    EFFICIENTNET.builder("efficientnet_b6", |chain| scaled(chain, 1.8, 2.6, 0.5, LARGE_NORM)),
    EFFICIENTNET.builder("efficientnet_b7", |chain| scaled(chain, 2.0, 3.1, 0.5, LARGE_NORM)),
    EFFICIENTNET_V2.builder("efficientnet_v2_s", |chain| version2(chain, V2_S, 0.2)),
    EFFICIENTNET_V2.builder("efficientnet_v2_m", |chain| version2(chain, V2_M, 0.3)),
    EFFICIENTNET_V2.builder("efficientnet_v2_l", |chain| version2(chain, V2_L, 0.4)),
];

/// Fields shared by the builders; `method: partial` starts at the last resolution.
const EFFICIENTNET: Architecture = Architecture::family("EfficientNet", "stage6");
/// Fields shared by version 2's builders.
const EFFICIENTNET_V2: Architecture = Architecture::family("EfficientNetV2", "stage6").min_size(33);

/// A row of the papers' tables.
#[derive(Clone, Copy)]
pub(super) struct Stage {
    fused: bool,
    pub expansion: i64,
    pub kernel: i64,
    /// Stride of the first block.
    pub stride: i64,
    pub outputs: i64,
    pub blocks: usize,
}

const fn mbconv(expansion: i64, kernel: i64, stride: i64, outputs: i64, blocks: usize) -> Stage {
    Stage { fused: false, expansion, kernel, stride, outputs, blocks }
}

const fn fused(expansion: i64, stride: i64, outputs: i64, blocks: usize) -> Stage {
    Stage { fused: true, expansion, kernel: 3, stride, outputs, blocks }
}

/// Table 1 of the first paper: B0.
pub(super) const B0: [Stage; 7] = [
    mbconv(1, 3, 1, 16, 1),
    mbconv(6, 3, 2, 24, 2),
    mbconv(6, 5, 2, 40, 2),
    mbconv(6, 3, 2, 80, 3),
    mbconv(6, 5, 1, 112, 3),
    mbconv(6, 5, 2, 192, 4),
    mbconv(6, 3, 1, 320, 1),
];
pub(super) const B0_STEM: i64 = 32;

/// Table 4 of the second paper.
const V2_S: &[Stage] = &[
    fused(1, 1, 24, 2),
    fused(4, 2, 48, 4),
    fused(4, 2, 64, 4),
    mbconv(4, 3, 2, 128, 6),
    mbconv(6, 3, 1, 160, 9),
    mbconv(6, 3, 2, 256, 15),
];
const V2_M: &[Stage] = &[
    fused(1, 1, 24, 3),
    fused(4, 2, 48, 5),
    fused(4, 2, 80, 5),
    mbconv(4, 3, 2, 160, 7),
    mbconv(6, 3, 1, 176, 14),
    mbconv(6, 3, 2, 304, 18),
    mbconv(6, 3, 1, 512, 5),
];
const V2_L: &[Stage] = &[
    fused(1, 1, 32, 4),
    fused(4, 2, 64, 7),
    fused(4, 2, 96, 7),
    mbconv(4, 3, 2, 192, 10),
    mbconv(6, 3, 1, 224, 19),
    mbconv(6, 3, 2, 384, 25),
    mbconv(6, 3, 1, 640, 7),
];
const V2_LAST: i64 = 1280;
const V2_NORM: NormConfig = NormConfig { eps: 1e-3, ..NormConfig::DEFAULT };

/// The normalisation of B5 to B7, whose weights come from TensorFlow.
const LARGE_NORM: NormConfig = NormConfig { eps: 1e-3, momentum: 0.01 };

/// Stochastic depth rises from block to block towards this probability.
pub(super) const GREATEST_DROP: f64 = 0.2;

/// `width` and `depth`: compound scaling of B0.
fn scaled(chain: &mut Chain, width: f64, depth: f64, dropout: f64, norm: NormConfig) -> Result<()> {
    let channels = |channels: i64| divisible(channels as f64 * width);
    let stages = B0.map(|stage| Stage {
        outputs: channels(stage.outputs),
        blocks: (stage.blocks as f64 * depth).ceil() as usize,
        ..stage
    });
    let last = 4 * stages[6].outputs;
    efficientnet(chain, channels(B0_STEM), &stages, last, dropout, norm)
}

fn version2(chain: &mut Chain, stages: &[Stage], dropout: f64) -> Result<()> {
    // The first stage does not change the number of channels.
    efficientnet(chain, stages[0].outputs, stages, V2_LAST, dropout, V2_NORM)
}

/// `stem` and `last`: channels of the first and the last convolution.
fn efficientnet(
    chain: &mut Chain,
    stem: i64,
    stages: &[Stage],
    last: i64,
    dropout_p: f64,
    norm: NormConfig,
) -> Result<()> {
    chain.stage("stem", |root| {
        let path = root / "features" / 0;
        let config = ConvConfig::new(3).stride(2).init(ConvInit::KaimingFanOut);
        conv_norm([&path / 0, &path / 1], 3, stem, config, norm, Silu)
    })?;
    let total: usize = stages.iter().map(|stage| stage.blocks).sum();
    let (mut inputs, mut index) = (stem, 0);
    for (stage, number) in stages.iter().zip(1..) {
        for block in 0..stage.blocks {
            let config = InvertedResidualConfig {
                inputs,
                expanded: inputs * stage.expansion,
                outputs: stage.outputs,
                kernel: stage.kernel,
                stride: if block == 0 { stage.stride } else { 1 },
                fused: stage.fused,
                squeeze: Some((inputs / 4, [Silu, Sigmoid])),
                activation: Silu,
                norm,
                drop: GREATEST_DROP * index as f64 / total as f64,
                ..InvertedResidualConfig::BASE
            };
            chain.stage(format!("stage{number}.{block}"), |root| {
                inverted_residual(&(root / "features" / number / block / "block"), config)
            })?;
            (inputs, index) = (stage.outputs, index + 1);
        }
    }
    chain.stage("last", |root| {
        let path = root / "features" / (stages.len() + 1);
        let config = ConvConfig::new(1).init(ConvInit::KaimingFanOut);
        conv_norm([&path / 0, &path / 1], inputs, last, config, norm, Silu)
    })?;
    let neck = Sequential(vec![adaptive_avg_pool2d_flat(1), dropout(dropout_p)]);
    let init = Init::Uniform((chain.classes() as f64).sqrt().recip());
    chain.head_with("classifier.1", Box::new(neck), last, LinearInit::weights(init))
}
