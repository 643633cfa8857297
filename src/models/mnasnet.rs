//! MnasNet (Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for Mobile", CVPR
//! 2019), the variant B1 in four widths; torchvision `models/mnasnet.py`.
//!
//! torchvision loads a state dict for this family only with the version that PyTorch keeps beside
//! it, which safetensors files lack: run `state_dict._metadata = model.state_dict()._metadata`
//! first.

use super::Older;
use super::layers::Activation::Relu;
use super::prelude::*;

pub(super) const TABLE: &[Architecture] = &[
    MNASNET.builder("mnasnet0_5", |chain| mnasnet(chain, 0.5)),
    MNASNET.builder("mnasnet0_75", |chain| mnasnet(chain, 0.75)),
    MNASNET.builder("mnasnet1_0", |chain| mnasnet(chain, 1.0)),
    MNASNET.builder("mnasnet1_3", |chain| mnasnet(chain, 1.3)),
];

/// Fields shared by the builders; `method: partial` starts at the last resolution.
const MNASNET: Architecture =
    Architecture { older: Some(VERSION_1), ..Architecture::family("MNASNet", "stage6") };

/// Before torchvision's version 2 (`MNASNet._version`) the stem had 32 and 16 channels at any
/// width. Its files say so in the `_metadata` of the state dict, and torchvision then rebuilds the
/// stem.
const VERSION_1: Older = Older {
    key: "layers.0.weight",
    shape: &[32, 3, 3, 3],
    advice: "the file is of version 1 of torchvision's MNASNet, whose first layers have 32 and 16 channels at any \
             width; this program builds version 2: take torchvision's present weights (`weights: DEFAULT`), or \
             keep to torchvision for this file",
};

/// Kernel, first stride, expansion and number of blocks of the stages behind the first.
const STAGES: [(i64, i64, i64, usize); 6] =
    [(3, 2, 3, 3), (5, 2, 3, 3), (5, 2, 6, 3), (3, 1, 6, 2), (5, 2, 6, 4), (3, 1, 6, 1)];
/// Channels of the stem and of the stages at width 1.
const CHANNELS: [i64; 8] = [32, 16, 24, 40, 80, 96, 192, 320];
const LAST: i64 = 1280;
/// The paper's momentum for TensorFlow, converted to PyTorch's as in torchvision.
const NORM: NormConfig = NormConfig { momentum: 1. - 0.9997, ..NormConfig::DEFAULT };
const DROPOUT: f64 = 0.2;

fn mnasnet(chain: &mut Chain, width: f64) -> Result<()> {
    let [stem, first, channels @ ..] = CHANNELS.map(|channels| divisible(channels as f64 * width));
    chain.stage("stem", |root| {
        let path = root / "layers";
        let config = ConvConfig::new(3).stride(2).init(ConvInit::KaimingFanOut);
        conv_norm([&path / 0, &path / 1], 3, stem, config, NORM, Relu)
    })?;
    let block = InvertedResidualConfig { norm: NORM, ..InvertedResidualConfig::BASE };
    chain.stage("stage1.0", |root| {
        // This block's layers are numbered among those of the network.
        let keys = BlockKeys::Flat(3);
        let config = InvertedResidualConfig { inputs: stem, expanded: stem, outputs: first, keys, ..block };
        inverted_residual(&(root / "layers"), config)
    })?;
    let mut inputs = first;
    for (index, ((kernel, stride, expansion, count), outputs)) in STAGES.into_iter().zip(channels).enumerate()
    {
        for number in 0..count {
            let config = InvertedResidualConfig {
                inputs,
                expanded: inputs * expansion,
                outputs,
                kernel,
                stride: if number == 0 { stride } else { 1 },
                keys: BlockKeys::Flat(0),
                ..block
            };
            chain.stage(format!("stage{}.{number}", index + 2), |root| {
                inverted_residual(&(root / "layers" / (index + 8) / number / "layers"), config)
            })?;
            inputs = outputs;
        }
    }
    chain.stage("last", |root| {
        let path = root / "layers";
        let config = ConvConfig::new(1).init(ConvInit::KaimingFanOut);
        conv_norm([&path / 14, &path / 15], inputs, LAST, config, NORM, Relu)
    })?;
    let neck = Sequential(vec![global_mean(), dropout(DROPOUT)]);
    // `kaiming_uniform_` over the outputs, with a sigmoid's gain of 1.
    let init = Init::Uniform((3. / chain.classes() as f64).sqrt());
    chain.head_with("classifier.1", Box::new(neck), LAST, LinearInit::weights(init))
}
