//! ResNet (He et al., "Deep Residual Learning", CVPR 2016), ResNeXt (Xie et al., CVPR 2017) and
//! Wide ResNet (Zagoruyko and Komodakis, BMVC 2016); torchvision `models/resnet.py`. As there, the
//! stride of a bottleneck is in its 3×3 convolution ("ResNet v1.5").

use super::layers::Activation::{Identity, Relu};
use super::prelude::*;

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

/// Fields shared by the builders.
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
struct Shape {
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
        let conv = conv_norm([root / "conv1", root / "bn1"], 3, 64, config, NormConfig::DEFAULT, Relu)?;
        Ok(Sequential(vec![Box::new(conv), max_pool2d(3, 2, 1)]))
    })?;
    let mut inputs = 64;
    for (index, count) in blocks.into_iter().enumerate() {
        let planes = 64 << index;
        for number in 0..count {
            // Each layer but the first halves the resolution, in its first block.
            let stride = if number == 0 && index > 0 { 2 } else { 1 };
            let shape = Shape { block, inputs, planes, stride, groups, width_per_group };
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

fn residual(path: &Path, shape: Shape) -> Result<Residual> {
    let Shape { block, inputs, planes, stride, groups, width_per_group } = shape;
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
    let main = convolutions.into_iter().zip(1..).map(|((inputs, outputs, config), number)| {
        let paths = [path / format!("conv{number}"), path / format!("bn{number}")];
        let activation = if number < last { Relu } else { Identity };
        conv_norm(paths, inputs, outputs, config, NormConfig::DEFAULT, activation)
    });
    let main = main.collect::<Result<_>>()?;
    let shortcut = (stride != 1 || inputs != outputs).then(|| {
        let paths = [path / "downsample" / 0, path / "downsample" / 1];
        conv_norm(paths, inputs, outputs, convolution(1).stride(stride), NormConfig::DEFAULT, Identity)
    });
    Ok(Residual::new(main, shortcut.transpose()?, Relu))
}
