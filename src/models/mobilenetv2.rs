//! MobileNetV2 (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR
//! 2018; torchvision `models/mobilenetv2.py`).

use super::layers::Activation::Relu6;
use super::prelude::*;

/// `method: partial` starts at the last resolution.
pub(super) const TABLE: &[Architecture] =
    &[Architecture::family("MobileNetV2", "stage6").builder("mobilenet_v2", build)];

/// Expansion, channels, number of blocks and first stride of each stage.
const STAGES: [(i64, i64, usize, i64); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];
const STEM: i64 = 32;
const LAST: i64 = 1280;
const DROPOUT: f64 = 0.2;

fn build(chain: &mut Chain) -> Result<()> {
    chain.stage("stem", |root| {
        let path = root / "features" / 0;
        let config = ConvConfig::new(3).stride(2).init(ConvInit::KaimingFanOut);
        conv_norm([&path / 0, &path / 1], 3, STEM, config, NormConfig::DEFAULT, Relu6)
    })?;
    let (mut inputs, mut index) = (STEM, 1);
    for (number, (expansion, outputs, count, stride)) in STAGES.into_iter().enumerate() {
        for block in 0..count {
            let config = InvertedResidualConfig {
                inputs,
                expanded: inputs * expansion,
                outputs,
                stride: if block == 0 { stride } else { 1 },
                activation: Relu6,
                keys: BlockKeys::NestedButProjection,
                ..InvertedResidualConfig::BASE
            };
            chain.stage(format!("stage{}.{block}", number + 1), |root| {
                inverted_residual(&(root / "features" / index / "conv"), config)
            })?;
            (inputs, index) = (outputs, index + 1);
        }
    }
    chain.stage("last", |root| {
        let path = root / "features" / index;
        let config = ConvConfig::new(1).init(ConvInit::KaimingFanOut);
        conv_norm([&path / 0, &path / 1], inputs, LAST, config, NormConfig::DEFAULT, Relu6)
    })?;
    let neck = Sequential(vec![adaptive_avg_pool2d_flat(1), dropout(DROPOUT)]);
    chain.head_with("classifier.1", Box::new(neck), LAST, LinearInit::weights(Init::Normal(0.01)))
}
