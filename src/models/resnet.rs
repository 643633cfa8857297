//! ResNet (He et al., "Deep Residual Learning", CVPR 2016), ResNeXt (Xie et al., CVPR 2017) and Wide
//! ResNet (Zagoruyko and Komodakis, BMVC 2016); torchvision `models/resnet.py`. As there, the stride of
//! a bottleneck is in its 3×3 convolution ("ResNet v1.5").

use tch::Tensor;

use super::Architecture;
use super::chain::Chain;
use super::layers::Activation::{Identity, Relu};
use super::layers::{
    ConvConfig, ConvInit, ConvNorm, Layer, Mode, NormConfig, Sequential, adaptive_avg_pool2d_flat, conv_norm,
    max_pool2d,
};
use super::vars::Path;
use crate::error::{Error, Result};

pub(super) const TABLE: &[Architecture] = &[
    RESNET.builder("resnet18", |chain| resnet(chain, Block::Basic, [2, 2, 2, 2], 1, 64)),
    RESNET.builder("resnet34", |chain| resnet(chain, Block::Basic, [3, 4, 6, 3], 1, 64)),
    RESNET.builder("resnet50", |chain| resnet(chain, Block::Bottleneck, [3, 4, 6, 3], 1, 64)),
    RESNET.builder("resnet101", |chain| resnet(chain, Block::Bottleneck, [3, 4, 23, 3], 1, 64)),
    RESNET.builder("resnet152", |chain| resnet(chain, Block::Bottleneck, [3, 8, 36, 3], 1, 64)),
    RESNET.builder("resnext50_32x4d", |chain| resnet(chain, Block::Bottleneck, [3, 4, 6, 3], 32, 4)),
    RESNET.builder("resnext101_32x8d", |chain| resnet(chain, Block::Bottleneck, [3, 4, 23, 3], 32, 8)),
    RESNET.builder("resnext101_64x4d", |chain| resnet(chain, Block::Bottleneck, [3, 4, 23, 3], 64, 4)),
    RESNET.builder("wide_resnet50_2", |chain| resnet(chain, Block::Bottleneck, [3, 4, 6, 3], 1, 128)),
    RESNET.builder("wide_resnet101_2", |chain| resnet(chain, Block::Bottleneck, [3, 4, 23, 3], 1, 128)),
];

/// What the builders share.
const RESNET: Architecture = Architecture::family("ResNet", "layer4");

/// The two residual blocks of the paper.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    /// Two 3×3 convolutions.
    Basic,
    /// 1×1, 3×3 (grouped in ResNeXt), 1×1.
    Bottleneck,
}

impl Block {
    /// Output channels for each plane of the layer.
    fn expansion(self) -> i64 {
        match self {
            Block::Basic => 1,
            Block::Bottleneck => 4,
        }
    }
}

/// The shape of one residual block.
#[derive(Clone, Copy)]
struct Residual {
    block: Block,
    inputs: i64,
    planes: i64,
    stride: i64,
    groups: i64,
    width_per_group: i64,
}

/// `blocks`: how many in each of the four layers. ResNeXt has more `groups`, Wide ResNet a greater
/// `width_per_group`.
fn resnet(
    chain: &mut Chain,
    block: Block,
    blocks: [usize; 4],
    groups: i64,
    width_per_group: i64,
) -> Result<()> {
    chain.stage("conv1", |root| {
        let config = convolution(7).stride(2);
        let conv = conv_norm([&(root / "conv1"), &(root / "bn1")], 3, 64, config, NormConfig::DEFAULT, Relu)?;
        Ok(Sequential(vec![Box::new(conv), max_pool2d(3, 2, 1)]))
    })?;
    let mut inputs = 64;
    for (index, count) in blocks.into_iter().enumerate() {
        let planes = 64 << index;
        for number in 0..count {
            // Each layer but the first halves the resolution, in its first block.
            let stride = if number == 0 && index > 0 { 2 } else { 1 };
            let shape = Residual { block, inputs, planes, stride, groups, width_per_group };
            let layer = format!("layer{}", index + 1);
            chain.stage(format!("{layer}.{number}"), |root| residual(&(root / layer / number), shape))?;
            inputs = planes * block.expansion();
        }
    }
    chain.head("fc", adaptive_avg_pool2d_flat(1), inputs)
}

const fn convolution(kernel: i64) -> ConvConfig {
    ConvConfig::new(kernel).init(ConvInit::KaimingFanOut)
}

struct ResidualBlock {
    main: Vec<ConvNorm>,
    shortcut: Option<ConvNorm>,
}

fn residual(path: &Path, shape: Residual) -> Result<ResidualBlock> {
    let Residual { block, inputs, planes, stride, groups, width_per_group } = shape;
    let outputs = planes * block.expansion();
    let width = planes * width_per_group / 64 * groups;
    let convolutions = match block {
        Block::Basic => {
            vec![(inputs, planes, convolution(3).stride(stride)), (planes, planes, convolution(3))]
        }
        Block::Bottleneck => vec![
            (inputs, width, convolution(1)),
            (width, width, convolution(3).stride(stride).groups(groups)),
            (width, outputs, convolution(1)),
        ],
    };
    let last = convolutions.len();
    let main = convolutions
        .into_iter()
        .zip(1..)
        .map(|((inputs, outputs, config), number)| {
            let (conv, norm) = (path / format!("conv{number}"), path / format!("bn{number}"));
            let activation = if number < last { Relu } else { Identity };
            conv_norm([&conv, &norm], inputs, outputs, config, NormConfig::DEFAULT, activation)
        })
        .collect::<Result<_>>()?;
    let shortcut = match stride != 1 || inputs != outputs {
        true => {
            let (conv, norm) = (path / "downsample" / 0, path / "downsample" / 1);
            let config = convolution(1).stride(stride);
            Some(conv_norm([&conv, &norm], inputs, outputs, config, NormConfig::DEFAULT, Identity)?)
        }
        false => None,
    };
    Ok(ResidualBlock { main, shortcut })
}

impl Layer for ResidualBlock {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut out = xs.shallow_clone();
        for conv in &self.main {
            out = conv.forward(&out, mode)?;
        }
        let out = match &self.shortcut {
            Some(shortcut) => out.f_add_(&shortcut.forward(xs, mode)?),
            None => out.f_add_(xs),
        };
        out.and_then(|mut out| out.f_relu_()).map_err(Error::torch("add a residual"))
    }
}
